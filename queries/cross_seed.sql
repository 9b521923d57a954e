-- title: Each cell over its seeds: mean and sample standard deviation, n beside them, and whether the seeds agree
-- params: experiment
-- columns: method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, augmentation, n, n_runs, n_diverged, n_aborted, n_unaudited, accuracy_mean, accuracy_sd, margin_pp_mean, margin_pp_sd, growth_median, grad_norm_median, stability_mean, flags, verdict, seeds
-- n counts the seeds behind the means: audited, with a finite accuracy. Runs of one seed are averaged first, so that a
-- repetition is no second sample. Runs that diverged or were aborted are counted in n_diverged and n_aborted, and no mean
-- holds them; the verdict is of the runs that ended as planned. flags: how many of the
-- audited runs each diagnostic flags.
with runs_of as (
    select r.*, a.verdict as run_verdict, a.flags as run_flags, a.fires_n, a.margin_pp, a.max_block_growth,
        a.deepest_grad_norm, a.stability,
        if(isfinite(a.headline_accuracy), a.headline_accuracy, null) as accuracy
    from runs r left join audits a using (run_id)
    where r.experiment = $experiment and r.status = 'FINISHED'
),
whole as (select * from runs_of where aborted_at is null),
by_seed as (
    select
        cell, seed, avg(accuracy) as accuracy,
        avg(margin_pp) filter (isfinite(margin_pp)) as margin_pp,
        avg(stability) filter (isfinite(stability)) as stability,
        median(max_block_growth) filter (isfinite(max_block_growth)) as growth,
        median(deepest_grad_norm) filter (isfinite(deepest_grad_norm)) as grad_norm
    from whole group by all
),
over_seeds as (
    select
        cell, count(accuracy) as n,
        avg(accuracy) as accuracy_mean, stddev_samp(accuracy) as accuracy_sd,
        avg(margin_pp) as margin_pp_mean, stddev_samp(margin_pp) as margin_pp_sd,
        median(growth) as growth_median, median(grad_norm) as grad_norm_median, avg(stability) as stability_mean,
        string_agg(seed, ' ' order by seed) as seeds
    from by_seed group by cell
),
verdict_counts as (
    select cell, coalesce(run_verdict, 'not audited') as run_verdict, count(*) as runs from whole group by all
),
verdicts as (
    select
        cell,
        case
            when count(*) = 1 then any_value(run_verdict)
            else 'MIXED: ' || string_agg(runs || ' × ' || run_verdict, ', ' order by runs desc, run_verdict)
        end as verdict
    from verdict_counts group by cell
),
flag_counts as (
    select cell, flag, count(*) as runs
    from (select cell, unnest(string_split(run_flags, ',')) as flag from whole) where flag <> '' group by all
),
flags as (
    select cell, string_agg(flag || '×' || runs, ' ' order by flag) as flags from flag_counts group by cell
)
select
    any_value(method) as method, any_value(architecture) as architecture, any_value(width) as width,
    any_value(depth) as depth, any_value(epochs) as epochs, any_value(lr) as lr, any_value(penalty) as penalty,
    any_value(frozen_blocks) as frozen_blocks, any_value(augmentation) as augmentation,
    coalesce(any_value(n), 0) as n, count(*) as n_runs,
    count(*) filter (fires_n) as n_diverged, count(*) filter (aborted_at is not null) as n_aborted,
    count(*) filter (run_verdict is null) as n_unaudited,
    any_value(accuracy_mean) as accuracy_mean, any_value(accuracy_sd) as accuracy_sd,
    any_value(margin_pp_mean) as margin_pp_mean, any_value(margin_pp_sd) as margin_pp_sd,
    any_value(growth_median) as growth_median, any_value(grad_norm_median) as grad_norm_median,
    any_value(stability_mean) as stability_mean,
    coalesce(any_value(flags), '') as flags, any_value(verdicts.verdict) as verdict, any_value(seeds) as seeds
from runs_of left join over_seeds using (cell) left join verdicts using (cell) left join flags using (cell)
group by cell
order by method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, augmentation, cell;
