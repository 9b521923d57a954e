-- What the queries share: views that take the experiment they are asked for, so each is a macro. They stand in the
-- database file, so that any DuckDB client can ask what the catalogue asks: select * from cells_of('~*').
-- asked: the name of an experiment, or a tilde and a pattern of names, such as '~reproduction*'; '~*' asks for all.

create or replace macro is_asked(named, asked) as
named = asked or starts_with(asked, '~') and named glob substr(asked, 2) and asked not in (select r.experiment from runs r);

-- A param's value in its one spelling: 1e-3, 1.0E-3 and 0.001 are one, True, true and 1 are, and 4 and 4.0. Those of a key in
-- words are names of choices. A number with a point or an exponent is the float64 that a training makes of it, however many
-- digits it is written with; whole digits of which a float64 does not hold all are an id. fa_tracking/cells.py reads them alike.
create or replace macro of_number(number) as case
    when isinf(number) then if(number > 0, 'inf', '-inf')
    when number = trunc(number) and abs(number) < 1e15 then cast(cast(number as bigint) as varchar)
    else cast(number as varchar)
end;
create or replace macro is_number(said) as
regexp_full_match(said, '[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?') and isfinite(try_cast(said as double));
create or replace macro is_id(said) as regexp_full_match(said, '[+-]?[0-9]{16,}');
create or replace macro bare(said) as trim(said, ' ' || chr(9) || chr(10) || chr(11) || chr(12) || chr(13));
create or replace macro plain_text(said) as case
    when lower(said) in ('true', 'yes', 'on') then '1'
    when lower(said) in ('false', 'no', 'off') then '0'
    when regexp_full_match(said, '[+]?inf(inity)?', 'i') then 'inf'
    when regexp_full_match(said, '-inf(inity)?', 'i') then '-inf'
    when is_number(said) and not is_id(said) then of_number(try_cast(said as double))
    else said
end;
create or replace macro plain(value, key) as if(key in $words, lower(bare(value)), plain_text(bare(value)));

-- A part of a cell's name, which ends where it ends.
create or replace macro quoted(said) as if(regexp_full_match(said, '[^\s="'']+'), said, cast(to_json(said) as varchar));

-- What a run means that does not log a param, where that is known: what version 0.1 did, which had none of these. NULL for
-- other params. Filled in from fa_tracking/cells.py.
create or replace macro absent_meaning(key) as $absent[key];

-- Whether a param tells its run from one that does not log it.
create or replace macro sets_apart(key, value) as
coalesce(plain(value, key) <> plain(absent_meaning(key), key), true);

-- Student's t at 95 %, two-sided: the table to 20 degrees of freedom, above them the first terms of its expansion in
-- 1/df (Abramowitz & Stegun 1964, 26.7.5), within 2e-7 of the quantile. NULL below one degree.
create or replace macro t_95(df) as case
    when df < 1 then null
    when df <= 20 then [
        12.70620474, 4.30265273, 3.182446305, 2.776445105, 2.570581836, 2.446911851, 2.364624252, 2.306004135,
        2.262157163, 2.228138852, 2.20098516, 2.17881283, 2.160368656, 2.144786688, 2.131449546, 2.119905299,
        2.109815578, 2.10092204, 2.093024054, 2.085963447
    ][df]
    else 1.959963985 + (2.37227123 + (2.822498616 + (2.55584968 + 1.589534053 / df) / df) / df) / df
end;

-- The 95 % interval of a mean of n values by Student's t; NULL for n = 1, and for equal values, which show no spread.
create or replace macro interval_of(mean, sd, n) as {
    'low': if(sd > 1e-12 * abs(mean), mean - t_95(n - 1) * sd / sqrt(n), null),
    'high': if(sd > 1e-12 * abs(mean), mean + t_95(n - 1) * sd / sqrt(n), null)
};

-- A number of blocks and a truth as a param says them; NULL where it cannot be read. fa_tracking/cells.py reads them alike.
create or replace macro blocks_in(said) as if(
    regexp_full_match(plain_text(bare(said)), '[0-9]{1,9}') and lower(bare(said)) not in ('true', 'yes', 'on', 'false', 'no', 'off'),
    try_cast(plain_text(bare(said)) as integer), null
);
create or replace macro truth_in(said) as case plain_text(bare(said)) when '1' then true when '0' then false end;

