-- title: Block knock-out: accuracy without each block's branch, and without all of them
-- columns: method, architecture, width, depth, epochs, penalty, frozen_blocks, augmentation, also, seed, samples, whole, without_all, without_each, worst_single, worst_block, run_id
-- On the protocol's evaluation samples, so that whole may differ from the headline accuracy by its sampling error.
-- without_each: block and accuracy, in the order of the blocks. worst_single: the lowest accuracy with one branch removed,
-- worst_block: which one, the first of several. No row: not measured.
select
    method, architecture, width, depth, epochs, penalty, frozen_blocks, augmentation, also, seed,
    any_value(k.samples) as samples,
    max(k.accuracy) filter (removed = 'none') as whole,
    max(k.accuracy) filter (removed = 'all') as without_all,
    string_agg(removed || ': ' || round(k.accuracy, 4), ', ' order by try_cast(k.removed as integer))
        filter (removed not in ('none', 'all')) as without_each,
    min(k.accuracy) filter (removed not in ('none', 'all')) as worst_single,
    arg_min(k.removed, (k.accuracy, try_cast(k.removed as integer)))
        filter (removed not in ('none', 'all')) as worst_block,
    run_id
from runs_of($experiment) join knockouts k using (run_id)
group by all
order by method, architecture, width, depth, epochs, penalty, frozen_blocks, augmentation, seed, run_id;
