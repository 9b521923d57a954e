-- title: Every run with its verdict and the four measurements behind it
-- columns: method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, augmentation, also, seed, aborted_at, accuracy, margin_pp, growth, grad_norm, stability, flags, verdict, h_norm_explosion_ratio, g_norm_floor, stability_drift_ceiling, frozen_acc_margin_pp, run_id
select
    method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, augmentation, also, seed, aborted_at,
    accuracy, margin_pp, growth, grad_norm, stability, flags, verdict,
    h_norm_explosion_ratio, g_norm_floor, stability_drift_ceiling, frozen_acc_margin_pp, run_id
from runs_of($experiment)
order by method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, augmentation, seed, start_time, run_id;
