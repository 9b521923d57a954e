"""Watches one forward pass: every module as it runs, and every tensor that goes in and comes out."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import Node

from fa_tracking.protocol.flow import Flow
from fa_tracking.protocol.outputs import logits_of
from fa_tracking.protocol.runs import (
    Run,
    Value,
    _values,
    place,
    tensors,
)
from fa_tracking.protocol.undisturbed import Call


@dataclass
class _Open:
    """A run that has begun."""

    number: int
    began: int
    givens: tuple[Value, ...]
    turn: int


def watch(model: nn.Module, call: Call, inputs: Any, **keywords: Any) -> Flow:
    """Run the network once and note every module's runs.

    Raises:
        ValueError: the output holds no logits, or logits that no gradient can be asked of.
    """
    runs: dict[int, Run] = {}
    open_runs: dict[nn.Module, list[_Open]] = defaultdict(list)
    turns: Counter[nn.Module] = Counter()
    clock, numbers = count(), count()
    entered: list[Node] = []

    def watched(name: str, module: nn.Module) -> list[Any]:
        def before(_module: nn.Module, args: Any, kwargs: Any) -> None:
            if module is model and not entered:
                entered.extend(node for t in tensors((args, kwargs)) if (node := place(t)) is not None)
            begun = _Open(next(numbers), next(clock), _values((args, kwargs)), turns[module])
            turns[module] += 1
            open_runs[module].append(begun)

        def after(_module: nn.Module, _args: Any, output: Any) -> None:
            begun = open_runs[module].pop()
            returns = _values(output)
            runs[begun.number] = Run(name, module, begun.turn, begun.began, next(clock), begun.givens, returns)

        return [module.register_forward_pre_hook(before, with_kwargs=True), module.register_forward_hook(after)]

    handles = [handle for name, module in model.named_modules() for handle in watched(name, module)]
    try:
        with torch.enable_grad():
            output = call(inputs, **keywords)
    finally:
        for handle in handles:
            handle.remove()
    logits = place(logits_of(output[0] if keywords else output))
    if logits is None:
        raise ValueError(
            "the logits have no graph: computed under no_grad or detached, so that no gradient can be asked for"
        )
    return Flow([runs[number] for number in sorted(runs)], entered, output, logits)
