"""The network from a hidden state on, as a function of that state: h_l is moved where it is made, and the rest runs.

No module is asked for it. The calls of torch in a forward pass are numbered; one of them makes h_l. In a later pass
over the same inputs the calls before it compute nothing and return NaN in the right shape; it returns the moved state;
all others run. Where the logits of the state as it was are not those of the whole pass to the last bit, something else
than h_l leads on from before it, and whole passes are run, in which h_l alone is moved.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode

from fa_tracking.protocol import taps
from fa_tracking.protocol.outputs import logits_of
from fa_tracking.protocol.runs import nth_tensor, tensors
from fa_tracking.protocol.taps import State, Tap
from fa_tracking.protocol.undisturbed import Call


class NotContinued(Exception):  # noqa: N818  it is no failure
    """Why a network cannot be run on from a state."""


@dataclass(frozen=True)
class _Made:
    """Where a state is made: the number of the call, and which of its results."""

    number: int
    which: int


class Pass:
    """One forward pass over a batch, and the network from each of its states on.

    Attributes:
        hidden: h_0 … h_L as they passed, in the shape that the network gives them.
        logits: (B, classes), detached.
        is_narrowed: whether the network made a narrower tensor of a float64 one.
    """

    def __init__(self, call: Call, inputs: Any, places: Sequence[Tap]) -> None:
        """
        Args:
            places: where the states are read; empty: the network returns them.
        """
        self._call, self._inputs = call, inputs
        self._keywords = {} if places else {"return_hidden": True}
        self._calls = calls = _Recorded()
        states: list[State] = []

        def keep(tap: Tap, values: Any) -> None:
            with torch._C.DisableTorchFunction():  # what reads a state is no call of the network
                states.append(taps.state(nth_tensor(values, tap.which), len(states), tap))

        with torch.enable_grad(), taps.hooked(places, keep), calls:
            output = call(inputs, **self._keywords)
        if not places:
            states += [taps.state(h, layer) for layer, h in enumerate(output[1])]
        self._made = [calls.made.get((state.edge.node, state.edge.output_nr)) for state in states]
        calls.made.clear()  # its graph is as large as all that the network has computed
        self.hidden = [state.value for state in states]
        self.logits = self._logits(output)
        self.is_narrowed = calls.is_narrowed
        self._starts: dict[int, bool] = {}

    def multiplications(self, layer: int) -> float:
        """Those of the network from h_layer on, as the shapes of its weights tell."""
        made = self._made[layer]
        return 0.0 if made is None else sum(self._calls.costs[made.number + 1 :])

    def continued(self, layer: int, by: Tensor | None = None) -> Tensor:
        """The logits where h_layer is moved by ``by``, of its shape, and nothing else.

        Raises:
            NotContinued: no call of torch makes the state, it is not made again, or the network computes something else
                from call to call.
        """
        if layer not in self._starts:
            self._starts[layer] = self._can_start(layer)
        return self._moved(layer, by, is_started=self._starts[layer])

    def _can_start(self, layer: int) -> bool:
        try:
            if _same(self._moved(layer, None, is_started=True), self.logits):
                return True
        except NotContinued:
            raise
        except Exception:  # whatever a network may do with what is no number
            pass
        if not _same(self._moved(layer, None, is_started=False), self.logits):
            raise NotContinued("the network's output changes from call to call")
        return False

    def _moved(self, layer: int, by: Tensor | None, is_started: bool) -> Tensor:
        made = self._made[layer]
        if made is None:
            raise NotContinued(f"h_{layer} is made by an operation that cannot be moved")
        h = self.hidden[layer]
        mode = _Moving(made, h if by is None else h + by, self._calls.results if is_started else None)
        with torch.enable_grad(), mode:  # as the recorded pass: without a graph some networks run other calls
            output = self._call(self._inputs, **self._keywords)
        if not mode.is_moved:
            raise NotContinued(f"h_{layer} is not made again")
        return self._logits(output)

    def _logits(self, output: Any) -> Tensor:
        return logits_of(output[0] if self._keywords else output).detach()


class _Recorded(TorchFunctionMode):
    """Inside, the calls of torch are numbered, and what stands in the place of their results is kept.

    Attributes:
        made: by place in the graph.
        results, costs: of each call what it returned, without its values, and how many multiplications it takes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[tuple[Node, int], _Made] = {}
        self.results: list[Any] = []
        self.costs: list[float] = []
        self.is_narrowed = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        number, given = len(self.results), [*tensors((args, kwargs or {}))]
        results = [*tensors(found)]
        for which, result in enumerate(results):
            if result.grad_fn is not None:
                self.made.setdefault((result.grad_fn, result.output_nr), _Made(number, which))
        if any(t.dtype != torch.float64 for t in results):
            self.is_narrowed |= any(t.dtype == torch.float64 for t in given)
        self.results.append(_without_values(found))
        self.costs.append(_multiplications(results, given))
        return found


