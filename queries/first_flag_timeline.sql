-- title: Each run from its first epoch to its planned end, where its flags first fire, and what is saved from there on
-- columns: method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, augmentation, also, seed, a_epoch, b_epoch, c_epoch, n_epoch, first_epoch, final_epoch, planned, share_saved, aborted_at, n, n_flagged, fired, run_id
-- As first_flag, with what its timeline draws. planned: the epochs that the run was given, or the last that it logged where
-- that is later. n, n_flagged: the runs of its cell, and those with a first_epoch. fired: over the cell's runs the epochs
-- at which each flag first fires, the earliest flag first: "b 3–4, a 8–11", empty where none does.
with found as (select * from first_flags_of($experiment)),
firings as (
    select cell, flag, min(first) as earliest, max(first) as latest
    from (
        select cell, unnest([
            {'flag': 'a', 'first': a_epoch}, {'flag': 'b', 'first': b_epoch}, {'flag': 'c', 'first': c_epoch},
            {'flag': 'n', 'first': n_epoch}
        ], recursive := true)
        from found
    )
    where first is not null group by cell, flag
),
by_cell as (
    select
        cell,
        string_agg(
            flag || ' ' || earliest || if(latest > earliest, '–' || latest, ''), ', ' order by earliest, latest, flag
        ) as fired
    from firings group by cell
)
select
    method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, augmentation, also, seed,
    a_epoch, b_epoch, c_epoch, n_epoch, first_epoch, final_epoch, planned,
    share_saved(first_epoch, planned) as share_saved, aborted_at,
    count(*) over (partition by cell) as n, count(first_epoch) over (partition by cell) as n_flagged,
    coalesce(fired, '') as fired, run_id
from found left join by_cell using (cell)
order by method, architecture, width, depth, penalty, frozen_blocks, augmentation, cell, first_epoch, seed, run_id;