-- A whole number and any as a param says them; NULL where it says none, for a cast rounds 0.1 to 0 and reads 1_000. Any is
-- read however many digits it has.
create or replace macro whole_in(said) as
if(regexp_full_match(plain_text(bare(said)), '-?[0-9]{1,18}'), try_cast(plain_text(bare(said)) as bigint), null);
create or replace macro number_in(said) as if(
    is_number(bare(said)) or plain_text(bare(said)) in ('inf', '-inf'), try_cast(plain_text(bare(said)) as double), null
);

create or replace macro says_blocks(key, value) as key = 'trainable_blocks' and blocks_in(value) is not null
or key = 'frozen_blocks' and truth_in(value) is not null;

-- The params by which cells are told apart: all but the seed, and but those that say what their absence would say as well;
-- trainable_blocks, where not all are trained, in the place of what runs log of it, which is frozen_blocks in those of
-- version 0.1. A value that cannot be read stays, if it is all. `apart` of fa_tracking/cells.py is the same.
create or replace macro cell_params() as table
with told as (
    select run_id, 'trainable_blocks' as key, cast(trainable_blocks as varchar) as value
    from runs where trainable_blocks is not null and trainable_blocks is distinct from depth
)
from told
union all
select run_id, key, plain(value, key) as value from params anti join told using (run_id, key)
where key <> 'seed' and not says_blocks(key, value) and sets_apart(key, value);

-- The params by which runs are chosen: what runs mean, logged or not. trainable_blocks and frozen_blocks are there whichever
-- of them a run logs. A value is in its one spelling, and plain() brings one that is asked for into it.
create or replace macro asked_params() as table
select run_id, key, plain(value, key) as value
from params where not says_blocks(key, value)
union all
select run_id, key, plain(absent_meaning(key), key)
from (select run_id from runs) cross join (select unnest(map_keys($absent)) as key) anti join params using (run_id, key)
union all
select run_id, 'trainable_blocks', cast(trainable_blocks as varchar) from runs where trainable_blocks is not null
union all
select run_id, 'frozen_blocks', if(frozen_blocks, '1', '0') from runs;

-- What a rule brings along: with another rule these are others too.
create or replace macro is_of_rule(key) as
key in ('rule_definition', 'clip_norm', 'credit_normalisation', 'credit_index');

-- What else sets finished runs apart: their params that vary among those asked for, less those that every answer shows,
-- and less what follows from these: what a rule brings along where every run of the method has it, a network's definition
-- where every run of the architecture has it.
create or replace macro also_of(asked) as table
with finished as (
    select run_id, method, architecture from runs where status = 'FINISHED' and is_asked(experiment, asked)
),
told as (
    select run_id, key, value, if(key = 'definition', architecture, if(is_of_rule(key), method, null)) as name
    from cell_params() join finished using (run_id)
    where key not in ('method', 'architecture')
        and not (key in ('width', 'depth', 'epochs') and whole_in(value) is not null)
        and not (key = 'penalty' and number_in(value) is not null)
        and not (key = 'trainable_blocks' and value = '0')  -- frozen_blocks says it
),
named as (
    select 'method' as kind, method as name, count(*) as n_runs from finished group by all
    union all
    select 'architecture' as kind, architecture as name, count(*) as n_runs from finished group by all
),
in_part as (
    select key from (
        select key, name, if(key = 'definition', 'architecture', 'method') as kind, count(distinct value) as n, count(*) as n_told
        from told where key = 'definition' or is_of_rule(key) group by all
    ) by_name join named on named.kind = by_name.kind and named.name is not distinct from by_name.name
    where n > 1 or n_told < n_runs
),
varied as (
    select key from told group by key
    having (count(distinct value) > 1 or count(*) < (select count(*) from finished))
        and (key <> 'definition' and not is_of_rule(key) or key in (from in_part))
)
select run_id, string_agg(quoted(key) || '=' || quoted(value), ' ' order by key) as also
from told semi join varied using (key) group by run_id;

-- What (a) is judged by, as in a report: a class token may grow alone, so it is the smaller of its growth and that of the
-- whole stream, where this is known. A NaN explains nothing.
create or replace macro judged_growth(growth, stream_growth) as
if(growth is null or isnan(growth), growth, least(growth, stream_growth));

