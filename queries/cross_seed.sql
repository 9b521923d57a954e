-- title: Each cell over its seeds: mean and sample standard deviation, n beside them, and whether the seeds agree
-- params: experiment
-- columns: method, architecture, width, depth, penalty, frozen_blocks, n, n_diverged, n_unaudited, accuracy_mean, accuracy_sd, margin_pp_mean, margin_pp_sd, growth_median, grad_norm_median, stability_mean, verdict, seeds
-- Runs that diverged stay in n and in n_diverged; the means and spreads are over the finite values alone.
with audited as (
    select
        r.*, a.verdict as run_verdict, a.margin_pp, a.max_block_growth, a.deepest_grad_norm, a.stability,
        a.headline_accuracy, a.fires_n
    from runs r left join audits a using (run_id)
    where r.experiment = $experiment and r.status = 'FINISHED'
),
counted as (
    select cell, coalesce(run_verdict, 'not audited') as run_verdict, count(*) as runs
    from audited group by all
),
verdicts as (
    select
        cell,
        case
            when count(*) = 1 then any_value(run_verdict)
            else 'MIXED: ' || string_agg(runs || ' × ' || run_verdict, ', ' order by runs desc, run_verdict)
        end as verdict
    from counted group by cell
)
select
    method, architecture, width, depth, penalty, frozen_blocks,
    count(*) as n,
    count(*) filter (fires_n) as n_diverged,
    count(*) filter (run_verdict is null) as n_unaudited,
    avg(headline_accuracy) filter (isfinite(headline_accuracy)) as accuracy_mean,
    stddev_samp(headline_accuracy) filter (isfinite(headline_accuracy)) as accuracy_sd,
    avg(margin_pp) filter (isfinite(margin_pp)) as margin_pp_mean,
    stddev_samp(margin_pp) filter (isfinite(margin_pp)) as margin_pp_sd,
    median(max_block_growth) filter (isfinite(max_block_growth)) as growth_median,
    median(deepest_grad_norm) filter (isfinite(deepest_grad_norm)) as grad_norm_median,
    avg(stability) filter (isfinite(stability)) as stability_mean,
    any_value(verdicts.verdict) as verdict,
    string_agg(seed, ' ' order by seed) as seeds
from audited join verdicts using (cell)
group by method, architecture, width, depth, penalty, frozen_blocks, cell
order by method, architecture, width, depth, penalty, frozen_blocks, cell;
