-- What the diagnostics, their thresholds and the reporting strategies say of audited runs.

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
