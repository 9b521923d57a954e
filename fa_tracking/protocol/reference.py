"""Whether the gradient that autograd returns is BP's: the derivative of the function that the network computes.

Feedback alignment is written as a custom autograd function, a hook, a detached branch; then the backward pass is not
the derivative of the forward pass. Whatever the way, a finite difference tells: φ = ⟨logits, r⟩ for a random r, moved
along a random direction v at h_0, in float64, against ⟨∂φ/∂h_0, v⟩. The tolerance comes from the difference's own
error, by two step sizes.
"""

from typing import Any

from torch import nn

from fa_tracking.protocol.finite_difference import Function, NotChecked, some
from fa_tracking.protocol.table import Reference
from fa_tracking.protocol.taps import Tap
from fa_tracking.protocol.undisturbed import undisturbed

SAMPLES = 16
DIRECTIONS = 3


def check(network: nn.Module, inputs: Any, batch: int, at: Tap | None, rejoined: bool) -> tuple[Reference, list[str]]:
    """Whether the gradient at the states is BP's, and what a reader must know of it.

    Args:
        inputs, batch: of a batch, as the network takes them, and its number of samples.
        at: where h_0 is read; where None, h_0 is the first state that the network returns.
        rejoined: whether the gradient flows through ``detach()``.
    """
    few = some(inputs, batch, SAMPLES)
    problem: Exception | None = None
    for given in [inputs] if few is None else [few, inputs]:
        try:
            return _held_against_difference(network, given, at, rejoined)
        except NotChecked as error:
            problem = error
            break
        except Exception as error:  # whatever a forward pass in float64, or of few samples, may raise
            problem = problem or error
    reason = str(problem).strip().partition("\n")[0]
    return Reference.NOT_CHECKED, [f"the reference gradient is not checked: {reason:.160}"]


def _held_against_difference(
    network: nn.Module, inputs: Any, at: Tap | None, rejoined: bool
) -> tuple[Reference, list[str]]:
    """By the gradient in float64; where only the backward pass does not run in it, by that in the network's type."""
    try:
        return undisturbed(network, lambda call: _checked(Function(call, network, inputs, at)), True, rejoined)
    except NotChecked:
        raise
    except Exception:
        own = undisturbed(network, lambda call: Function(call, network, inputs, at).slope, False, rejoined)
        return undisturbed(network, lambda call: _checked(Function(call, network, inputs, at, own)), True, rejoined)


def _checked(function: "Function") -> tuple[Reference, list[str]]:
    remarks = function.coupling()
    verdicts = []
    for number in range(DIRECTIONS):
        verdicts.append(function.agrees(is_first=number == 0))
        if verdicts.count(True) * 2 > DIRECTIONS:
            return Reference.CHECKED, remarks
    if function.is_narrowed:
        raise NotChecked("the network computes in less than float64")
    if not function.is_repeatable():
        raise NotChecked("the network's output changes from call to call")
    if verdicts.count(False) * 2 > DIRECTIONS:
        slope, difference = function.last
        told = f"along a random direction at h_0 autograd has {slope:.4g}, a finite difference {difference:.4g}"
        return Reference.NOT_BP, [f"the reference gradient is not BP's: {told}{function.suspects()}", *remarks]
    raise NotChecked("finite differences do not settle")
