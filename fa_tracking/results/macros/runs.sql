-- The finished runs, and their samples, cells and ladders.

-- The finished runs beside their audits. sample: see sample_of. state:
-- complete, diverged or aborted; only what is complete is in a mean.
create or replace macro runs_of(asked) as table
select
    r.* replace (coalesce(r.cell, '') as cell),
    sample_of(r.run_id, r.seed) as sample,
    a.headline_accuracy as accuracy, a.control_accuracy, a.margin_pp, a.max_block_growth as growth, a.stream_growth,
    a.deepest_grad_norm as grad_norm, a.grad_gain, a.chance_error, a.reference, a.stability, a.flags,
    shown_verdict(
        a.verdict, a.h_norm_explosion_ratio, a.g_norm_floor, a.stability_drift_ceiling, a.frozen_acc_margin_pp,
        further := a.further
    ) as verdict,
    a.run_id is not null as is_audited,
    coalesce(a.fires_n, false) or coalesce(not isfinite(a.headline_accuracy), false) as is_diverged,
    case when is_diverged then 'diverged' when r.aborted_at is not null then 'aborted' else 'complete' end as state,
    a.fires_n, a.fires_a, a.fires_b, a.fires_c, a.fires_d, a.further,
    a.h_norm_explosion_ratio, a.g_norm_floor, a.stability_drift_ceiling, a.frozen_acc_margin_pp,
    coalesce(also, '') as also
from runs r left join audits a using (run_id) left join also_of(asked) using (run_id)
where r.status = 'FINISHED' and is_asked(r.experiment, asked);

-- One row a cell and sample: the average of its runs. Runs that diverged or were aborted are in no number.
create or replace macro samples_of(asked) as table
select
    cell, sample, any_value(seed) as seed,
    avg(accuracy) filter (isfinite(accuracy)) as accuracy,
    avg(margin_pp) filter (isfinite(margin_pp)) as margin_pp,
    avg(stability) filter (isfinite(stability)) as stability,
    median(growth) filter (isfinite(growth)) as growth,
    median(grad_norm) filter (isfinite(grad_norm)) as grad_norm,
    count(fires_d) as d_measured, count(*) filter (fires_d) as d_fired
from runs_of(asked)
where state = 'complete'
group by cell, sample;

-- One row a cell, sample and state, to be drawn as a point: the average of its runs, the norms by median. run_id: the
-- first of them. Unlike samples_of, it has the diverged and aborted runs, and what is not finite.
create or replace macro seeds_of(asked) as table
select
    cell, sample, state, any_value(seed) as seed, min(run_id) as run_id,
    finite_avg(accuracy) as accuracy, finite_avg(margin_pp) as margin_pp, finite_avg(control_accuracy) as control,
    finite_median(growth) as growth, finite_median(grad_norm) as grad_norm,
    any_value(h_norm_explosion_ratio) as h_norm_explosion_ratio, any_value(g_norm_floor) as g_norm_floor,
    any_value(frozen_acc_margin_pp) as frozen_acc_margin_pp
from runs_of(asked)
group by cell, sample, state;

