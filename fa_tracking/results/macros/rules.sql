-- How a diagnostic judges a number, and how a verdict is shown.

-- What (a) is judged by, as in a report: a class token may grow alone, so it is the smaller of its growth and that of the
-- whole stream, where this is known. A NaN explains nothing.
create or replace macro judged_growth(growth, stream_growth) as
if(growth is null or isnan(growth), growth, least(growth, stream_growth));

-- ‖g_L‖ were the error that of a uniform output over the classes: the gain times it, CHANCE_ERROR of grad_norm.py where it
-- is not known.
create or replace macro at_chance(grad_gain, chance_error) as grad_gain * coalesce(chance_error, $chance_error);

-- What (b) is judged by: a small gradient may be explained by a small error, so it is the larger of ‖g_L‖ and that at
-- chance. A NaN explains nothing.
create or replace macro judged_grad(grad_norm, at_chance) as
if(isfinite(at_chance) and not isnan(grad_norm), greatest(grad_norm, at_chance), grad_norm);

-- What (d) is judged by: two accuracies that were once held in float32 are off by up to ROUNDING_PP of frozen_control.py
-- together.
create or replace macro judged_margin(margin_pp) as margin_pp + $rounding_pp;

-- 1 where a diagnostic fires above its threshold, -1 where below; NULL where none of this letter is known. Filled in from
-- fa_tracking/protocol/diagnostics.
create or replace macro sign_of(flag) as $signs[flag];

-- Whether a diagnostic fires by what it is judged by: strictly beyond its threshold. NULL where that is; a NaN fires nothing
-- but n. An audit's flags are read as it stored them: this is for numbers that no audit judged, those of an epoch, and for
-- thresholds that no audit used.
create or replace macro fires(flag, judged, threshold) as
not isnan(judged) and sign_of(flag) * judged > sign_of(flag) * threshold;

-- A verdict as it is shown: marked where its audit had other thresholds than the protocol's, those of further diagnostics
-- among them. The thresholds of the protocol are filled in from fa_tracking/protocol/diagnostics, the mark from
-- fa_tracking/protocol/verdicts.py.
create or replace macro shown_verdict(verdict, $threshold_names, further := null) as coalesce(
    verdict || if(
        $is_other or coalesce(len(list_filter(
            cast(further as struct(flag varchar, value double, threshold double, fires boolean, kind varchar)[]),
            lambda f: f.threshold <> $further_thresholds[f.flag]
        )) > 0, false),
        $other_thresholds, ''
    ),
    'not audited'
);
