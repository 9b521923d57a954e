-- Fills what follows from params, tags and metrics: the typed columns of runs, layers, audits. layers are filled from points,
-- the metrics of the runs in changed, by their codes.

update runs set
    method = p.method, architecture = p.architecture, dataset = p.dataset, optimizer = p.optimizer,
    width = try_cast(p.width as integer), depth = try_cast(p.depth as integer), seed = try_cast(p.seed as bigint),
    epochs = try_cast(p.epochs as integer), batch_size = try_cast(p.batch_size as integer),
    lr = try_cast(p.lr as double), weight_decay = try_cast(p.weight_decay as double),
    penalty = try_cast(p.penalty as double), frozen_blocks = try_cast(p.frozen_blocks as boolean),
    augmentation = p.augmentation
from (
    pivot (from params semi join touched using (run_id)) on key in (
        'method', 'architecture', 'width', 'depth', 'dataset', 'seed', 'epochs', 'batch_size', 'optimizer', 'lr',
        'weight_decay', 'penalty', 'frozen_blocks', 'augmentation'
    ) using any_value(value) group by run_id
) as p
where runs.run_id = p.run_id and runs.run_id in (from touched);

update runs set aborted_at = try_cast(tags.value as integer)
from tags where runs.run_id = tags.run_id and tags.key = 'fa.aborted_at' and runs.run_id in (from touched);

delete from layers where run_id in (select run_id from changed union all select run_id from gone);
insert into layers
with layer_keys as (
    select code, cast(regexp_extract(key, '\d+$') as integer) as layer, string_split(key, '/')[1] as quantity
    from key_codes
    where regexp_full_match(key, '(residual_norm/h|grad_norm/g|alignment(_pooled|_null|_null_sd)?/l)\d+')
),
by_layer as (
    select
        run, step, layer,
        max(value) filter (quantity = 'residual_norm') as residual_norm,
        max(value) filter (quantity = 'grad_norm') as grad_norm,
        max(value) filter (quantity = 'alignment') as alignment,
        max(value) filter (quantity = 'alignment_pooled') as alignment_pooled,
        max(value) filter (quantity = 'alignment_null') as alignment_null_mean,
        max(value) filter (quantity = 'alignment_null_sd') as alignment_null_sd
    from points join layer_keys on layer_keys.code = points.key
    group by all
)
select run_id, by_layer.* exclude (run) from by_layer join run_codes on run_codes.code = by_layer.run;

delete from audits where run_id in (from touched);
insert into audits
with t as (
    pivot (from tags semi join touched using (run_id)) on key in (
        'fa.verdict', 'fa.flags', 'fa.evidence', 'fa.control_runs', 'fa.thresholds', 'fa.measured',
        'fa.protocol_version', 'fa.checkpoint_sha256', 'fa.audited_at'
    ) using any_value(value) group by run_id
)
select
    run_id, "fa.verdict", coalesce("fa.flags", ''), "fa.evidence",
    cast("fa.measured" ->> '$.epoch' as integer),
    cast("fa.measured" ->> '$.headline_accuracy' as double),
    cast("fa.measured" ->> '$.control_accuracy' as double),
    cast("fa.measured" ->> '$.margin_pp' as double),
    cast("fa.measured" ->> '$.max_block_growth' as double),
    cast("fa.measured" ->> '$.deepest_residual_norm' as double),
    cast("fa.measured" ->> '$.deepest_grad_norm' as double),
    cast("fa.measured" ->> '$.grad_gain' as double),
    cast("fa.measured" ->> '$.stability' as double),
    cast("fa.measured" ->> '$.fired.n' as boolean),
    cast("fa.measured" ->> '$.fired.a' as boolean),
    cast("fa.measured" ->> '$.fired.b' as boolean),
    cast("fa.measured" ->> '$.fired.c' as boolean),
    cast("fa.measured" ->> '$.fired.d' as boolean),
    cast("fa.thresholds" ->> '$.h_norm_explosion_ratio' as double),
    cast("fa.thresholds" ->> '$.g_norm_floor' as double),
    cast("fa.thresholds" ->> '$.stability_drift_ceiling' as double),
    cast("fa.thresholds" ->> '$.frozen_acc_margin_pp' as double),
    list_filter(string_split("fa.control_runs", ','), lambda run : run <> ''),
    "fa.protocol_version", "fa.checkpoint_sha256", cast("fa.audited_at" as timestamptz) at time zone 'UTC'
from t where "fa.verdict" is not null;

delete from knockouts where run_id in (from touched);
insert into knockouts
with k as (
    select run_id, json_extract(value, '$.knockout') as k
    from tags semi join touched using (run_id) where key = 'fa.measured' and json_type(value, '$.knockout') = 'OBJECT'
),
each_block as (
    select run_id, k, unnest(range(cast(json_array_length(k, '$.without') as bigint))) as block from k
)
select run_id, 'none', cast(k ->> '$.whole' as double), cast(k ->> '$.samples' as integer) from k
union all
select run_id, 'all', cast(k ->> '$.without_all' as double), cast(k ->> '$.samples' as integer) from k
union all
select
    run_id, cast(block as varchar), cast(json_extract_string(k, '$.without[' || block || ']') as double),
    cast(k ->> '$.samples' as integer)
from each_block;
