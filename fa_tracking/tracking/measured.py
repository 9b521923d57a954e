"""What was measured of a network, by its names in MLflow as metrics."""

from typing import TYPE_CHECKING

from fa_tracking.tracking import names

if TYPE_CHECKING:
    from fa_tracking.protocol.alignment import Alignment
    from fa_tracking.protocol.functional_report import Functional
    from fa_tracking.protocol.report import DiagnosticReport


def report_metrics(report: "DiagnosticReport") -> dict[str, float]:
    scalars = {
        names.MAX_BLOCK_GROWTH: report.max_per_block_growth,
        names.DEEPEST_GRAD_NORM: report.bp_grad_norms[-1],
        names.GRAD_GAIN: report.grad_gain,
        names.STREAM_GROWTH: report.stream_growth,
        names.CHANCE_ERROR: report.chance_error,
        names.STABILITY: report.cross_batch_stability,
        **{f"diagnostics/{name}": value for name, value in report.extra.items()},
    }
    return {
        **{key: value for key, value in scalars.items() if value is not None},
        **{names.residual_norm(layer): v for layer, v in enumerate(report.residual_norms) if v is not None},
        **{names.grad_norm(layer): v for layer, v in enumerate(report.bp_grad_norms) if v is not None},
    }


def alignment_metrics(found: "Alignment") -> dict[str, float]:
    series = (
        (names.alignment, found.gamma),
        (names.alignment_pooled, found.pooled),
        (names.alignment_null, found.null_mean),
        (names.alignment_null_sd, found.null_sd),
    )
    values = {name(layer): v for name, by_layer in series for layer, v in enumerate(by_layer) if v is not None}
    return {**values, names.ALIGNMENT_MISSING: float(found.missing)}


def functional_metrics(found: "Functional") -> dict[str, float]:
    series = [(names.perturbation, "_float32", found.rule.rho_float32)]
    for of, effect in (("", found.rule), ("_bp", found.bp), ("_random", found.random)):
        series += [(names.perturbation, of, effect.rho), (names.nudge, of, effect.nudge)]
    return {name(layer, of): v for name, of, by_layer in series for layer, v in enumerate(by_layer) if v is not None}
