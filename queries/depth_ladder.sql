-- title: Depth ladder: the accuracy where only the last k blocks are trained, beside k = 0, the frozen control
-- columns: method, architecture, width, depth, dataset, epochs, lr, penalty, augmentation, also, trainable_blocks, n, n_runs, n_diverged, n_aborted, accuracy_mean, accuracy_sd, gain_pp, gain_sd, n_pairs, best_blocks, n_rungs, flags, verdict
-- A row a cell, of cells that differ in k (trainable_blocks) alone. Mean and sd (n − 1) are over n seeds, the runs of a seed
-- averaged first; diverged and aborted runs are counted and in none. gain_pp: accuracy less that of k = 0 in percentage
-- points, paired by seed where they share two or more (n_pairs; gain_sd), else of the means; NULL at k = 0, and without a
-- frozen control. best_blocks: the k of the highest mean, of the n_rungs that were trained.
select
    method, architecture, width, depth, dataset, epochs, lr, penalty, augmentation, also, trainable_blocks,
    n, n_runs, n_diverged, n_aborted, accuracy_mean, accuracy_sd,
    gain.mean as gain_pp, gain.sd as gain_sd, gain.n_pairs as n_pairs, best_blocks, n_rungs, flags, verdict
from ladders_of($experiment)
order by method, architecture, width, depth, dataset, epochs, lr, penalty, augmentation, others, trainable_blocks, cell;
