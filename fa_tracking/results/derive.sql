-- Fills what follows from params, tags and metrics: the typed columns of runs, layers, audits. layers are filled from points,
-- the metrics of the runs in changed, by their codes.

update runs set
    method = p.method, architecture = p.architecture, dataset = p.dataset, optimizer = p.optimizer,
    definition = try_cast(whole_in(p.definition) as integer), rule_definition = try_cast(whole_in(p.rule_definition) as integer),
    labels = p.labels,
    expansion = try_cast(whole_in(p.expansion) as integer), alpha = number_in(p.alpha),
    lr_schedule = p.lr_schedule, lr_warmup = try_cast(whole_in(p.lr_warmup) as integer),
    momentum = number_in(p.momentum), clip_norm = number_in(p.clip_norm),
    credit_normalisation = p.credit_normalisation, credit_index = p.credit_index,
    width = try_cast(whole_in(p.width) as integer), depth = try_cast(whole_in(p.depth) as integer), seed = whole_in(p.seed),
    epochs = try_cast(whole_in(p.epochs) as integer), batch_size = try_cast(whole_in(p.batch_size) as integer),
    lr = number_in(p.lr), weight_decay = number_in(p.weight_decay),
    penalty = number_in(p.penalty), augmentation = p.augmentation,
    trainable_blocks = coalesce(
        blocks_in(p.trainable_blocks), if(truth_in(p.frozen_blocks), 0, try_cast(whole_in(p.depth) as integer))
    ),
    frozen_blocks = coalesce(blocks_in(p.trainable_blocks) = 0, truth_in(p.frozen_blocks))
from (
    pivot (from params semi join touched using (run_id)) on key in (
        'method', 'architecture', 'width', 'depth', 'dataset', 'seed', 'epochs', 'batch_size', 'optimizer', 'lr',
        'weight_decay', 'penalty', 'trainable_blocks', 'frozen_blocks', 'augmentation', 'definition',
        'rule_definition', 'labels', 'expansion', 'alpha', 'lr_schedule', 'lr_warmup', 'momentum', 'clip_norm', 'credit_normalisation', 'credit_index'
    ) using any_value(value) group by run_id
) as p
where runs.run_id = p.run_id and runs.run_id in (from touched);

update runs set aborted_at = try_cast(tags.value as integer)
from tags where runs.run_id = tags.run_id and tags.key = 'fa.aborted_at' and runs.run_id in (from touched);

-- The metrics that are named as one of a layer's; 9,999 is the deepest layer that a report reads.
create temp table layer_names as
select key, string_split(key, '/')[1] as quantity, regexp_extract(key, '\d+$') as layer, regexp_full_match(layer, '0|[1-9]\d{0,3}') as is_layer
from key_codes
where regexp_full_match(key, '(residual_norm/h|grad_norm/g|alignment(_pooled|_null|_null_sd)?/l)\d+')
    or regexp_full_match(key, '(perturbation(_bp|_random|_float32)?|nudge(_bp|_random)?)/l\d+');

delete from layers where run_id in (select run_id from changed union all select run_id from gone);
insert into layers
with layer_keys as (
    select code, cast(layer as integer) as layer, quantity from layer_names join key_codes using (key) where is_layer
),
by_layer as (
    select
        run, step, layer,
        max(value) filter (quantity = 'residual_norm') as residual_norm,
        max(value) filter (quantity = 'grad_norm') as grad_norm,
        max(value) filter (quantity = 'alignment') as alignment,
        max(value) filter (quantity = 'alignment_pooled') as alignment_pooled,
        max(value) filter (quantity = 'alignment_null') as alignment_null_mean,
        max(value) filter (quantity = 'alignment_null_sd') as alignment_null_sd,
        max(value) filter (quantity = 'perturbation') as perturbation,
        max(value) filter (quantity = 'perturbation_bp') as perturbation_bp,
        max(value) filter (quantity = 'perturbation_random') as perturbation_random,
        max(value) filter (quantity = 'perturbation_float32') as perturbation_float32,
        max(value) filter (quantity = 'nudge') as nudge,
        max(value) filter (quantity = 'nudge_bp') as nudge_bp,
        max(value) filter (quantity = 'nudge_random') as nudge_random
    from points join layer_keys on layer_keys.code = points.key
    group by all
)
select run_id, by_layer.* exclude (run) from by_layer join run_codes on run_codes.code = by_layer.run;

-- The functional measures of one credit, by layer.
create or replace temp macro effect_of(told) as {
    'perturbation': cast(told -> 'perturbation' as double[]),
    'perturbation_error': cast(told -> 'perturbation_error' as double[]),
    'perturbation_float32': cast(told -> 'perturbation_float32' as double[]),
    'nudge': cast(told -> 'nudge' as double[]),
    'nudge_error': cast(told -> 'nudge_error' as double[])
};

