-- title: First epoch at which each diagnostic fires, per run, and what stopping there would have saved
-- params: experiment
-- columns: method, architecture, width, depth, penalty, frozen_blocks, augmentation, seed, growth_epoch, grad_floor_epoch, drift_epoch, not_finite_epoch, first_epoch, accuracy_at_first, final_epoch, final_accuracy, epochs_saved, run_id
-- Thresholds are those of the run's audit; a run without one has none and is left out. Epoch 0 is the network before
-- training. (c) is not part of first_epoch: by itself it does not separate healthy runs from degenerate ones.
-- 0.95 is the error norm at chance of the protocol: below it a small gradient may be explained by a small error.
with points as (
    select
        r.run_id, r.method, r.architecture, r.width, r.depth, r.penalty, r.frozen_blocks, r.augmentation, r.seed, r.epochs as planned, m.step,
        max(m.value) filter (m.key = 'diagnostics/max_block_growth') as growth,
        max(m.value) filter (m.key = 'diagnostics/deepest_grad_norm') as grad_norm,
        max(m.value) filter (m.key = 'diagnostics/grad_gain') as gain,
        max(m.value) filter (m.key = 'diagnostics/stability') as stability,
        max(m.value) filter (m.key = 'accuracy/test') as accuracy
    from runs r join metrics m using (run_id)
    where r.experiment = $experiment and r.status = 'FINISHED'
    group by all
),
fired as (
    select
        p.*,
        not isfinite(growth) or not isfinite(grad_norm) as is_not_finite,
        not isnan(growth) and growth > a.h_norm_explosion_ratio as is_exploded,
        not isnan(grad_norm) and grad_norm < a.g_norm_floor
            and not coalesce(not isnan(gain) and gain * 0.95 >= a.g_norm_floor, false) as is_at_floor,
        not isnan(p.stability) and p.stability > a.stability_drift_ceiling as is_drift
    from points p join audits a using (run_id)
),
firsts as (
    select
        run_id, method, architecture, width, depth, penalty, frozen_blocks, augmentation, seed, planned,
        min(step) filter (is_exploded) as growth_epoch,
        min(step) filter (is_at_floor) as grad_floor_epoch,
        min(step) filter (is_drift) as drift_epoch,
        min(step) filter (is_not_finite) as not_finite_epoch,
        min(step) filter (is_exploded or is_at_floor or is_not_finite) as first_epoch,
        max(step) as final_epoch
    from fired group by all
)
select
    f.method, f.architecture, f.width, f.depth, f.penalty, f.frozen_blocks, f.augmentation, f.seed,
    growth_epoch, grad_floor_epoch, drift_epoch, not_finite_epoch, first_epoch, at_first.accuracy as accuracy_at_first, final_epoch, at_end.accuracy as final_accuracy,
    1 - first_epoch / nullif(greatest(coalesce(f.planned, 0), final_epoch), 0) as epochs_saved, f.run_id
from firsts f
left join points at_first on at_first.run_id = f.run_id and at_first.step = f.first_epoch
left join points at_end on at_end.run_id = f.run_id and at_end.step = f.final_epoch
order by f.method, f.architecture, f.width, f.depth, f.penalty, f.frozen_blocks, f.augmentation, f.seed, f.run_id;
