-- title: Each cell over its seeds: mean and sample standard deviation, n beside them, and whether the seeds agree
-- columns: method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, augmentation, also, n, n_runs, n_diverged, n_aborted, n_unaudited, accuracy_mean, accuracy_sd, margin_pp_mean, margin_pp_sd, growth_median, grad_norm_median, stability_mean, flags, verdict, seeds
-- n counts the seeds behind the means: audited, with a finite accuracy. Runs of one seed are averaged first, so that a
-- repetition is no second sample. Runs that diverged or were aborted are counted in n_diverged and n_aborted, and no
-- mean holds them; the verdict is of the runs that ended as planned, the diverged among them. flags: how many of those
-- each diagnostic flags.
select
    method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, augmentation, also,
    n, n_runs, n_diverged, n_aborted, n_unaudited, accuracy_mean, accuracy_sd, margin_pp_mean, margin_pp_sd,
    growth_median, grad_norm_median, stability_mean, flags, verdict, seeds
from cells_of($experiment)
order by method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, augmentation, cell;
