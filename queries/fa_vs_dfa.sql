-- title: Feedback layer by layer (fa) or block by block (fa_block) against direct (dfa)
-- columns: fa, architecture, width, depth, epochs, penalty, frozen_blocks, augmentation, also, fa_n, fa_accuracy, fa_sd, dfa_n, dfa_accuracy, dfa_sd, difference_pp, difference_sd, n_pairs, fa_growth, dfa_growth, fa_grad_norm, dfa_grad_norm, fa_deep_alignment, fa_n_aligned, dfa_deep_alignment, dfa_n_aligned, fa_verdict, dfa_verdict, fa_recipe, dfa_recipe
-- difference_pp: fa less dfa, paired by seed where they share two or more (n_pairs), else of the means. Deep alignment:
-- Γ above h_0 at the last epoch, a mean over layers, then over the n_aligned runs in which it is a measurement; NULL
-- where the gradient is below the floor in all. The cells differ in nothing else; but layer-wise fa has no
-- credit to treat, and stands beside dfa however its credit and gradients are treated (recipe). A cell without its
-- counterpart is left out.
with aligned as (
    select cell, avg(mean_deep) as deep_alignment, count(mean_deep) as n_aligned
    from runs_of($experiment) join alignments_of($experiment) using (run_id)
    where aborted_at is null and not is_diverged
    group by cell
),
cells as (
    select
        s.*, list_filter(recipe, lambda said: not starts_with(said, 'rule_definition=')) as treatment, deep_alignment,
        coalesce(n_aligned, 0) as n_aligned
    from siblings_of($experiment, ['method']) s left join aligned using (cell)
)
select
    fa.method as fa, fa.architecture, fa.width, fa.depth, fa.epochs, fa.penalty, fa.frozen_blocks, fa.augmentation, fa.also,
    fa.n as fa_n, fa.accuracy_mean as fa_accuracy, fa.accuracy_sd as fa_sd,
    dfa.n as dfa_n, dfa.accuracy_mean as dfa_accuracy, dfa.accuracy_sd as dfa_sd,
    difference(fa.accuracies, dfa.accuracies).mean as difference_pp,
    difference(fa.accuracies, dfa.accuracies).sd as difference_sd,
    difference(fa.accuracies, dfa.accuracies).n_pairs as n_pairs,
    fa.growth_median as fa_growth, dfa.growth_median as dfa_growth,
    fa.grad_norm_median as fa_grad_norm, dfa.grad_norm_median as dfa_grad_norm,
    fa.deep_alignment as fa_deep_alignment, fa.n_aligned as fa_n_aligned,
    dfa.deep_alignment as dfa_deep_alignment, dfa.n_aligned as dfa_n_aligned,
    fa.verdict as fa_verdict, dfa.verdict as dfa_verdict,
    array_to_string(fa.recipe, ' ') as fa_recipe, array_to_string(dfa.recipe, ' ') as dfa_recipe
from cells fa join cells dfa on fa.others = dfa.others and dfa.method = 'dfa'
    and (fa.method = 'fa' or fa.method = 'fa_block' and fa.treatment = dfa.treatment)
order by fa.method, fa.architecture, fa.width, fa.depth, fa.epochs, fa.penalty, fa.frozen_blocks, fa.augmentation, fa.cell, dfa.cell;
