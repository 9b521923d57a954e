-- title: ‖h_L‖, ‖g_L‖ and accuracy by epoch, per run
-- columns: method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, augmentation, also, seed, epoch, deepest_residual_norm, deepest_grad_norm, accuracy, g_norm_floor, run_id
select
    method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, augmentation, also, seed,
    epoch, deepest_residual_norm, deepest_grad_norm, accuracy, g_norm_floor, run_id
from trajectories_of($experiment)
order by method, penalty, frozen_blocks, augmentation, seed, run_id, epoch;
