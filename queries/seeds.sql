-- title: Every seed's accuracy and margin, beside its cell's mean and 95 % interval
-- columns: method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, augmentation, also, measure, seed, state, verdict, value, n, mean, sd, low, high, run_id
-- A row a cell, measure and seed. measure: accuracy in [0, 1], or margin_pp over the frozen control where there is one.
-- value: of the seed, its runs averaged; run_id is the first of them, verdict the gravest. mean and sd (n − 1): over the cell's n seeds that
-- are complete and finite. low and high: Student's t at 95 %, NULL for n = 1. A diverged or aborted run is a row of its
-- own state, with the value that it has, and is in no mean.
with verdicts as (
    select
        cell, sample, state,
        arg_max(verdict, list_position(
            ['trustworthy', 'not audited', 'inconclusive', 'needs walk-back'], split_part(split_part(verdict, ':', 1), ' (', 1)
        )) as verdict
    from runs_of($experiment) group by cell, sample, state
),
seeds as (
    select *, unnest([
        {'measure': 'accuracy', 'value': accuracy}, {'measure': 'margin_pp', 'value': margin_pp}
    ], recursive := true)
    from seeds_of($experiment) join verdicts using (cell, sample, state)
),
means as (
    select cell, measure, count(*) as n, avg(value) as mean, stddev_samp(value) as sd
    from seeds where state = 'complete' and isfinite(value) group by cell, measure
)
select
    c.method, c.architecture, c.width, c.depth, c.epochs, c.lr, c.penalty, c.frozen_blocks, c.augmentation, c.also,
    measure, s.seed, s.state, s.verdict, s.value, coalesce(m.n, 0) as n, m.mean, m.sd, i.low, i.high, s.run_id
from seeds s join cells_of($experiment) c using (cell) left join means m using (cell, measure),
lateral (select interval_of(m.mean, m.sd, m.n) as i)
where s.value is not null
order by
    c.method, c.architecture, c.width, c.depth, c.epochs, c.penalty, c.frozen_blocks, cell, measure,
    s.state <> 'complete', s.state, s.seed, s.run_id;
