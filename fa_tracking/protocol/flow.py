"""What one forward pass shows of a network: which modules ran on which tensors, and which tensors every path crosses.

A hidden state is a cut: from it, and from everything before it, every path to the logits goes through the next state.
In the terms of flow graphs the next state dominates the last one, seen from the logits (Lengauer and Tarjan 1979). What
lies on a residual branch is no cut, since the skip connection leads past it.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn
from torch.autograd.graph import Node

from fa_tracking.protocol.graph import Graph, operation
from fa_tracking.protocol.runs import (
    CONTAINERS,
    Run,
    _holds_matrix,
    _is_composite,
    contained,
    listed,
    parameters,
)

SUMS = {"Add", "Sub", "Rsub", "Cat", "Stack", "Addcmul", "Addcdiv", "Lerp"}
"""Operations that join a skip connection with its branch."""
NORMS = {"NativeLayerNorm", "NativeBatchNorm", "CudnnBatchNorm", "NativeGroupNorm", "FusedRmsNorm"}
SHAPES = "View UnsafeView ReshapeAlias Permute Transpose Squeeze Unsqueeze Slice CopySlices ConstantPadNd AvgPool2D"
ACTIVATIONS = "Relu LeakyRelu Prelu Gelu Silu Elu Mish Tanh Softplus Hardtanh Hardswish Clamp"
PASSED = (
    SUMS | NORMS | {"Mul", "Div", "Sum", "Clone", "ToCopy", "NativeDropout"} | {*SHAPES.split(), *ACTIVATIONS.split()}
)
"""What a skip connection may pass through from the state before a block to the state after it."""

SMALLEST = 20
"""A stream with less than a twentieth of another's parameters is none: it may be attention that pools tokens."""


@dataclass(frozen=True, eq=False)
class Block:
    """A run that carries the stream from one cut to a later one.

    Attributes:
        is_branch: it returns the residual branch, which is added to its input afterwards.
        given, returned: which of the run's tensors are the states.
    """

    run: Run
    before: Node
    after: Node
    is_branch: bool
    given: int = 0
    returned: int = 0


