-- title: ‖h_L‖, ‖g_L‖ and accuracy by epoch, per run
-- params: experiment
-- columns: method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, augmentation, seed, epoch, deepest_residual_norm, deepest_grad_norm, accuracy, g_norm_floor, run_id
with deepest as (
    select run_id, max(layer) as layer from layers where residual_norm is not null group by run_id
)
select
    r.method, r.architecture, r.width, r.depth, r.epochs, r.lr, r.penalty, r.frozen_blocks, r.augmentation,
    r.seed, step as epoch, l.residual_norm as deepest_residual_norm, l.grad_norm as deepest_grad_norm, p.accuracy,
    r.g_norm_floor, r.run_id
from runs_of($experiment) r
join deepest using (run_id)
join layers l using (run_id, layer)
left join accuracies_of($experiment) p using (run_id, step)
order by r.method, r.penalty, r.frozen_blocks, r.augmentation, r.seed, run_id, step;
