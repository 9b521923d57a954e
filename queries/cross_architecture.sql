-- title: Each method over architectures: which diagnostics flag it where
-- columns: method, penalty, frozen_blocks, also, architecture, depth, width, dataset, epochs, n, n_runs, n_diverged, accuracy_mean, accuracy_sd, margin_pp_mean, n_margin, growth_median, grad_norm_median, flags, verdict, n_architectures, same_verdict
-- Architectures differ in width, depth and data set too, so that no accuracy is subtracted from another. n counts the
-- seeds behind the means, n_margin those behind the margin. same_verdict: whether the verdict of the method is one in
-- all its n_architectures. (b) needs a terminal LayerNorm to fire: without one a network is judged by (a) and (d).
select
    method, penalty, frozen_blocks, also, architecture, depth, width, dataset, epochs, n, n_runs, n_diverged,
    accuracy_mean, accuracy_sd, margin_pp_mean, n_margin, growth_median, grad_norm_median, flags, verdict,
    count(distinct architecture) over alike as n_architectures,
    min(verdict) over alike = max(verdict) over alike as same_verdict
from siblings_of($experiment, ['architecture', 'depth', 'width', 'dataset', 'epochs'])
window alike as (partition by others)
order by method, penalty, frozen_blocks, others, architecture, depth, width, dataset, epochs, cell;
