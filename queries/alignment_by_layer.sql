-- title: Γ by layer at the last epoch, over the seeds, beside the null of fresh feedback
-- columns: method, architecture, width, depth, epochs, lr, penalty, frozen_blocks, augmentation, also, layer, n, n_missing, mean, sd, low, high, null_mean, null_sd, null_low, null_high, n_null, n_beyond_null
-- n counts the seeds in which Γ is a measurement at that layer, n_missing those in which it is none: its gradient is
-- below the floor. mean and sd: of Γ over the n seeds; low and high: Student's t at 95 %. null_mean and null_sd: of Γ over
-- fresh draws of the feedback, averaged over n_null seeds; null_low and null_high: two null_sd around null_mean;
-- n_beyond_null: seeds whose Γ is more than two null_sd from their null_mean. Runs that diverged or were aborted are left
-- out, and runs that never had a Γ.
with by_sample as (
    select
        cell, layer, sample,
        avg(alignment) filter (isfinite(alignment)) as alignment,
        avg(alignment_null_mean) filter (isfinite(alignment_null_mean)) as null_mean,
        avg(alignment_null_sd) filter (isfinite(alignment_null_sd)) as null_sd
    from last_layers_of($experiment)
    where aborted_at is null and not is_diverged and run_id in (select run_id from layers where alignment is not null)
    group by cell, layer, sample
),
by_layer as (
    select
        cell, layer, count(alignment) as n, count(*) - count(alignment) as n_missing,
        avg(alignment) as mean, stddev_samp(alignment) as sd,
        avg(null_mean) as null_mean, avg(null_sd) as null_sd, count(null_mean) as n_null,
        count(*) filter (abs(alignment - null_mean) > 2 * null_sd) as n_beyond_null
    from by_sample group by cell, layer
)
select c.method, c.architecture, c.width, c.depth, c.epochs, c.lr, c.penalty, c.frozen_blocks, c.augmentation, c.also,
    layer, l.n, n_missing, mean, sd, i.low, i.high,
    null_mean, null_sd, null_mean - 2 * null_sd as null_low, null_mean + 2 * null_sd as null_high, n_null, n_beyond_null
from by_layer l join cells_of($experiment) c using (cell),
lateral (select interval_of(mean, sd, l.n) as i)
order by c.method, c.architecture, c.width, c.depth, c.epochs, c.penalty, c.frozen_blocks, cell, layer;
