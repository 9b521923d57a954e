-- title: What each diagnostic measured of every run, in the healthy and the degenerate group, and the gap between these
-- columns: method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, augmentation, also, seed, flag, used, value, state, is_degenerate, n, n_not_finite, n_degenerate, same_from, same_to, healthy_edge, degenerate_edge, separates, verdict, run_id
-- A row a run and flag; the runs, groups, edges and n are those of threshold_sensitivity. value: as the diagnostic is
-- judged, NULL where it was not measured. state: flagged, passing, not finite or not measured.
select
    method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, augmentation, also, seed, flag, used, value,
    case
        when value is null then 'not measured' when x is null then 'not finite'
        when is_flagged then 'flagged' else 'passing'
    end as state,
    is_degenerate, n, n_not_finite, n_degenerate, same_from, same_to, healthy_edge, degenerate_edge, separates,
    verdict, run_id
from judged_by($experiment) join edges_of($experiment) using (flag, used)
order by flag, used, is_degenerate, value, run_id;
