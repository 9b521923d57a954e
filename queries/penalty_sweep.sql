-- title: The residual penalty swept: margin over the frozen control and (d), per seed and over the seeds
-- columns: method, architecture, width, depth, epochs, penalty, also, seed, n, n_margin, accuracy, accuracy_sd, gain_pp, gain_sd, n_pairs, margin_pp, margin_sd, growth, grad_norm, d_verdict
-- A row a seed, then one with seed = all: mean and sample standard deviation over the n seeds, growth and ‖g_L‖ by
-- median, the margin over n_margin of them. gain_pp: accuracy less that of the same runs without penalty, over all
-- seeds paired where two or more are shared (n_pairs), else of the means. d_verdict: MIXED where the seeds disagree,
-- not measured without a frozen control. What was never trained with a penalty is left out, and a penalty that is no
-- number. Frozen controls are left out, as are runs that diverged or were aborted.
with cells as (
    select c.*, z.accuracies as unpenalised, difference(c.accuracies, z.accuracies) as gain
    from siblings_of($experiment, ['penalty']) c
    left join siblings_of($experiment, ['penalty']) z
        on c.strength > 0 and z.strength = 0 and c.others = z.others
    where not coalesce(c.frozen_blocks, false) and c.strength is not null
        and c.others in (select others from siblings_of($experiment, ['penalty']) where strength > 0)
),
rows as (
    select
        cell, sample as seed, count(accuracy) as n, count(margin_pp) as n_margin,
        any_value(s.accuracy) as accuracy, any_value(100 * (s.accuracy - unpenalised[sample])) as gain_pp,
        any_value(s.margin_pp) as margin_pp, any_value(s.growth) as growth, any_value(s.grad_norm) as grad_norm,
        agreement(sum(s.d_fired), sum(s.d_measured)) as d_verdict
    from samples_of($experiment) s join cells using (cell) group by cell, sample
    union all by name
    select
        cell, 'all' as seed, n, n_margin, accuracy_mean as accuracy, accuracy_sd,
        gain.mean as gain_pp, gain.sd as gain_sd, gain.n_pairs as n_pairs,
        margin_pp_mean as margin_pp, margin_pp_sd as margin_sd, growth_median as growth, grad_norm_median as grad_norm,
        agreement(d_fired, d_measured) as d_verdict
    from cells
)
select
    c.method, c.architecture, c.width, c.depth, c.epochs, c.strength as penalty, c.also, r.seed, r.n, r.n_margin, r.accuracy, r.accuracy_sd,
    r.gain_pp, r.gain_sd, r.n_pairs, r.margin_pp, r.margin_sd, r.growth, r.grad_norm, r.d_verdict
from rows r join cells c using (cell)
order by
    c.method, c.architecture, c.width, c.depth, c.epochs, c.others, c.strength, c.cell, r.seed = 'all',
    try_cast(r.seed as bigint), r.seed;
