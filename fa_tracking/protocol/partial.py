"""PartialReport: what some of the numbers allow to be said, such as older logs hold; never trustworthy on silence."""

from collections.abc import Mapping
from dataclasses import field
from types import ModuleType
from typing import Annotated, Any, Self

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from fa_tracking.protocol import VERSION
from fa_tracking.protocol.diagnostics import Kind, Reference, catalogue, finite, grad_norm, residual_norm
from fa_tracking.protocol.report import STRICT, Accuracy, DiagnosticReport, DiagnosticThresholds, Section, Verdict

INCONCLUSIVE = "inconclusive: partial evidence: "

GIVEN = {
    "h0_norm": "‖h_0‖",
    "control_accuracy": "accuracy of the frozen control",
    "grad_batch": f"batch of the logged gradients, which the import brought to {grad_norm.REFERENCE_BATCH},",
}
"""What may be given by hand, as it is printed."""


def _is_norm(norm: float) -> float:
    if norm < 0:
        raise ValueError("a norm is not negative")
    return norm


Norm = Annotated[float, AfterValidator(_is_norm)]


@dataclass(frozen=True, config=STRICT)
class PartialReport(Verdict):
    """What is known of one trained network, and what can be said of it. Numbers that are not known are None.

    Of each diagnostic ``kinds`` says how far its number is known: (a) is exact where every ‖h_l‖ or the growth itself
    is known, else a lower bound, which can show an explosion and not exclude one; (b) is exact where ‖g_L‖ is known,
    else that of the deepest known layer, a proxy; the others are exact or not measured.

    Attributes:
        residual_norms, bp_grad_norms: ‖h_0‖ … ‖h_L‖ and ‖g_0‖ … ‖g_L‖ as in ``DiagnosticReport``; the last is None
            too where L is not known.
        max_block_growth: (a) as it was logged; it counts where not every norm is known.
        given: numbers among these that were given by hand and not logged, by name.

    The others are as in ``DiagnosticReport``.
    """

    EVIDENCE = "partial"
    HEADING = "FA-Track diagnostic report from partial evidence"

    method_name: str
    notes: str
    residual_norms: tuple[Norm | None, ...]
    bp_grad_norms: tuple[Norm | None, ...]
    stability_layer: int | None
    cross_batch_stability: float | None
    headline_acc: Accuracy
    frozen_baseline_acc: Accuracy
    thresholds: DiagnosticThresholds = DiagnosticThresholds()
    max_block_growth: Norm | None = None
    grad_gain: Norm | None = None
    n_batches: int | None = None
    control_runs: tuple[str, ...] = ()
    control_note: str = ""
    extra: dict[str, float | None] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    stream_growth: Norm | None = None
    chance_error: Norm | None = None
    reference: Reference | None = None
    protocol_version: str = VERSION
    given: dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_layers(
        cls,
        residual_norms: Mapping[int, float],
        bp_grad_norms: Mapping[int, float],
        depth: int | None,
        deepest_grad_norm: float | None = None,
        **known: Any,
    ) -> Self:
        """The report of norms by layer.

        Args:
            depth: L; None where it is not known. A depth that a deeper layer contradicts is not known either.
            deepest_grad_norm: ‖g_L‖, where it is known as such.
            known: the other attributes.

        Raises:
            ValueError: a number is not what it should be; the message names the field.
        """
        if depth is not None and depth < max((*residual_norms, *bp_grad_norms), default=0):
            depth = None
        hidden, grads = _with_gaps(residual_norms, depth), _with_gaps(bp_grad_norms, depth)
        if grads[-1] is None:
            grads = (*grads[:-1], deepest_grad_norm)
        layer = None if depth is None else depth // 2
        return cls(residual_norms=hidden, bp_grad_norms=grads, stability_layer=layer, **known)

    @property
    def max_per_block_growth(self) -> float | None:
        """(a): the largest ‖h_{l+1}‖/‖h_l‖, or a lower bound of it."""
        computed = residual_norm.largest(self.residual_norms)
        return self.max_block_growth if self._growth_is_logged else computed

    @property
    def _growth_is_logged(self) -> bool:
        return self.max_block_growth is not None and None in self.residual_norms

    @property
    def kinds(self) -> dict[str, Kind]:
        """How far each diagnostic's number is known, by its letter; without ``n``, which is of all numbers."""
        kinds = super().kinds
        if kinds[residual_norm.FLAG] is Kind.EXACT and None in self.residual_norms and not self._growth_is_logged:
            kinds[residual_norm.FLAG] = Kind.BOUND
        if kinds[grad_norm.FLAG] is Kind.EXACT and self.bp_grad_norms[-1] is None:
            kinds[grad_norm.FLAG] = Kind.PROXY
        return kinds

    def wording(self, diagnostic: ModuleType) -> str:
        """What the verdict says where ``diagnostic`` fires; of a proxy with its name."""
        is_proxy = self.kinds.get(diagnostic.FLAG) is Kind.PROXY
        return f"{diagnostic.WORDING} (by proxy {self._proxy})" if is_proxy else diagnostic.WORDING

    def inconclusive(self) -> str:
        """What is known of each diagnostic, where nothing fires but not all that is required is known exactly."""
        words = {
            Kind.EXACT: "pass",
            Kind.PROXY: f"pass by proxy {self._proxy}",
            Kind.BOUND: "likely pass",
            Kind.NOT_MEASURED: "not measured",
        }
        return INCONCLUSIVE + "; ".join(f"({flag}) {words[kind]}" for flag, kind in self.kinds.items())

    @property
    def _proxy(self) -> str:
        return f"‖g_{grad_norm.deepest_layer(self)}‖"

    def sections(self) -> list[Section]:
        """What to print of each diagnostic, with its kind, and of what was given by hand."""
        sections = [
            section._replace(heading=f"{section.heading}: {self.kinds[d.FLAG]}" if d is not finite else section.heading)
            for d, section in zip(catalogue(), super().sections(), strict=True)
        ]
        by_hand = [f"{GIVEN.get(name, name)} = {number:g}" for name, number in self.given.items()]
        return [*sections, Section("given by hand", by_hand)] if by_hand else sections


def _with_gaps(norms: Mapping[int, float], depth: int | None) -> tuple[float | None, ...]:
    """By layer, None where it is not known; a last None where more layers may follow."""
    layers = range(1 + (max(norms, default=-1) + 1 if depth is None else depth))
    return tuple(norms.get(layer) for layer in layers)


Report = DiagnosticReport | PartialReport