class _Moving(TorchFunctionMode):
    """Inside, the call that makes a state returns another one; those before return what is recorded, where given."""

    def __init__(self, made: _Made, state: Tensor, recorded: Sequence[Any] | None) -> None:
        super().__init__()
        self._made, self._state, self._recorded = made, state, recorded
        self._number = -1
        self.is_moved = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._number += 1
        if self._number > self._made.number:
            return func(*args, **(kwargs or {}))
        if self._recorded is not None:
            found = self._recorded[self._number]
            return found if self._number < self._made.number else self._with_state(found)
        found = func(*args, **(kwargs or {}))
        return found if self._number < self._made.number else self._with_state(found)

    def _with_state(self, found: Any) -> Any:
        """What the call returned with the state in it; written into it where others may hold the very tensor."""
        results = [*tensors(found)]
        if self._made.which >= len(results) or results[self._made.which].shape != self._state.shape:
            return found
        self.is_moved = True
        if isinstance(found, Tensor) and (self._recorded is not None or found._version == 0):
            return self._put()
        if self._recorded is not None:
            return _replaced(found, results[self._made.which], self._put())
        results[self._made.which].data.copy_(self._state)
        return found

    def _put(self) -> Tensor:
        """With a graph, as the state had: a network may ask for it. No leaf: what follows may write into it."""
        return self._state.detach().requires_grad_().clone()


def _same(logits: Tensor, others: Tensor) -> bool:
    return torch.allclose(logits, others, rtol=0, atol=0, equal_nan=True)


def _without_values(found: Any) -> Any:
    """What a call returned, NaN in the place of its floating-point values, and no memory for them."""
    if isinstance(found, Tensor):
        return found.new_full((), torch.nan).expand(found.shape) if found.is_floating_point() else found
    if isinstance(found, Mapping):
        return {name: _without_values(each) for name, each in found.items()}
    if isinstance(found, list | tuple) and any(True for _ in tensors(found)):
        each = [_without_values(one) for one in found]
        return type(found)(*each) if hasattr(found, "_fields") else list(each) if isinstance(found, list) else (*each,)
    return found


def _replaced(found: Any, one: Tensor, other: Tensor) -> Any:
    if found is one:
        return other
    if isinstance(found, list | tuple):
        each = [_replaced(inner, one, other) for inner in found]
        return type(found)(*each) if hasattr(found, "_fields") else list(each) if isinstance(found, list) else (*each,)
    return found


def _multiplications(results: Sequence[Tensor], given: Sequence[Tensor]) -> float:
    """Of a product with weights; for what has none, a number an entry."""
    if not results:
        return 0.0
    weights = [w for w in given if w.ndim > 1 and w.is_leaf and w.requires_grad]
    return float(results[0].numel() * max(1, sum(w.numel() // max(1, w.shape[0]) for w in weights)))
