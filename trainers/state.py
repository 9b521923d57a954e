"""The training state of a run as tensors and JSON, and back: a run that goes on from it ends with the same bits."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fa_tracking.errors import FATrackError

PARTS = ("model", "rule")


@dataclass
class Training:
    """What changes while a run trains: the network, its learning rule, the optimizer, the data order, and no more."""

    model: nn.Module
    rule: nn.Module
    optimizer: torch.optim.Optimizer
    order: torch.Generator

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of it by name, the states of the random generators among them."""
        modules = {f"{part}/{k}": v for part in PARTS for k, v in getattr(self, part).state_dict().items()}
        moments = {f"optimizer/{i}/{k}": v for i, k, v in self._moments() if isinstance(v, Tensor)}
        return {**modules, **moments, "random/order": self.order.get_state(), "random/torch": torch.get_rng_state()}

    def values(self) -> dict[str, Any]:
        """What of it is no tensor, as JSON."""
        moments = [[i, k, v] for i, k, v in self._moments() if not isinstance(v, Tensor)]
        return {"groups": self.optimizer.state_dict()["param_groups"], "moments": moments}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Take over what ``tensors`` and ``values`` gave.

        Raises:
            FATrackError: they are of another network or rule.
        """
        try:
            for part in PARTS:
                mine = {k.removeprefix(f"{part}/"): v for k, v in tensors.items() if k.startswith(f"{part}/")}
                getattr(self, part).load_state_dict(mine)
            moments: dict[int, dict[str, Any]] = {}
            named = [(*k.split("/", 2)[1:], v) for k, v in tensors.items() if k.startswith("optimizer/")]
            for index, key, value in [*named, *values["moments"]]:
                moments.setdefault(int(index), {})[key] = value
            self.optimizer.load_state_dict({"state": moments, "param_groups": values["groups"]})
            self.order.set_state(tensors["random/order"])
            torch.set_rng_state(tensors["random/torch"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            said = str(error).splitlines()[0]
            raise FATrackError(f"the saved training state does not fit this run: {said}") from error

    def _moments(self) -> Iterator[tuple[int, str, Any]]:
        for index, moments in self.optimizer.state_dict()["state"].items():
            for key, value in moments.items():
                yield index, key, value
