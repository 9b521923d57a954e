-- title: Each method over widths: whether accuracy, growth and verdict stay as they are
-- columns: method, architecture, depth, epochs, penalty, frozen_blocks, also, width, n, n_runs, accuracy_mean, accuracy_sd, change_pp, change_sd, n_pairs, growth_median, grad_norm_median, flags, verdict, n_widths, same_verdict
-- Cells that differ in width alone stand together. change_pp: accuracy less that of the narrowest of them, paired by
-- seed where they share two or more (n_pairs), else of the means. same_verdict: whether the verdict is one at all
-- n_widths.
with placed as (
    select *, case when row_number() over widths > 1 then first(accuracies) over widths end as narrowest,
        count(*) over alike as n_widths,
        min(verdict) over alike = max(verdict) over alike as same_verdict
    from siblings_of($experiment, ['width'])
    window alike as (partition by others), widths as (partition by others order by width, cell)
)
select
    method, architecture, depth, epochs, penalty, frozen_blocks, also, width, n, n_runs, accuracy_mean, accuracy_sd,
    d.mean as change_pp, d.sd as change_sd, d.n_pairs, growth_median, grad_norm_median, flags, verdict,
    n_widths, same_verdict
from (select *, difference(accuracies, narrowest) as d from placed)
order by method, architecture, depth, penalty, frozen_blocks, others, width, cell;
