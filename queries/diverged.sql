-- title: Runs that diverged: the epoch and the metric that were first not finite
-- columns: method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, seed, status, aborted_at, first_epoch, first_metric, n_metrics, n_points, last_epoch, accuracy_before, verdict, run_id
-- Runs of any status with a metric that is NaN or infinite, or an audit that found one. n_metrics, n_points: how many
-- metrics and points. first_metric: the first by name of those at first_epoch; NULL where the audit alone found one.
-- accuracy_before: the last finite test accuracy before first_epoch.
with lost as (
    select
        run_id, min(step) as first_epoch, arg_min(key, (step, key)) as first_metric,
        count(distinct key) as n_metrics, count(*) as n_points
    from metrics where not isfinite(value) group by run_id
),
found as (
    select
        r.*, shown_verdict(
            a.verdict, a.h_norm_explosion_ratio, a.g_norm_floor, a.stability_drift_ceiling, a.frozen_acc_margin_pp,
            further := a.further
        ) as verdict,
        l.* exclude (run_id)
    from runs r left join audits a using (run_id) left join lost l using (run_id)
    where is_asked(r.experiment, $experiment)
        and (l.run_id is not null or a.fires_n or not isfinite(a.headline_accuracy))
),
accuracies as (
    select
        run_id, max(step) as last_epoch,
        arg_max(value, step) filter (isfinite(value) and step < first_epoch) as accuracy_before
    from metrics join found using (run_id) where key = 'accuracy/test' group by run_id
)
select
    method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, seed, status, aborted_at,
    first_epoch, first_metric, coalesce(n_metrics, 0) as n_metrics, coalesce(n_points, 0) as n_points,
    last_epoch, accuracy_before, verdict, run_id
from found left join accuracies using (run_id)
order by method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, seed, run_id;
