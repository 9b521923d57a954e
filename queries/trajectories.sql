-- title: ‖h_L‖, ‖g_L‖ and accuracy by epoch, per run
-- params: experiment
-- columns: method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, augmentation, also, seed, epoch, deepest_residual_norm, deepest_grad_norm, accuracy, g_norm_floor, run_id
with asked as (
    select *, row_number() over (order by method, penalty, frozen_blocks, augmentation, seed, run_id) as place
    from runs_of($experiment)
),
deepest as (
    select run_id, max(layer) as layer from layers where residual_norm is not null group by run_id
),
accuracies as (
    select run_id, step, max(value) as accuracy from metrics where key = 'accuracy/test' group by run_id, step
)
select
    r.method, r.architecture, r.width, r.depth, r.epochs, r.lr, r.penalty, r.frozen_blocks, r.augmentation, r.also,
    r.seed, step as epoch, l.residual_norm as deepest_residual_norm, l.grad_norm as deepest_grad_norm, p.accuracy,
    r.g_norm_floor, r.run_id
from asked r
join deepest using (run_id)
join layers l using (run_id, layer)
left join accuracies p using (run_id, step)
order by place, step;
