-- title: Depth ladder, seed by seed, beside the mean of its k
-- columns: method, architecture, width, depth, dataset, epochs, lr, penalty, augmentation, also, trainable_blocks, seed, state, accuracy, n, accuracy_mean, accuracy_sd, accuracy_low, accuracy_high, gain_pp, n_pairs, best_blocks, run_id
-- A row a seed, of the cells of depth_ladder. A seed's runs are averaged; run_id is the first of them. Mean, sd (n − 1) and
-- Student's t interval at 95 % are over the cell's n complete seeds with a finite accuracy. A diverged or aborted run is a
-- row of its own state and in no mean. gain_pp and best_blocks: as in depth_ladder.
select
    c.method, c.architecture, c.width, c.depth, c.dataset, c.epochs, c.lr, c.penalty, c.augmentation, c.also,
    c.trainable_blocks, s.seed, s.state, s.accuracy, c.n, c.accuracy_mean, c.accuracy_sd,
    i.low as accuracy_low, i.high as accuracy_high, c.gain.mean as gain_pp, c.gain.n_pairs as n_pairs, c.best_blocks,
    s.run_id
from seeds_of($experiment) s join ladders_of($experiment) c using (cell),
lateral (select interval_of(c.accuracy_mean, c.accuracy_sd, c.n) as i)
where s.accuracy is not null
order by
    c.method, c.architecture, c.width, c.depth, c.dataset, c.epochs, c.lr, c.penalty, c.augmentation, c.others,
    c.trainable_blocks, cell, s.state <> 'complete', s.state, s.seed, s.run_id;