-- What the audit of a run has told in its tags. Where that cannot be read, the run has no audit, and the export says so.
create temp table read_audits as
with t as (
    pivot (from tags semi join touched using (run_id)) on key in (
        'fa.verdict', 'fa.flags', 'fa.evidence', 'fa.control_runs', 'fa.thresholds', 'fa.measured',
        'fa.protocol_version', 'fa.checkpoint_sha256', 'fa.audited_at'
    ) using any_value(value) group by run_id
),
-- Each is parsed once: every -> would hold a parsed chunk of rows, by every thread, and a few of them all of the memory.
parsed as (
    select *,
        try(from_json("fa.measured", '{
            "epoch": "VARCHAR", "headline_accuracy": "VARCHAR", "control_accuracy": "VARCHAR", "margin_pp": "VARCHAR",
            "max_block_growth": "VARCHAR", "deepest_residual_norm": "VARCHAR", "deepest_grad_norm": "VARCHAR",
            "stream_growth": "VARCHAR", "grad_gain": "VARCHAR", "chance_error": "VARCHAR", "reference": "VARCHAR",
            "stability": "VARCHAR",
            "fired": {"n": "VARCHAR", "a": "VARCHAR", "b": "VARCHAR", "c": "VARCHAR", "d": "VARCHAR"},
            "kinds": "JSON", "inexact": "JSON",
            "knockout": {"samples": "VARCHAR", "whole": "VARCHAR", "without_all": "VARCHAR", "without": "JSON"},
            "functional": {
                "samples": "VARCHAR", "cut": "VARCHAR", "alignment": "JSON", "alignment_error": "JSON",
                "rule": "JSON", "bp": "JSON", "random": "JSON"
            }
        }')) as m,
        try(from_json("fa.thresholds", '{
            "h_norm_explosion_ratio": "VARCHAR", "g_norm_floor": "VARCHAR", "stability_drift_ceiling": "VARCHAR",
            "frozen_acc_margin_pp": "VARCHAR"
        }')) as h
    from t
)
select
    run_id, "fa.verdict" as verdict, coalesce("fa.flags", '') as flags, "fa.evidence" as evidence,
    try(case when coalesce(json_type("fa.measured"), 'OBJECT') = 'OBJECT'
        and (h is not null or "fa.thresholds" is null) then {
        'epoch': cast(m.epoch as integer),
        'headline_accuracy': cast(m.headline_accuracy as double),
        'control_accuracy': cast(m.control_accuracy as double),
        'margin_pp': cast(m.margin_pp as double),
        'max_block_growth': cast(m.max_block_growth as double),
        'stream_growth': cast(m.stream_growth as double),
        'deepest_residual_norm': cast(m.deepest_residual_norm as double),
        'deepest_grad_norm': cast(m.deepest_grad_norm as double),
        'grad_gain': cast(m.grad_gain as double),
        'chance_error': cast(m.chance_error as double),
        'reference': m.reference,
        'stability': cast(m.stability as double),
        'fires_n': cast(m.fired.n as boolean),
        'fires_a': cast(m.fired.a as boolean),
        'fires_b': cast(m.fired.b as boolean),
        'fires_c': cast(m.fired.c as boolean),
        'fires_d': cast(m.fired.d as boolean),
        'kinds': if(json_type(m.kinds) = 'OBJECT', cast(m.kinds as varchar), null),
        'inexact': if(json_type(m.inexact) = 'OBJECT', cast(m.inexact as varchar), null),
        'h_norm_explosion_ratio': cast(h.h_norm_explosion_ratio as double),
        'g_norm_floor': cast(h.g_norm_floor as double),
        'stability_drift_ceiling': cast(h.stability_drift_ceiling as double),
        'frozen_acc_margin_pp': cast(h.frozen_acc_margin_pp as double),
        'control_runs': list_filter(string_split("fa.control_runs", ','), lambda run : run <> ''),
        'protocol_version': "fa.protocol_version",
        'checkpoint_sha256': "fa.checkpoint_sha256",
        'audited_at': cast("fa.audited_at" as timestamptz) at time zone 'UTC'
    } end) as told,
    json_type(try("fa.measured"::json), '$.knockout') = 'OBJECT' as is_knocked_out,
    try({
        'samples': cast(m.knockout.samples as integer),
        'whole': cast(m.knockout.whole as double),
        'without_all': cast(m.knockout.without_all as double),
        'without': cast(m.knockout.without as double[])
    }) as knockout,
    json_type(try("fa.measured"::json), '$.functional') = 'OBJECT' as is_functional,
    try({
        'samples': cast(m.functional.samples as integer),
        'cut': m.functional.cut,
        'alignment': cast(m.functional.alignment as double[]),
        'alignment_error': cast(m.functional.alignment_error as double[]),
        'rule': effect_of(m.functional.rule),
        'bp': effect_of(m.functional.bp),
        'random': effect_of(m.functional.random)
    }) as functional
from parsed where "fa.verdict" is not null;
delete from read_audits where told is null or is_knocked_out and (
    knockout is null or knockout.samples is null or knockout.whole is null or knockout.without_all is null
    or list_contains([w is null for w in knockout.without], true)
) or is_functional and (functional is null or functional.samples is null and functional.cut is null);

delete from audits where run_id in (from touched);
insert into audits
select run_id, verdict, flags, evidence, told.* from read_audits;

delete from knockouts where run_id in (from touched);
insert into knockouts
with k as (select run_id, knockout.* from read_audits where is_knocked_out),
each_block as (select run_id, without, samples, unnest(range(len(without))) as block from k)
select run_id, 'none', whole, samples from k
union all
select run_id, 'all', without_all, samples from k
union all
select run_id, cast(block as varchar), without[block + 1], samples from each_block;

delete from functional where run_id in (from touched);
insert into functional
with f as (select run_id, functional.* from read_audits where is_functional and functional.samples > 0),
each_credit as (
    select
        run_id, samples, alignment, alignment_error,
        unnest(['rule', 'bp', 'random']) as credit, unnest([rule, bp, random]) as effect
    from f
),
each_layer as (select *, unnest(range(len(effect.perturbation))) as layer from each_credit)
select
    run_id, layer, credit, effect.perturbation[layer + 1], effect.perturbation_error[layer + 1],
    effect.perturbation_float32[layer + 1], effect.nudge[layer + 1], effect.nudge_error[layer + 1],
    if(credit = 'rule', alignment[layer + 1], null), if(credit = 'rule', alignment_error[layer + 1], null), samples
from each_layer;