-- ‖g_L‖ were the error that of a uniform output over the classes: the gain times it, CHANCE_ERROR of grad_norm.py where it
-- is not known.
create or replace macro at_chance(grad_gain, chance_error) as grad_gain * coalesce(chance_error, $chance_error);

-- What (b) is judged by: a small gradient may be explained by a small error, so it is the larger of ‖g_L‖ and that at
-- chance. A NaN explains nothing.
create or replace macro judged_grad(grad_norm, at_chance) as
if(isfinite(at_chance) and not isnan(grad_norm), greatest(grad_norm, at_chance), grad_norm);

-- What (d) is judged by: two accuracies that were once held in float32 are off by up to ROUNDING_PP of frozen_control.py
-- together.
create or replace macro judged_margin(margin_pp) as margin_pp + $rounding_pp;

-- 1 where a diagnostic fires above its threshold, -1 where below; NULL where none of this letter is known. Filled in from
-- fa_tracking/protocol/diagnostics.
create or replace macro sign_of(flag) as $signs[flag];

-- Whether a diagnostic fires by what it is judged by: strictly beyond its threshold. NULL where that is; a NaN fires nothing
-- but n. An audit's flags are read as it stored them: this is for numbers that no audit judged, those of an epoch, and for
-- thresholds that no audit used.
create or replace macro fires(flag, judged, threshold) as
not isnan(judged) and sign_of(flag) * judged > sign_of(flag) * threshold;

-- A verdict as it is shown: marked where its audit had other thresholds than the protocol's, those of further diagnostics
-- among them. The thresholds of the protocol are filled in from fa_tracking/protocol/diagnostics, the mark from
-- fa_tracking/protocol/verdicts.py.
create or replace macro shown_verdict(verdict, $threshold_names, further := null) as coalesce(
    verdict || if(
        $is_other or coalesce(len(list_filter(
            cast(further as struct(flag varchar, value double, threshold double, fires boolean, kind varchar)[]),
            lambda f: f.threshold <> $further_thresholds[f.flag]
        )) > 0, false),
        $other_thresholds, ''
    ),
    'not audited'
);

-- Runs of one seed are one sample, also where it is no whole number; a run without a seed, or with an empty one, is its
-- own. `sample` of fa_tracking/cells.py is the same.
create or replace macro sample_of(run, seed) as coalesce(
    (select nullif(plain_text(bare(value)), '') from params where run_id = run and key = 'seed'), cast(seed as varchar), run
);

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

-- One number for several: of those that are finite, or what is not finite where none is.
create or replace macro finite_avg(value) as coalesce(avg(value) filter (isfinite(value)), any_value(value));
create or replace macro finite_median(value) as coalesce(median(value) filter (isfinite(value)), any_value(value));

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

-- What the runs that were measured say together of one flag.
create or replace macro agreement(fired, measured) as case
    when coalesce(measured, 0) = 0 then 'not measured'
    when fired = 0 then 'passes'
    when fired = measured then 'fires'
    else 'MIXED'
end;

-- A less B of two accuracies by sample, in percentage points: over their common samples where there are two or more, else
-- the difference of the two means, which has no sd here. `fa-track compare` gives its interval.
create or replace macro paired_pp(a, b) as
list_transform(list_intersect(map_keys(a), map_keys(b)), lambda sample: 100 * (a[sample] - b[sample]));
create or replace macro difference(a, b) as {
    'mean': if(
        len(paired_pp(a, b)) > 1, list_avg(paired_pp(a, b)), 100 * (list_avg(map_values(a)) - list_avg(map_values(b)))
    ),
    'sd': list_stddev_samp(paired_pp(a, b)),
    'n_pairs': coalesce(len(paired_pp(a, b)), 0),
    'n_a': coalesce(cardinality(a), 0),
    'n_b': coalesce(cardinality(b), 0)
};

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

-- The layers at the last epoch that a run logged; grad_norm is that of the layer.
create or replace macro last_layers_of(asked) as table
select r.* exclude (grad_norm), l.* exclude (run_id)
from runs_of(asked) r
join (select run_id, max(step) as step from layers group by run_id) using (run_id)
join layers l using (run_id, step);

