-- title: Each method over depths: whether accuracy, growth and verdict stay as they are
-- columns: method, architecture, width, epochs, penalty, frozen_blocks, also, depth, n, n_runs, accuracy_mean, accuracy_sd, change_pp, change_sd, n_pairs, growth_median, grad_norm_median, flags, verdict, n_depths, same_verdict
-- Cells that differ in depth alone stand together. change_pp: accuracy less that of the shallowest of them, paired by
-- seed where they share two or more (n_pairs), else of the means. same_verdict: whether the verdict is one at all
-- n_depths.
with placed as (
    select *, case when row_number() over depths > 1 then first(accuracies) over depths end as shallowest,
        count(*) over alike as n_depths,
        min(verdict) over alike = max(verdict) over alike as same_verdict
    from siblings_of($experiment, ['depth'])
    window alike as (partition by others), depths as (partition by others order by depth, cell)
)
select
    method, architecture, width, epochs, penalty, frozen_blocks, also, depth, n, n_runs, accuracy_mean, accuracy_sd,
    d.mean as change_pp, d.sd as change_sd, d.n_pairs, growth_median, grad_norm_median, flags, verdict,
    n_depths, same_verdict
from (select *, difference(accuracies, shallowest) as d from placed)
order by method, architecture, width, penalty, frozen_blocks, others, depth, cell;
