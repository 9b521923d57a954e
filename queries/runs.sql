-- title: Every run of any status: when, how long, how far, and with what verdict
-- columns: experiment, method, architecture, width, depth, dataset, epochs, penalty, frozen_blocks, seed, status, aborted_at, start_time, minutes, last_epoch, accuracy, verdict, run_id
-- Times are UTC. accuracy: on the test set at last_epoch, the last epoch that logged one; NaN is carried.
with accuracies as (
    select run_id, max(step) as last_epoch, arg_max(value, step) as accuracy
    from metrics where key = 'accuracy/test' group by run_id
)
select
    experiment, method, architecture, width, depth, dataset, epochs, penalty, frozen_blocks, seed, status, aborted_at,
    date_trunc('second', start_time) as start_time, epoch(end_time - start_time) / 60 as minutes, last_epoch, accuracy,
    shown_verdict(
        a.verdict, a.h_norm_explosion_ratio, a.g_norm_floor, a.stability_drift_ceiling, a.frozen_acc_margin_pp,
        further := a.further
    ) as verdict, run_id
from runs left join accuracies using (run_id) left join audits a using (run_id)
where is_asked(experiment, $experiment)
order by experiment, start_time, run_id;
