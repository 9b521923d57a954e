-- title: Cross-batch stability (c) as a sub-mode: drift or noise, among degenerate runs and among the others
-- columns: method, architecture, width, depth, epochs, penalty, frozen_blocks, also, regime, n, n_drift, n_noise, stability_mean, stability_sd, submode, by_seed
-- drift: the batches' gradients share a direction, above the audit's ceiling; noise: they do not. (c) does not tell
-- healthy from degenerate, so a cell has a row for each regime that its runs are in: degenerate where (a) or (b) fires,
-- healthy where neither does. n counts seeds, repeated runs of one averaged; submode is MIXED where they disagree. Runs
-- that diverged or were aborted are left out, and runs without an audit.
with by_sample as (
    select
        cell, fires_a or fires_b as is_degenerate, sample, any_value(seed) as seed,
        avg(stability) as stability, fires('c', avg(stability), any_value(stability_drift_ceiling)) as is_drift
    from runs_of($experiment)
    where aborted_at is null and not is_diverged and isfinite(stability) and (fires_a or fires_b) is not null
    group by cell, is_degenerate, sample
),
by_regime as (
    select
        cell, if(is_degenerate, 'degenerate', 'healthy') as regime,
        count(*) as n, count(*) filter (is_drift) as n_drift, count(*) filter (not is_drift) as n_noise,
        avg(stability) as stability_mean, stddev_samp(stability) as stability_sd,
        string_agg(format('{}: {:.2f}', sample, stability), ', ' order by seed, sample) as by_seed
    from by_sample group by cell, is_degenerate
)
select
    c.method, c.architecture, c.width, c.depth, c.epochs, c.penalty, c.frozen_blocks, c.also, regime,
    r.n, n_drift, n_noise, r.stability_mean, stability_sd,
    case when n_noise = 0 then 'drift' when n_drift = 0 then 'noise' else 'MIXED' end as submode, by_seed
from by_regime r join cells_of($experiment) c using (cell)
order by c.method, c.architecture, c.width, c.depth, c.epochs, c.penalty, c.frozen_blocks, cell, regime;
