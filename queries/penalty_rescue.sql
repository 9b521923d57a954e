-- title: The residual penalty per seed: ‖h_L‖, ‖g_2‖ and the accuracy beside the frozen control
-- columns: method, architecture, width, depth, epochs, lr, penalty, augmentation, also, seed, state, residual_norm, grad_norm_2, accuracy, n, accuracy_mean, accuracy_sd, accuracy_low, accuracy_high, n_norm, residual_norm_median, grad_norm_2_median, control, passes_from, g_norm_floor, run_id
-- A row a seed, of what was trained with a penalty and of the same without one. ‖h_L‖ and ‖g_2‖ are of the last epoch,
-- at the deepest hidden state and at h_2: of a seed's runs the median, of their accuracies the mean; run_id is the first
-- of them. Mean, sd (n − 1) and Student's t interval at 95 % are over the cell's n complete seeds with a finite
-- accuracy, the medians over the n_norm of
-- them with a finite norm. A diverged or aborted run is a row of its own state and in neither.
-- control: the accuracy of the seed's frozen controls; passes_from: that at which (d) no longer fires. Frozen controls
-- are left out, and a penalty that is no number.
with cells as (
    select * from siblings_of($experiment, ['penalty'])
    where not coalesce(frozen_blocks, false) and strength is not null
        and others in (select others from siblings_of($experiment, ['penalty']) where strength > 0)
),
norms as (
    select cell, sample, state, finite_median(residual_norm) as residual_norm, finite_median(grad_norm_2) as grad_norm_2
    from (
        select
            cell, sample, state, arg_max(residual_norm, layer) as residual_norm,
            any_value(grad_norm) filter (layer = 2) as grad_norm_2
        from last_layers_of($experiment) group by run_id, cell, sample, state
    )
    group by cell, sample, state
),
seeds as (select * from seeds_of($experiment) left join norms using (cell, sample, state)),
measured as (
    select
        cell, count(accuracy) filter (isfinite(accuracy)) as n, avg(accuracy) filter (isfinite(accuracy)) as mean,
        stddev_samp(accuracy) filter (isfinite(accuracy)) as sd,
        count(*) filter (isfinite(residual_norm)) as n_norm,
        median(residual_norm) filter (isfinite(residual_norm)) as residual_norm_median,
        median(grad_norm_2) filter (isfinite(grad_norm_2)) as grad_norm_2_median
    from seeds where state = 'complete' group by cell
)
select
    c.method, c.architecture, c.width, c.depth, c.epochs, c.lr, c.strength as penalty, c.augmentation, c.also,
    s.seed, s.state,
    s.residual_norm, s.grad_norm_2, s.accuracy, coalesce(m.n, 0) as n, m.mean as accuracy_mean, m.sd as accuracy_sd,
    i.low as accuracy_low, i.high as accuracy_high, coalesce(m.n_norm, 0) as n_norm,
    m.residual_norm_median, m.grad_norm_2_median,
    s.control, s.control + s.frozen_acc_margin_pp / 100 as passes_from, s.g_norm_floor, s.run_id
from seeds s join cells c using (cell) left join measured m using (cell),
lateral (select interval_of(m.mean, m.sd, m.n) as i)
where coalesce(s.accuracy, s.residual_norm, s.grad_norm_2) is not null
order by
    c.method, c.architecture, c.width, c.depth, c.epochs, c.others, penalty, cell, s.state <> 'complete', s.state,
    s.seed, s.run_id;
