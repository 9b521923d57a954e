-- title: Each diagnostic's threshold swept over decades: how many runs it flags, and where the verdicts would change
-- params: experiment
-- columns: flag, used, threshold, n, n_not_finite, n_flagged, n_changed, same_from, same_to, n_degenerate, healthy_edge, degenerate_edge, separates
-- Audited runs that ended as planned, without the frozen controls; n have a finite measurement. used: the threshold of
-- the audit, n_changed: the runs that another threshold flags differently. Any threshold between same_from and same_to
-- flags the same runs as used, NULL being no limit; (a) and (c) fire above it, (b) and (d) below. n_degenerate of the n
-- are degenerate: (a) or (b) fires. The others are healthy. The edges are the measurements of the two groups that come
-- closest to the other group; separates: they do not overlap, NULL where a group is empty. (b) is measured as it fires:
-- by the larger of ‖g_L‖ and 0.95 times the gain.
with measured as (
    select *, if(isfinite(value), sign * value, null) as x, x > sign * used as is_flagged
    from (
        select coalesce(fires_a, false) or coalesce(fires_b, false) as is_degenerate, unnest([
            {'flag': 'a', 'sign': 1, 'used': h_norm_explosion_ratio, 'value': growth},
            {'flag': 'b', 'sign': -1, 'used': g_norm_floor, 'value': greatest(
                grad_norm, if(isfinite(grad_gain), 0.95 * grad_gain, null)
            )},
            {'flag': 'c', 'sign': 1, 'used': stability_drift_ceiling, 'value': stability},
            {'flag': 'd', 'sign': -1, 'used': frozen_acc_margin_pp, 'value': margin_pp}
        ], recursive := true)
        from runs_of($experiment)
        where is_audited and aborted_at is null and not coalesce(frozen_blocks, false)
    )
),
edges as (
    select
        flag, used, sign, count(x) as n, count(value) - count(x) as n_not_finite,
        max(x) filter (not is_flagged) as last_passing, min(x) filter (is_flagged) as first_flagged,
        count(x) filter (is_degenerate) as n_degenerate,
        max(x) filter (not is_degenerate) as last_healthy, min(x) filter (is_degenerate) as first_degenerate
    from measured group by flag, used, sign
),
swept as (
    select
        flag, used, used * pow(10, decade) as threshold,
        count(*) filter (x > sign * threshold) as n_flagged,
        count(*) filter ((x > sign * threshold) <> is_flagged) as n_changed
    from measured cross join unnest(range(-3, 4)) as decades(decade)
    group by flag, used, threshold
)
select
    flag, used, threshold, n, n_not_finite, n_flagged, n_changed,
    if(sign > 0, last_passing, -first_flagged) as same_from, if(sign > 0, first_flagged, -last_passing) as same_to,
    n_degenerate, sign * last_healthy as healthy_edge, sign * first_degenerate as degenerate_edge,
    last_healthy < first_degenerate as separates
from swept join edges using (flag, used)
order by flag, used, threshold;
