-- title: Seven reporting strategies: which methods each of them walks back
-- columns: architecture, width, depth, dataset, strategy, n_methods, n_runs, n_walked_back, n_mixed, n_kept, n_not_measured, walked_back, mixed
-- A method is a cell: its audited runs that ended as planned, without the frozen controls, so that a method at two
-- learning rates counts twice. It is walked back where every run that was measured is, mixed where the runs disagree.
-- Accuracy walks back what is not finite and nothing else: the protocol does not flag a low one. Γ adds a mean over the
-- measured layers that is not above 0; BP has none, and below the floor there is none. all: the verdict.
with methods as (
    select
        architecture, width, depth, dataset, place, strategy, cell, count(*) as runs,
        any_value(
            method || if(penalty > 0, ' λ=' || penalty, '') || if(augmentation <> 'none', ' ' || augmentation, '')
        ) as name,
        agreement(count(*) filter (walks_back), count(walks_back)) as decision
    from decisions_of($experiment) group by architecture, width, depth, dataset, place, strategy, cell
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
