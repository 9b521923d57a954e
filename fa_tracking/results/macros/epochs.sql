-- What runs logged by layer and epoch.

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