-- One network's Γ under four aggregations: all layers or those above h_0, the mean over samples or all of them pooled.
create or replace macro alignments_of(asked) as table
select
    run_id, any_value(step) as epoch,
    count(alignment) filter (isfinite(alignment)) as n_layers,
    count(alignment) filter (isfinite(alignment) and layer > 0) as n_deep,
    avg(alignment) filter (isfinite(alignment)) as mean_all,
    avg(alignment) filter (isfinite(alignment) and layer > 0) as mean_deep,
    avg(alignment_pooled) filter (isfinite(alignment_pooled)) as pooled_all,
    avg(alignment_pooled) filter (isfinite(alignment_pooled) and layer > 0) as pooled_deep
from last_layers_of(asked)
group by run_id;

-- The epoch at which each flag first fires in an audited run, by its audit's thresholds, and the accuracy at these epochs
-- and the last: as in a report, the last that was logged by then. What is not finite is looked for where a report looks
-- for it: in that accuracy, the diagnostics and the norms of every layer. Of a run whose reference gradient is not that of
-- its loss, nothing of gradients counts.
create or replace macro first_flags_of(asked) as table
with judged as (
    select run_id, run_id in (select run_id from tags where key = 'fa.reference_gradient') as is_blind
    from runs_of(asked) where is_audited
),
by_epoch as (
    select
        run_id, step, bool_or(value is not null and key <> 'accuracy/test') as is_judged,
        bool_or(not isfinite(value) and key not in ('accuracy/test', 'diagnostics/chance_error')) as is_lost,
        any_value(value) filter (key = 'accuracy/test') as accuracy,
        any_value(value) filter (key = 'diagnostics/max_block_growth') as growth,
        any_value(value) filter (key = 'diagnostics/stream_growth') as stream_growth,
        any_value(value) filter (key = 'diagnostics/deepest_grad_norm') as grad_norm,
        any_value(value) filter (key = 'diagnostics/grad_gain') as grad_gain,
        any_value(value) filter (key = 'diagnostics/chance_error') as chance_error,
        any_value(value) filter (key = 'diagnostics/stability') as stability
    from (
        select run_id, key, step, value
        from metrics join judged using (run_id)
        where (key = 'accuracy/test' or starts_with(key, 'diagnostics/') and key <> 'diagnostics/alignment_missing')
            and not (
                is_blind and key in ('diagnostics/deepest_grad_norm', 'diagnostics/grad_gain', 'diagnostics/stability')
            )
        union all
        select run_id, '', step, unnest([residual_norm, if(is_blind, null, grad_norm)])
        from layers join judged using (run_id)
    )
    group by run_id, step
),
course as (
    select * replace (
        last_value(accuracy ignore nulls) over (
            partition by run_id order by step rows between unbounded preceding and current row
        ) as accuracy
    ) from by_epoch
),
firsts as (
    select
        run_id, max(step) as final_epoch,
        min(step) filter (is_judged and (is_lost or not isfinite(e.accuracy))) as n_epoch,
        min(step) filter (
            fires('a', judged_growth(e.growth, e.stream_growth), h_norm_explosion_ratio)
        ) as a_epoch,
        min(step) filter (
            fires('b', judged_grad(e.grad_norm, at_chance(e.grad_gain, e.chance_error)), g_norm_floor)
        ) as b_epoch,
        min(step) filter (fires('c', e.stability, stability_drift_ceiling)) as c_epoch
    from course e join runs_of(asked) using (run_id)
    group by run_id
),
found as (
    select
        r.*, f.* exclude (run_id), greatest(coalesce(r.epochs, 0), final_epoch) as planned,
        least(a_epoch, b_epoch, n_epoch) as first_epoch
    from runs_of(asked) r join firsts f using (run_id)
),
reached as (
    select run_id, map_from_entries(list((step, accuracy))) as accuracy_at
    from course semi join (
        select run_id, unnest([a_epoch, b_epoch, c_epoch, n_epoch, final_epoch]) as step from found
    ) using (run_id, step)
    where accuracy is not null
    group by run_id
)
select * from found left join reached using (run_id);

-- The share of its planned epochs that a run saves by stopping at the end of one; NULL for a run of no epoch.
create or replace macro share_saved(epoch, planned) as 1 - epoch / nullif(planned, 0);

-- What an audit told of one diagnostic.
create or replace macro told_of(flag, used, value, judged, stored) as {
    'flag': flag, 'used': used, 'value': if(stored is null, null, value), 'judged': judged, 'is_flagged': stored
};

