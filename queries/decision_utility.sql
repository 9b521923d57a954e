-- title: Seven reporting strategies: which methods each of them walks back
-- params: experiment
-- columns: architecture, width, depth, dataset, strategy, n_methods, n_runs, n_walked_back, n_mixed, n_kept, n_not_measured, walked_back, mixed
-- A method is a cell: its audited runs that ended as planned, without the frozen controls, so that a method at two
-- learning rates counts twice. It is walked back where every run that was measured is, mixed where the runs disagree.
-- Accuracy walks back what is not finite and nothing else: the protocol does not flag a low one. Γ adds a mean over the
-- measured layers that is not above 0; BP has none, and below the floor there is none. all: the verdict.
with judged as (
    select
        r.*,
        method || if(penalty > 0, ' λ=' || penalty, '') || if(augmentation <> 'none', ' ' || augmentation, '') as name,
        not isfinite(accuracy) as is_bad, mean_all <= 0 as is_unaligned,
        if(verdict like 'inconclusive%', null, flags <> '') as is_flagged
    from runs_of($experiment) r left join alignments_of($experiment) using (run_id)
    where is_audited and aborted_at is null and not coalesce(frozen_blocks, false)
),
decisions as (
    select architecture, width, depth, dataset, cell, name, unnest([
        {'place': 1, 'strategy': 'accuracy', 'walks_back': is_bad},
        {'place': 2, 'strategy': 'accuracy + Γ', 'walks_back': is_bad or is_unaligned},
        {'place': 3, 'strategy': 'accuracy + (a)', 'walks_back': is_bad or fires_a},
        {'place': 4, 'strategy': 'accuracy + (b)', 'walks_back': is_bad or fires_b},
        {'place': 5, 'strategy': 'accuracy + (c)', 'walks_back': is_bad or fires_c},
        {'place': 6, 'strategy': 'accuracy + (d)', 'walks_back': is_bad or fires_d},
        {'place': 7, 'strategy': 'all', 'walks_back': is_flagged}
    ], recursive := true)
    from judged
),
methods as (
    select
        architecture, width, depth, dataset, place, strategy, cell, any_value(name) as name, count(*) as runs,
        agreement(count(*) filter (walks_back), count(walks_back)) as decision
    from decisions group by all
)
select
    architecture, width, depth, dataset, strategy, count(*) as n_methods, cast(sum(runs) as bigint) as n_runs,
    count(*) filter (decision = 'fires') as n_walked_back, count(*) filter (decision = 'MIXED') as n_mixed,
    count(*) filter (decision = 'passes') as n_kept, count(*) filter (decision = 'not measured') as n_not_measured,
    coalesce(string_agg(name, ', ' order by name) filter (decision = 'fires'), '') as walked_back,
    coalesce(string_agg(name, ', ' order by name) filter (decision = 'MIXED'), '') as mixed
from methods
group by architecture, width, depth, dataset, place, strategy
order by architecture, width, depth, dataset, place;
