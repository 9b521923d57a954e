-- title: The verdict board: every run of any status, beside its cell's mean accuracy and sample standard deviation
-- columns: experiment, cell, method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, augmentation, also, n, n_runs, n_diverged, n_aborted, n_unaudited, accuracy_mean, accuracy_sd, cell_flags, cell_verdict, seed, run_name, status, aborted_at, evidence, accuracy, growth, grad_norm, stability, margin_pp, fires_a, fires_b, fires_c, fires_d, flags, verdict, kinds, inexact, h_norm_explosion_ratio, g_norm_floor, stability_drift_ceiling, frozen_acc_margin_pp, source, exported_at, changed_at, run_id
-- n counts the seeds behind accuracy_mean and accuracy_sd: finished, audited, with a finite accuracy; runs of one seed are
-- averaged first. Of the n_runs finished runs of a cell, those that diverged, were aborted or are not audited are in no
-- mean. cell_flags: how many runs of the cell each diagnostic flags. inexact: the numbers of partial evidence that are
-- bounds or proxies, by letter as JSON; kinds says which. exported_at: of the store, NULL where it is not known; changed_at:
-- when the run began, ended or was audited, the last of these. Both in UTC.
select
    r.experiment, coalesce(r.cell, '') as cell,
    r.method, r.architecture, r.width, r.depth, r.epochs, r.lr, r.penalty, r.frozen_blocks, r.augmentation, c.also,
    n, n_runs, n_diverged, n_aborted, n_unaudited, accuracy_mean, accuracy_sd,
    c.flags as cell_flags, c.verdict as cell_verdict,
    r.seed, r.run_name, r.status, r.aborted_at, a.evidence,
    a.headline_accuracy as accuracy, a.max_block_growth as growth, a.deepest_grad_norm as grad_norm, a.stability,
    a.margin_pp, a.fires_a, a.fires_b, a.fires_c, a.fires_d, a.flags,
    shown_verdict(
        a.verdict, a.h_norm_explosion_ratio, a.g_norm_floor, a.stability_drift_ceiling, a.frozen_acc_margin_pp,
        further := a.further
    ) as verdict,
    a.kinds, a.inexact,
    a.h_norm_explosion_ratio, a.g_norm_floor, a.stability_drift_ceiling, a.frozen_acc_margin_pp,
    r.source, e.exported_at, greatest(r.start_time, r.end_time, a.audited_at) as changed_at, r.run_id
from runs r
left join cells_of($experiment) c on coalesce(r.cell, '') = c.cell
left join audits a using (run_id)
left join exports e on e.source = r.source
where is_asked(r.experiment, $experiment)
order by
    r.method, r.architecture, r.width, r.depth, r.epochs, r.lr, r.penalty, r.frozen_blocks, r.augmentation, r.cell,
    r.seed, r.start_time, r.run_id;
