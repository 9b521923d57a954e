-- title: Cells ranked by accuracy on their data set, and ranked again among those that the audit trusts
-- columns: dataset, rank, trusted_rank, method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, also, n, n_runs, n_diverged, accuracy_mean, accuracy_sd, margin_pp_mean, n_margin, verdict
-- rank: by the mean over the n seeds, equal means sharing a rank; trusted_rank: the same among the cells whose runs are
-- all trustworthy and whose blocks are trained. A cell without an accuracy has no rank and stands last. Frozen controls
-- have a rank too: what they beat has learned nothing in its blocks. A rank says nothing of significance: ask `fa-track compare`.
select
    dataset,
    case when n > 0 then rank() over (partition by dataset order by rounded desc nulls last) end as rank,
    case when n > 0 and is_trusted
        then rank() over (partition by dataset, is_trusted order by rounded desc nulls last) end as trusted_rank,
    method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, also, n, n_runs, n_diverged,
    accuracy_mean, accuracy_sd, margin_pp_mean, n_margin, verdict
from (
    -- the last digit of a mean hangs on the order of its sum
    select
        *, round(accuracy_mean, 12) as rounded,
        verdict = 'trustworthy' and not coalesce(frozen_blocks, false) as is_trusted
    from cells_of($experiment)
)
order by dataset, rank nulls last, method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, cell;
