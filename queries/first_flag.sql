-- title: First epoch at which each diagnostic fires, per run, and what stopping there would have saved
-- columns: method, architecture, width, depth, epochs, penalty, frozen_blocks, augmentation, also, seed, growth_epoch, grad_floor_epoch, drift_epoch, not_finite_epoch, first_epoch, accuracy_at_first, final_epoch, final_accuracy, epochs_saved, run_id
-- Thresholds are those of the run's audit; a run without one has none and is left out. Epoch 0 is the network before
-- training. (c) is not part of first_epoch: by itself it does not separate healthy runs from degenerate ones. An accuracy
-- is the last that was logged at or before its epoch.
select
    method, architecture, width, depth, epochs, penalty, frozen_blocks, augmentation, also, seed,
    a_epoch as growth_epoch, b_epoch as grad_floor_epoch, c_epoch as drift_epoch, n_epoch as not_finite_epoch,
    first_epoch, accuracy_at[first_epoch] as accuracy_at_first, final_epoch, accuracy_at[final_epoch] as final_accuracy,
    share_saved(first_epoch, planned) as epochs_saved, run_id
from first_flags_of($experiment)
order by method, architecture, width, depth, penalty, frozen_blocks, augmentation, seed, run_id;
