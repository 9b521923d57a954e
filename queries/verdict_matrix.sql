-- title: The verdict of every run, by method, architecture and seed
-- columns: method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, augmentation, also, seed, n, place, accuracy, flags, verdict, aborted_at, run_id
-- n: the finished runs of one cell and seed; place: which of these a row is, from 1. Runs without a seed stand together.
select
    method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, augmentation, also, seed,
    count(*) over alike as n, row_number() over (alike order by start_time, run_id) as place,
    accuracy, coalesce(flags, '') as flags, verdict, aborted_at, run_id
from runs_of($experiment)
window alike as (partition by cell, seed)
order by method, penalty, frozen_blocks, augmentation, architecture, width, depth, epochs, lr, cell, seed, place;
