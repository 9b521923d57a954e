-- title: What stopping at the first flag saves, over the seeds: share of the epochs, accuracy there and at the end
-- columns: method, architecture, width, depth, epochs, penalty, frozen_blocks, also, rule, n, n_flagged, n_aborted, first_epoch_min, first_epoch_max, share_saved_mean, share_saved_sd, n_accuracy, accuracy_at_first, accuracy_at_end, change_pp, change_sd
-- A row a cell and rule: stop at the end of the first epoch at which the flag fires; thresholds as in first_flag. n
-- counts the seeds with an audited run that ended as planned, n_flagged those in which the flag fires: the epochs and
-- shares are theirs, and where it never fires there are none. The accuracies are of n_accuracy of these, which did not
-- diverge and have one at both epochs. change_pp: at the end less at the first flag, so that at 0 or below stopping
-- loses nothing. A single flag that never fires has no row. Runs of one seed are averaged first. Aborted runs have no
-- end: they are counted and are in no number.
with stops as (
    select f.*, unnest([
        {'place': 1, 'rule': 'a', 'stop_epoch': a_epoch}, {'place': 2, 'rule': 'b', 'stop_epoch': b_epoch},
        {'place': 3, 'rule': 'c', 'stop_epoch': c_epoch}, {'place': 4, 'rule': 'n', 'stop_epoch': n_epoch},
        {'place': 5, 'rule': 'a, b or n', 'stop_epoch': first_epoch}
    ], recursive := true)
    from first_flags_of($experiment) f where aborted_at is null
),
by_sample as (
    select
        cell, place, rule, sample, min(stop_epoch) as earliest, max(stop_epoch) as latest,
        avg(share_saved(stop_epoch, planned)) as share,
        avg(accuracy_at[stop_epoch]) filter (has_both) as at_first,
        avg(accuracy_at[final_epoch]) filter (has_both) as at_end
    from (
        select
            *,
            isfinite(accuracy_at[stop_epoch]) and isfinite(accuracy_at[final_epoch]) and not is_diverged as has_both
        from stops
    )
    group by cell, place, rule, sample
),
by_rule as (
    select
        cell, place, rule, count(*) as n, count(earliest) as n_flagged,
        min(earliest) as first_epoch_min, max(latest) as first_epoch_max,
        avg(share) as share_saved_mean, stddev_samp(share) as share_saved_sd, count(at_first) as n_accuracy,
        avg(at_first) as accuracy_at_first, avg(at_end) as accuracy_at_end,
        avg(100 * (at_end - at_first)) as change_pp, stddev_samp(100 * (at_end - at_first)) as change_sd
    from by_sample group by cell, place, rule
)
select
    c.method, c.architecture, c.width, c.depth, c.epochs, c.penalty, c.frozen_blocks, c.also, rule,
    r.n, n_flagged, c.n_aborted, r.* exclude (cell, place, rule, n, n_flagged)
from by_rule r join cells_of($experiment) c using (cell)
where n_flagged > 0 or place = 5
order by c.method, c.architecture, c.width, c.depth, c.epochs, c.penalty, c.frozen_blocks, cell, place;
