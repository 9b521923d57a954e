-- title: Each diagnostic's threshold swept over decades: how many runs it flags, and where the verdicts would change
-- columns: flag, used, threshold, n, n_not_finite, n_flagged, n_changed, same_from, same_to, n_degenerate, healthy_edge, degenerate_edge, separates
-- Audited runs that ended as planned, without the frozen controls; n have a finite measurement. used: the threshold of
-- the audit, n_changed: the runs that another threshold flags differently. Any threshold between same_from and same_to
-- flags the same runs as used, NULL being no limit; (a) and (c) fire above it, (b) and (d) below. n_degenerate of the n
-- are degenerate: (a) or (b) fires, or they diverged. The others are healthy. The edges are the measurements of the two groups that come
-- closest to the other group; separates: they do not overlap, NULL where a group is empty. (a) and (b) are measured as they
-- fire: by the smaller of the growth and that of the whole stream, where the states are the class token's; by the larger of
-- ‖g_L‖ and the gain times the error norm at chance. (d) allows for the rounding of accuracies.
with swept as (
    select
        flag, used, used * pow(10, decade) as threshold,
        count(*) filter (fires(flag, judged, threshold)) as n_flagged,
        count(*) filter (fires(flag, judged, threshold) <> is_flagged) as n_changed
    from judged_by($experiment) cross join unnest(range(-3, 4)) as decades(decade)
    where x is not null
    group by flag, used, threshold
)
select
    flag, used, threshold, n, n_not_finite, n_flagged, n_changed, same_from, same_to,
    n_degenerate, healthy_edge, degenerate_edge, separates
from swept join edges_of($experiment) using (flag, used)
order by flag, used, threshold;
