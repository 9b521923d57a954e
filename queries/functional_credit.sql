-- title: Γ beside what the credit does to the loss, by layer, over the seeds
-- columns: method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, augmentation, also, layer, n, alignment, alignment_sd, perturbation, perturbation_sd, perturbation_float32, perturbation_bp, perturbation_random, nudge, nudge_sd, nudge_bp, nudge_random, n_runs
-- Means over the n seeds of what the audits of the runs measured. alignment: Γ of the rule's credit. perturbation: ρ, the
-- correlation of the credit's word on small random moves of the state with the change of the loss; nudge: Δ, the mean
-- change of the loss when the state moves by 0.01 against the credit, of RMS 1. _bp: of BP's gradient, for which ρ is 1 but
-- for curvature; _random: of a random vector, for which it is 0 but for chance. NULL: missing in every seed, as where the
-- rule has no local credit. Runs that diverged or were aborted are left out.
with by_sample as (
    select
        cell, sample, layer, count(distinct run_id) as runs,
        avg(f.alignment) filter (isfinite(f.alignment)) as alignment,
        avg(perturbation) filter (credit = 'rule' and isfinite(perturbation)) as perturbation,
        avg(perturbation_float32) filter (credit = 'rule' and isfinite(perturbation_float32)) as perturbation_float32,
        avg(perturbation) filter (credit = 'bp' and isfinite(perturbation)) as perturbation_bp,
        avg(perturbation) filter (credit = 'random' and isfinite(perturbation)) as perturbation_random,
        avg(nudge) filter (credit = 'rule' and isfinite(nudge)) as nudge,
        avg(nudge) filter (credit = 'bp' and isfinite(nudge)) as nudge_bp,
        avg(nudge) filter (credit = 'random' and isfinite(nudge)) as nudge_random
    from runs_of($experiment) join functional f using (run_id)
    where state = 'complete'
    group by cell, sample, layer
),
by_layer as (
    select
        cell, layer, count(*) as n, avg(alignment) as alignment, stddev_samp(alignment) as alignment_sd,
        avg(perturbation) as perturbation, stddev_samp(perturbation) as perturbation_sd,
        avg(perturbation_float32) as perturbation_float32, avg(perturbation_bp) as perturbation_bp,
        avg(perturbation_random) as perturbation_random, avg(nudge) as nudge, stddev_samp(nudge) as nudge_sd,
        avg(nudge_bp) as nudge_bp, avg(nudge_random) as nudge_random, cast(sum(runs) as bigint) as n_runs
    from by_sample group by cell, layer
)
select c.method, c.architecture, c.width, c.depth, c.epochs, c.lr, c.penalty, c.frozen_blocks, c.augmentation, c.also,
    b.layer, b.n, alignment, alignment_sd, perturbation, perturbation_sd, perturbation_float32, perturbation_bp,
    perturbation_random, nudge, nudge_sd, nudge_bp, nudge_random, b.n_runs
from by_layer b join cells_of($experiment) c using (cell)
order by c.method, c.architecture, c.width, c.depth, c.epochs, c.penalty, c.frozen_blocks, cell, layer;
