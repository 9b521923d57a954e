-- title: ‖h_L‖, ‖g_L‖ and accuracy by epoch, over the seeds of each cell: the median and the range
-- columns: method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, augmentation, also, epoch, quantity, n, n_not_finite, median, lowest, highest, g_norm_floor
-- A row a cell, epoch and quantity that was measured there. n: the seeds with a finite value at that epoch, which the
-- median and the range are of; runs of one seed are averaged first. n_not_finite: the runs whose value is NaN or infinite
-- there. A run that was aborted counts as long as it ran. g_norm_floor: the highest of the cell's audits.
with by_sample as (
    select
        cell, sample, epoch, quantity, avg(value) filter (isfinite(value)) as value,
        count(*) filter (not isfinite(value)) as n_not_finite
    from (
        select cell, sample, epoch, unnest([
            {'quantity': 'residual_norm', 'value': deepest_residual_norm},
            {'quantity': 'grad_norm', 'value': deepest_grad_norm}, {'quantity': 'accuracy', 'value': accuracy}
        ], recursive := true)
        from trajectories_of($experiment)
    )
    where value is not null group by cell, sample, epoch, quantity
),
by_cell as (
    select
        cell, epoch, quantity, count(value) as n, cast(sum(n_not_finite) as bigint) as n_not_finite,
        median(value) as median, min(value) as lowest, max(value) as highest
    from by_sample group by cell, epoch, quantity
),
floors as (select cell, max(g_norm_floor) as g_norm_floor from runs_of($experiment) group by cell)
select
    c.method, c.architecture, c.width, c.depth, c.epochs, c.lr, c.penalty, c.frozen_blocks, c.augmentation, c.also,
    epoch, quantity, b.n, b.n_not_finite, median, lowest, highest, g_norm_floor
from by_cell b join cells_of($experiment) c using (cell) join floors using (cell)
order by c.method, c.penalty, c.frozen_blocks, c.augmentation, c.architecture, c.width, cell, quantity, epoch;
