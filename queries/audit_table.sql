-- title: Every run with its verdict and the four measurements behind it
-- params: experiment
-- columns: method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, augmentation, seed, aborted_at, accuracy, margin_pp, growth, grad_norm, stability, flags, verdict, h_norm_explosion_ratio, g_norm_floor, stability_drift_ceiling, frozen_acc_margin_pp, run_id
select
    r.method, r.architecture, r.width, r.depth, r.epochs, r.lr, r.penalty, r.frozen_blocks, r.augmentation, r.seed, r.aborted_at,
    a.headline_accuracy as accuracy, a.margin_pp, a.max_block_growth as growth, a.deepest_grad_norm as grad_norm, a.stability,
    a.flags, coalesce(a.verdict, 'not audited') as verdict,
    a.h_norm_explosion_ratio, a.g_norm_floor, a.stability_drift_ceiling, a.frozen_acc_margin_pp,
    r.run_id
from runs r
left join audits a using (run_id)
where r.experiment = $experiment and r.status = 'FINISHED'
order by r.method, r.architecture, r.width, r.depth, r.epochs, r.lr, r.penalty, r.frozen_blocks, r.augmentation, r.seed, r.start_time, r.run_id;