@dataclass(frozen=True, eq=False)
class Flow:
    """One forward pass, watched.

    Attributes:
        runs: of all modules, in the order of their beginnings; the first is the network's own.
        inputs: the places of the network's floating-point inputs.
        output: what the network returned.
    """

    runs: Sequence[Run]
    inputs: Sequence[Node]
    output: Any
    logits: Node

    @cached_property
    def graph(self) -> Graph:
        return Graph(self.logits)

    @cached_property
    def blocks(self) -> list[Block]:
        """The network's blocks on the path to the logits, in order, each as fine as the network's own modules are.

        They are composite modules from cut to cut, of the classes whose modules carry a skip connection or that have
        several, and what stands in the same list or between. A stage of blocks is opened into its blocks.
        """
        return self._best([run for run in self.runs[1:] if _is_composite(run.module)])

    @cached_property
    def stack(self) -> list[Block]:
        """The blocks; where no composite module is one, what stands in the outermost container of several."""
        model = self.runs[0].module
        return self.blocks or self.blocks_among(contained(model)) or self.blocks_among(listed(model))

    def blocks_among(self, modules: Sequence[nn.Module]) -> list[Block]:
        """As ``blocks``, of these modules whatever their classes."""
        return self._best([run for run in self.runs[1:] if run.module in set(modules)], by_class=False)

    def behind(self, state: Node) -> tuple[list[Run], list[Run]]:
        """The outermost modules on the path from a state to the logits that keep its shape: those with a skip
        connection, which are blocks, and the others, which may be part of the read-out."""
        cuts = self.graph.cuts(state)
        at = _positions(cuts)
        layers = [run for run in self.runs[1:] if not isinstance(run.module, CONTAINERS)]
        found = [
            block for run in layers if run.given_shape == run.returned_shape and (block := self._block(run, cuts, at))
        ]
        outermost, _ = _nested(found)
        blocks = [block.run for block in outermost if self._is_residual(block)]
        return blocks, [block.run for block in outermost if block.run not in blocks]

    def carries(self, before: Node, after: Node) -> bool:
        """Whether what follows a block reads the state from what it returns alone: no skip connection leads past it."""
        return self.graph.dominates(after, before) or self._skips(after, before)

    def beside(self, blocks: Sequence[Block]) -> tuple[list[Run], list[Run]]:
        """The outermost runs of modules with a skip connection of their own that are not on the path of ``blocks``:
        those whose output only feeds one of the blocks from aside, as an encoder feeds a decoder; and all others."""
        at = _positions(self.graph.cuts(blocks[0].before))
        feeding: list[Run] = []
        others: list[Run] = []
        for run, node in self._off_path(blocks, at):
            joined = next((at[cut] for cut in self.graph.cuts(node) if cut in at), -1)
            is_fed = any(at[b.before] < joined <= at[b.after] for b in blocks)
            (feeding if is_fed else others).append(run)
        return _outermost(feeding), _outermost(others)

    def _off_path(self, blocks: Sequence[Block], at: Mapping[Node, int]) -> Iterator[tuple[Run, Node]]:
        """Runs that are blocks by their skip connection, or of a block's class, and what they return."""
        kinds = {type(block.run.module) for block in blocks}
        for run in self.runs[1:]:
            is_among = any(block.run.holds(run) or run.holds(block.run) or block.run is run for block in blocks)
            is_module = _is_composite(run.module) and _holds_matrix(run.module)
            nodes = [v.node for v in run.returns if v.node is not None and v.node in self.graph]
            if is_among or not is_module or not nodes or any(node in at for node in nodes):
                continue
            is_embedding = self.graph.dominates(blocks[0].before, nodes[0])
            is_alike = type(run.module) in kinds and not is_embedding
            taken = [v.node for v in run.givens if v.node is not None and v.node in self.graph]
            if is_alike or any(self._skips(nodes[0], node) for node in taken):
                yield run, nodes[0]

    @cached_property
    def _made_by_layers(self) -> set[Node]:
        """What modules with weights return."""
        return {run.returned for run in self.runs[1:] if run.returned is not None and _holds_matrix(run.module)}

    @cached_property
    def _taken_by_layers(self) -> set[Node | None]:
        """What modules with weights take."""
        return {value.node for run in self.runs[1:] if _holds_matrix(run.module) for value in run.givens}

    def _best(self, candidates: Sequence[Run], by_class: bool = True) -> list[Block]:
        """Of the streams of blocks the one that ends nearest to the logits, then the one that holds most parameters:
        of an encoder and a decoder the decoder's. A stream of few parameters is part of the read-out."""
        streams = [self._on(self.graph.cuts(source), candidates, by_class) for source in self._sources(candidates)]
        sizes = [parameters(block.run.module for block in blocks) for blocks in streams]
        ranked = [
            (-self.graph.depth(blocks[-1].after), size, blocks)
            for blocks, size in zip(streams, sizes, strict=True)
            if blocks and SMALLEST * size >= max(sizes)
        ]
        return max(ranked, key=lambda each: each[:2])[2] if ranked else []

    def _sources(self, candidates: Sequence[Run]) -> list[Node]:
        """Where streams may begin: the inputs, and whatever a candidate takes, such as learned queries."""
        taken = [value.node for run in candidates for value in run.givens]
        return [node for node in dict.fromkeys([*self.inputs, *taken]) if node in self.graph]  # type: ignore[misc]

    def _on(self, cuts: Sequence[Node], candidates: Sequence[Run], by_class: bool) -> list[Block]:
        at = _positions(cuts)
        found = [block for run in candidates if (block := self._block(run, cuts, at))]
        blocks = sorted(self._finest(found), key=lambda b: (at[b.before], at[b.after]))
        if by_class:
            several = Counter(type(b.run.module) for b in blocks)
            kinds = {type(b.run.module) for b in blocks if several[type(b.run.module)] > 1 or self._is_residual(b)}
            lists = {_pattern(b.run.name) for b in blocks if type(b.run.module) in kinds}
            kept = [type(b.run.module) in kinds or _pattern(b.run.name) in lists for b in blocks]
            first, last = (
                kept.index(True) if True in kept else 0,
                len(kept) - kept[::-1].index(True) if True in kept else 0,
            )
            blocks = blocks[first:last]  # and whatever stands between them
            while blocks and blocks[0].before in self.inputs and not self._is_residual(blocks[0]) and len(blocks) > 1:
                del blocks[0]  # it makes the embedding
        return blocks

    def _block(self, run: Run, cuts: Sequence[Node], at: Mapping[Node, int]) -> Block | None:
        """The block that a run is on the way through ``cuts``, if it is one."""
        givens = [(at[v.node], i) for i, v in enumerate(run.givens) if v.node is not None and v.node in at]
        if not givens or not _holds_matrix(run.module):
            return None
        returns = [(at[v.node], j) for j, v in enumerate(run.returns) if v.node is not None and v.node in at]
        if returns:
            ends, returned = max(returns)
            begins, given = max(((place, i) for place, i in givens if place < ends), default=(-1, 0))
            return Block(run, cuts[begins], cuts[ends], False, given, returned) if begins >= 0 else None
        begins, given = givens[0]
        before, after = cuts[begins], cuts[min(begins + 1, len(cuts) - 1)]
        is_behind = run.returned in self.graph and self.graph.dominates(after, run.returned)
        is_alike = run.givens[given].shape == run.returned_shape and before is not after
        is_end = run.returned not in self._taken_by_layers  # the branch does not go on in another module
        if is_alike and is_behind and is_end and self._skips(after, before, by_itself=True):
            return Block(run, before, after, True, given)
        return None

    def _finest(self, blocks: Sequence[Block]) -> list[Block]:
        """Without those that others tile: a module is opened where no skip connection leads past or between the blocks
        within, these are a stack or a single one, and all modules of its class can be."""
        outermost, inner = _nested(blocks)
        closed = {type(b.run.module) for b in blocks if not self._is_tiled(b, inner[b])}

        def opened(block: Block) -> Iterator[Block]:
            if type(block.run.module) in closed:
                yield block
                return
            for within in inner[block]:
                yield from opened(within)

        return [finest for block in outermost for finest in opened(block)]

    def _is_tiled(self, block: Block, inner: Sequence[Block]) -> bool:
        if not inner:
            return False
        ends = [block.before, *(b.after for b in inner)]
        begins = [*(b.before for b in inner), block.after]
        gaps = [(end, begin) for end, begin in zip(ends, begins, strict=True) if end is not begin]
        if any(self._skips(begin, end) for end, begin in gaps):
            return False
        several = Counter(type(b.run.module) for b in inner)
        if len(inner) > 1 and max(several.values()) == 1:
            return False  # parts of a block, such as attention and feed-forward, each with a skip connection of its own
        return any(map(self._is_residual, inner)) or 2 * parameters(b.run.module for b in inner) >= parameters(
            [block.run.module]
        )

    def _is_residual(self, block: Block) -> bool:
        return block.is_branch or self._skips(block.after, block.before)

    @cached_property
    def _known_skips(self) -> dict[tuple[Node, Node, bool], bool]:
        return {}

    def _skips(self, after: Node, before: Node, by_itself: bool = False) -> bool:
        """Whether a skip connection leads from one state to the other: a path of scales, normalisations and sums, one
        of them with something else that is made of the state; ``by_itself``: through no module with weights."""
        key = (after, before, by_itself)
        if key not in self._known_skips:
            self._known_skips[key] = self._find_skip(after, before, self._made_by_layers if by_itself else ())
        return self._known_skips[key]

    def _find_skip(self, after: Node, before: Node, avoiding: Collection[Node]) -> bool:
        behind = self.graph.made_of(before)
        seen, ahead = {(after, False)}, [(after, False)]
        while ahead:
            node, is_summed = ahead.pop()
            if node is before:
                if is_summed:
                    return True
                continue
            if operation(node) not in PASSED:
                continue
            is_sum = operation(node) in SUMS
            for following, _ in node.next_functions:
                others = (other for other, _ in node.next_functions if other is not following)
                joined = is_summed or (is_sum and any(other in behind for other in others))
                is_open = following is before or following not in avoiding
                if following is not None and is_open and (following, joined) not in seen:
                    seen.add((following, joined))
                    ahead.append((following, joined))
        return False


def _positions(cuts: Any) -> dict[Node, int]:
    return {node: place for place, node in enumerate(cuts)}


def _pattern(name: str) -> str:
    """A module's name without its numbers: alike for what stands in one list, or in a list of lists."""
    return re.sub(r"\d+", "*", name)


def _nested(blocks: Sequence[Block]) -> tuple[list[Block], dict[Block, list[Block]]]:
    """The outermost of the blocks, and what stands directly within each."""
    outermost: list[Block] = []
    inner: dict[Block, list[Block]] = {block: [] for block in blocks}
    above: list[Block] = []
    for block in sorted(blocks, key=lambda b: b.run.began):
        while above and not above[-1].run.holds(block.run):
            above.pop()
        (inner[above[-1]] if above else outermost).append(block)
        above.append(block)
    return outermost, inner


def _outermost(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if not any(other.holds(run) for other in runs)]
