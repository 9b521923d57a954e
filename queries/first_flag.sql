-- title: First epoch at which each diagnostic fires, per run, and what stopping there would have saved
-- params: experiment
-- columns: method, architecture, width, depth, penalty, frozen_blocks, augmentation, seed, growth_epoch, grad_floor_epoch, drift_epoch, not_finite_epoch, first_epoch, accuracy_at_first, final_epoch, final_accuracy, epochs_saved, run_id
-- Thresholds are those of the run's audit; a run without one has none and is left out. Epoch 0 is the network before
-- training. (c) is not part of first_epoch: by itself it does not separate healthy runs from degenerate ones.
select
    method, architecture, width, depth, penalty, frozen_blocks, augmentation, seed,
    a_epoch as growth_epoch, b_epoch as grad_floor_epoch, c_epoch as drift_epoch, n_epoch as not_finite_epoch,
    first_epoch, at_first.accuracy as accuracy_at_first, final_epoch, at_end.accuracy as final_accuracy,
    share_saved(first_epoch, planned) as epochs_saved, f.run_id
from first_flags_of($experiment) f
left join accuracies_of($experiment) at_first on at_first.run_id = f.run_id and at_first.step = first_epoch
left join accuracies_of($experiment) at_end on at_end.run_id = f.run_id and at_end.step = final_epoch
order by method, architecture, width, depth, penalty, frozen_blocks, augmentation, seed, f.run_id;