-- What each diagnostic is judged by, a row an audited run and flag, without frozen controls and aborted runs. is_flagged:
-- as the audit stored it; where it did not, no value is known. x: what is held against the threshold times sign_of(flag), with
-- the rounding of (d), NULL where it is not finite. A run is degenerate where (a) or (b) fires, or it diverged.
create or replace macro judged_by(asked) as table
select *, sign_of(flag) as sign, if(isfinite(value), sign * judged, null) as x
from (
    select *, is_diverged or coalesce(fires_a, false) or coalesce(fires_b, false) as is_degenerate, unnest(list_concat([
        told_of('a', h_norm_explosion_ratio, by_growth, by_growth, fires_a),
        told_of('b', g_norm_floor, by_grad, by_grad, fires_b),
        told_of('c', stability_drift_ceiling, stability, stability, fires_c),
        told_of('d', frozen_acc_margin_pp, margin_pp, judged_margin(margin_pp), fires_d)
    ], list_transform(further, lambda f: told_of(f.flag, f.threshold, f.value, f.value, f.fires))), recursive := true)
    from (
        select
            *, judged_growth(growth, stream_growth) as by_growth,
            judged_grad(grad_norm, at_chance(grad_gain, chance_error)) as by_grad
        from runs_of(asked)
        where is_audited and aborted_at is null and not coalesce(frozen_blocks, false)
    )
);

-- A row a flag and threshold used: between which thresholds every run keeps its flag, NULL being no limit, and the
-- measurements of the healthy and of the degenerate runs that come closest to the other group.
create or replace macro edges_of(asked) as table
select
    flag, used, n, n_not_finite, n_degenerate,
    if(sign > 0, last_passing, -first_flagged) as same_from, if(sign > 0, first_flagged, -last_passing) as same_to,
    sign * last_healthy as healthy_edge, sign * first_degenerate as degenerate_edge,
    last_healthy < first_degenerate as separates
from (
    select
        flag, used, sign, count(x) as n, count(value) - count(x) as n_not_finite,
        max(x) filter (not is_flagged) as last_passing, min(x) filter (is_flagged) as first_flagged,
        count(x) filter (is_degenerate) as n_degenerate,
        max(sign * value) filter (not is_degenerate and x is not null) as last_healthy,
        min(sign * value) filter (is_degenerate and x is not null) as first_degenerate
    from judged_by(asked) group by flag, used, sign
);

-- What seven reporting strategies say, a row an audited run and strategy, without frozen controls and aborted runs;
-- walks_back is NULL where a strategy has nothing to go by.
create or replace macro decisions_of(asked) as table
select *, unnest([
    {'place': 1, 'strategy': 'accuracy', 'walks_back': is_bad},
    {'place': 2, 'strategy': 'accuracy + Γ', 'walks_back': is_bad or is_unaligned},
    {'place': 3, 'strategy': 'accuracy + (a)', 'walks_back': is_bad or fires_a},
    {'place': 4, 'strategy': 'accuracy + (b)', 'walks_back': is_bad or fires_b},
    {'place': 5, 'strategy': 'accuracy + (c)', 'walks_back': is_bad or fires_c},
    {'place': 6, 'strategy': 'accuracy + (d)', 'walks_back': is_bad or fires_d},
    {'place': 7, 'strategy': 'all', 'walks_back': is_flagged}
], recursive := true)
from (
    select
        r.*, not isfinite(accuracy) as is_bad, mean_all <= 0 as is_unaligned,
        if(verdict like 'inconclusive%', null, flags <> '') as is_flagged
    from runs_of(asked) r left join alignments_of(asked) using (run_id)
    where is_audited and aborted_at is null and not coalesce(frozen_blocks, false)
);

-- ‖h_L‖, ‖g_L‖ and accuracy by epoch, a row a run and epoch. h_L: the deepest state of which a norm was logged.
create or replace macro trajectories_of(asked) as table
with deepest as (
    select run_id, max(layer) as layer from layers where residual_norm is not null group by run_id
),
accuracies as (
    select run_id, step, value as accuracy from metrics where key = 'accuracy/test'
)
select
    r.* exclude (accuracy), step as epoch, l.residual_norm as deepest_residual_norm, l.grad_norm as deepest_grad_norm,
    p.accuracy
from runs_of(asked) r
join deepest using (run_id)
join layers l using (run_id, layer)
left join accuracies p using (run_id, step);
