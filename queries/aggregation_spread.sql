-- title: One network's Γ under four aggregations, and whether its sign depends on the choice
-- columns: method, architecture, width, depth, epochs, penalty, frozen_blocks, also, seed, n_layers, n_deep, mean_all, mean_deep, pooled_all, pooled_deep, spread, sign_changes, run_id
-- At the last epoch of each run. mean: over the samples; pooled: all samples as one vector. Each is then a plain mean
-- over layers, all: the n_layers in which Γ is a measurement; deep: the n_deep of these above h_0, NULL where there is
-- none. spread: the largest less the smallest of the four. Runs without any Γ are left out, as are diverged and aborted
-- ones.
select
    r.method, r.architecture, r.width, r.depth, r.epochs, r.penalty, r.frozen_blocks, r.also, r.seed, n_layers, n_deep,
    mean_all, mean_deep, pooled_all, pooled_deep,
    highest - lowest as spread, lowest < 0 and highest > 0 as sign_changes, r.run_id
from runs_of($experiment) r join alignments_of($experiment) using (run_id),
lateral (
    select
        least(mean_all, mean_deep, pooled_all, pooled_deep) as lowest,
        greatest(mean_all, mean_deep, pooled_all, pooled_deep) as highest
)
where n_layers > 0 and aborted_at is null and not is_diverged
order by r.method, r.architecture, r.width, r.depth, r.epochs, r.penalty, r.frozen_blocks, r.seed, r.run_id;
