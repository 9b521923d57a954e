-- title: How Γ, the functional measures and the accuracy rank the methods of a network
-- columns: architecture, width, depth, method, epochs, penalty, also, n, accuracy, deep_alignment, deep_perturbation, deep_nudge, rank_accuracy, rank_alignment, rank_perturbation, rank_nudge, n_against_alignment
-- Means over the n seeds with an accuracy; deep_: the mean over the layers above h_0 in which it is measured, then over
-- seeds. Ranks are among the cells of one architecture, width, depth and data set, frozen controls left out; 1 is the
-- highest accuracy, Γ and ρ, and the lowest Δ, by which the loss falls furthest. n_against_alignment: cells that Γ puts
-- below this one and Δ above it, or the other way. Cells without a Γ above h_0 are left out, as are runs that diverged or
-- were aborted.
with by_sample as (
    select
        cell, sample, any_value(architecture) as architecture, any_value(width) as width, any_value(depth) as depth,
        any_value(dataset) as dataset, avg(f.alignment) filter (isfinite(f.alignment)) as alignment,
        avg(perturbation) filter (isfinite(perturbation)) as perturbation, avg(nudge) filter (isfinite(nudge)) as nudge
    from runs_of($experiment) join functional f using (run_id)
    where state = 'complete' and credit = 'rule' and layer > 0 and frozen_blocks is not true
    group by cell, sample
),
by_cell as (
    select
        cell, any_value(architecture) as architecture, any_value(width) as width, any_value(depth) as depth,
        any_value(dataset) as dataset, avg(alignment) as deep_alignment, avg(perturbation) as deep_perturbation,
        avg(nudge) as deep_nudge
    from by_sample group by cell having count(alignment) > 0
),
told as (
    select b.*, c.method, c.epochs, c.penalty, c.also, c.n, c.accuracy_mean as accuracy
    from by_cell b join cells_of($experiment) c using (cell)
),
turned as (
    select one.cell, count(*) filter (
        (one.deep_alignment - other.deep_alignment) * (one.deep_nudge - other.deep_nudge) > 0
    ) as n_against_alignment
    from told one join told other using (architecture, width, depth, dataset)
    group by one.cell
)
select
    architecture, width, depth, method, epochs, penalty, also, n, accuracy, deep_alignment, deep_perturbation, deep_nudge,
    if(accuracy is null, null, rank() over (network order by accuracy desc nulls last)) as rank_accuracy,
    rank() over (network order by deep_alignment desc) as rank_alignment,
    if(deep_perturbation is null, null, rank() over (network order by deep_perturbation desc nulls last))
        as rank_perturbation,
    if(deep_nudge is null, null, rank() over (network order by deep_nudge nulls last)) as rank_nudge,
    n_against_alignment
from told join turned using (cell)
window network as (partition by architecture, width, depth, dataset)
order by architecture, width, depth, dataset, rank_alignment, method, cell;