-- One row a cell. n: the samples behind the means, audited and with a finite accuracy. accuracies: by sample, for
-- difference(). The verdict and flags are of all runs that ended as planned, the diverged among them.
create or replace macro cells_of(asked) as table
with asked_runs as (select * from runs_of(asked)),
named as (
    select
        cell, any_value(method) as method, any_value(rule_definition) as rule_definition,
        any_value(definition) as definition,
        any_value(architecture) as architecture, any_value(width) as width,
        any_value(depth) as depth, any_value(dataset) as dataset, any_value(epochs) as epochs, any_value(lr) as lr,
        any_value(penalty) as penalty, any_value(trainable_blocks) as trainable_blocks,
        any_value(frozen_blocks) as frozen_blocks,
        any_value(augmentation) as augmentation, any_value(also) as also,
        count(*) as n_runs, count(*) filter (is_diverged) as n_diverged,
        count(*) filter (aborted_at is not null) as n_aborted, count(*) filter (not is_audited) as n_unaudited
    from asked_runs group by cell
),
measured as (
    select
        cell, count(accuracy) as n,
        avg(accuracy) as accuracy_mean, stddev_samp(accuracy) as accuracy_sd,
        avg(margin_pp) as margin_pp_mean, stddev_samp(margin_pp) as margin_pp_sd, count(margin_pp) as n_margin,
        median(growth) as growth_median, median(grad_norm) as grad_norm_median, avg(stability) as stability_mean,
        sum(d_measured) as d_measured, sum(d_fired) as d_fired,
        string_agg(sample, ' ' order by seed, sample) filter (accuracy is not null) as seeds,
        map_from_entries(list((sample, accuracy) order by sample) filter (accuracy is not null)) as accuracies
    from samples_of(asked) group by cell
),
verdicts as (
    select
        cell,
        case
            when count(*) = 1 then any_value(verdict)
            else 'MIXED: ' || string_agg(runs || ' × ' || verdict, ', ' order by runs desc, verdict)
        end as verdict
    from (select cell, verdict, count(*) as runs from asked_runs where aborted_at is null group by all) group by cell
),
flagged as (
    select cell, string_agg(flag || '×' || runs, ' ' order by flag) as flags
    from (
        select cell, flag, count(*) as runs
        from (select cell, unnest(string_split(flags, ',')) as flag from asked_runs where aborted_at is null)
        where flag <> '' group by all
    )
    group by cell
)
select
    named.*, coalesce(n, 0) as n, measured.* exclude (cell, n, n_margin), coalesce(n_margin, 0) as n_margin,
    coalesce(flags, '') as flags, verdict
from named left join measured using (cell) left join verdicts using (cell) left join flagged using (cell);

-- The cells, and in others all their params but those in varied: equal others differ in nothing else. A definition varies
-- with its name, and with the method what is_of_rule; recipe holds the latter. strength: the penalty, 0 where none is logged;
-- NULL where one is that says no number, which is none of these.
create or replace macro siblings_of(asked, varied) as table
select
    c.*, coalesce(o.others, []) as others, coalesce(o.recipe, []) as recipe,
    if(o.said_penalty is null, coalesce(c.penalty, 0), number_in(o.said_penalty)) as strength
from cells_of(asked) c left join (
    select
        cell,
        list(quoted(key) || '=' || quoted(value) order by key) filter (
            not list_contains(varied, key)
            and not (key = 'definition' and list_contains(varied, 'architecture'))
            and not (is_of_rule(key) and list_contains(varied, 'method'))
        ) as others,
        list(quoted(key) || '=' || quoted(value) order by key) filter (is_of_rule(key)) as recipe,
        any_value(value) filter (key = 'penalty') as said_penalty
    from (select coalesce(cell, '') as cell, min(run_id) as run_id from runs group by all) join cell_params() using (run_id)
    group by cell
) o using (cell);

-- The cells of which others exist that differ in trainable_blocks alone: the rungs of depth ladders, others being what the
-- rungs of one share. gain: its accuracy less that of the frozen control, k = 0; NULL of the control itself. best_blocks:
-- the k of the highest mean accuracy of the n_rungs, the smallest of several.
create or replace macro ladders_of(asked) as table
with rungs as (
    select
        *, count(distinct trainable_blocks) over ladder as n_rungs,
        any_value(accuracies) filter (trainable_blocks = 0) over ladder as frozen_accuracies,
        first_value(trainable_blocks) over (
            ladder order by accuracy_mean desc nulls last, trainable_blocks
            rows between unbounded preceding and unbounded following
        ) as first_blocks,
        max(accuracy_mean) over ladder as highest
    from siblings_of(asked, ['trainable_blocks'])
    where trainable_blocks is not null
    window ladder as (partition by others)
)
select
    * exclude (frozen_accuracies, first_blocks, highest)
    replace (trim(regexp_replace(also, '(^| )trainable_blocks=\d+', '')) as also),
    difference(accuracies, if(trainable_blocks > 0, frozen_accuracies, null)) as gain,
    if(highest is null, null, first_blocks) as best_blocks
from rungs
where n_rungs > 1;
