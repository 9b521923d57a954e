-- title: Accuracy, growth and ‖g_L‖ per seed over the widths of networks that differ in width alone
-- columns: method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, augmentation, also, seed, state, accuracy, growth, grad_norm, n, accuracy_mean, accuracy_sd, accuracy_low, accuracy_high, growth_median, grad_norm_median, n_widths, h_norm_explosion_ratio, g_norm_floor, run_id
-- A row a seed, of what was trained at two widths or more (n_widths). Of a seed's runs the accuracy is averaged, growth
-- and ‖g_L‖ are medians; run_id is the first of them. Mean, sd (n − 1) and Student's t interval at 95 % are over the
-- cell's n complete seeds with a finite accuracy, the medians over its complete seeds. A diverged or aborted run is a row
-- of its own state and in neither.
with cells as (
    select * from (
        select *, count(distinct width) over (partition by others) as n_widths
        from siblings_of($experiment, ['width'])
    )
    where n_widths > 1 and width is not null
)
select
    c.method, c.architecture, c.width, c.depth, c.epochs, c.lr, c.penalty, c.frozen_blocks, c.augmentation, c.also,
    s.seed, s.state,
    s.accuracy, s.growth, s.grad_norm, c.n, c.accuracy_mean, c.accuracy_sd, i.low as accuracy_low,
    i.high as accuracy_high, c.growth_median, c.grad_norm_median, c.n_widths,
    s.h_norm_explosion_ratio, s.g_norm_floor, s.run_id
from seeds_of($experiment) s join cells c using (cell),
lateral (select interval_of(c.accuracy_mean, c.accuracy_sd, c.n) as i)
where coalesce(s.accuracy, s.growth, s.grad_norm) is not null
order by
    c.method, c.architecture, c.depth, c.epochs, c.penalty, c.frozen_blocks, c.others, c.width, cell,
    s.state <> 'complete', s.state, s.seed, s.run_id;
