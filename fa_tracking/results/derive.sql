-- Fills what follows from params and metrics: the typed columns of runs, and layers. layers are filled from points, the
-- metrics of the runs in changed, by their codes.

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
