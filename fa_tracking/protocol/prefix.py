"""What runs before a block is the same with and without it: computed in one pass, and only returned in the next."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class _Returned(NamedTuple):
    value: Tensor
    version: int

    @property
    def is_untouched(self) -> bool:
        """Whether nobody has written into it since."""
        return self.value._version == self.version


class Prefix:
    """What the parts of a network returned in one forward pass, for further passes over the same batch.

    Its parts are its blocks, and the children of the network that have ended when the first block begins.
    """

    def __init__(self, model: nn.Module, blocks: Sequence[nn.Module]) -> None:
        self._blocks = [*blocks]
        self._heads = [child for child in model.children() if set(blocks).isdisjoint(child.modules())]
        self._returned: dict[nn.Module, list[_Returned | None]] = {}

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Inside, one forward pass of the whole network is kept, in place of the last one."""
        self._returned = defaultdict(list)
        with _forwards({part: self._kept(part) for part in (*self._heads, *self._blocks) if _is_plain(part)}):
            yield

    @contextmanager
    def returned(self, layer: int) -> Iterator[None]:
        """Inside, blocks up to and with ``layer``, and what runs before them, return what they did and compute nothing.

        One that ran several times, returned no tensor, or whose tensor was written into computes as ever.
        """
        parts = [*self._heads, *self._blocks[: layer + 1]]
        found = {part: self._returned[part][0] for part in parts if len(self._returned.get(part, ())) == 1}
        known = {part: kept.value for part, kept in found.items() if kept and kept.is_untouched}
        with _forwards({part: lambda *_, value=value, **__: value for part, value in known.items()}):
            yield

    def _kept(self, part: nn.Module) -> Any:
        forward, is_head = part.forward, part in self._heads

        def run(*args: Any, **keywords: Any) -> Any:
            out = forward(*args, **keywords)
            is_late = is_head and any(block in self._returned for block in self._blocks)
            usable = isinstance(out, Tensor) and not is_late
            self._returned[part].append(_Returned(out.detach(), out._version) if usable else None)
            return out

        return run


def _is_plain(module: nn.Module) -> bool:
    return not isinstance(module, torch.jit.ScriptModule) and "forward" not in vars(module)


@contextmanager
def _forwards(instead: dict[nn.Module, Any]) -> Iterator[None]:
    """Inside, these stand in the place of the modules' ``forward``; the hooks of the modules run as ever."""
    try:
        for module, forward in instead.items():
            module.forward = forward
        yield
    finally:
        for module in instead:
            vars(module).pop("forward", None)
