-- title: ‖h_L‖, ‖g_L‖ and accuracy by epoch, per run
-- params: experiment
-- columns: method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, augmentation, seed, epoch, deepest_residual_norm, deepest_grad_norm, accuracy, g_norm_floor, run_id
with deepest as (
    select run_id, step, arg_max(residual_norm, layer) as residual_norm, arg_max(grad_norm, layer) as grad_norm
    from layers group by all
),
accuracy as (
    select run_id, step, max(value) as accuracy from metrics where key = 'accuracy/test' group by all
)
select
    r.method, r.architecture, r.width, r.depth, r.epochs, r.lr, r.penalty, r.frozen_blocks, r.augmentation, r.seed, step as epoch,
    d.residual_norm as deepest_residual_norm, d.grad_norm as deepest_grad_norm, accuracy, a.g_norm_floor, r.run_id
from runs r
join deepest d using (run_id)
full join accuracy using (run_id, step)
left join audits a using (run_id)
where r.experiment = $experiment and r.status = 'FINISHED'
order by r.method, r.penalty, r.frozen_blocks, r.augmentation, r.seed, run_id, step;
