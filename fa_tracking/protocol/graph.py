"""The graph that autograd keeps of a forward pass, and which of its nodes every path crosses."""

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.autograd.graph import Node


class Graph:
    """The autograd graph behind some logits, as a tree of dominators whose root they are."""

    def __init__(self, root: Node) -> None:
        self._parents: dict[Node, Node] = {}
        self._depths = {root: 0}
        self._made_of: dict[Node, set[Node]] = {}
        self.users: dict[Node, list[Node]] = defaultdict(list)
        order = from_the_root(root)
        for node in order:
            for following, _ in node.next_functions:
                if following is not None:
                    self.users[following].append(node)
        for node in order[1:]:
            first, *others = self.users[node]
            for other in others:
                first = self._common(first, other)
            self._parents[node], self._depths[node] = first, self._depths[first] + 1

    def __contains__(self, node: Node | None) -> bool:
        return node in self._depths

    def depth(self, node: Node) -> int:
        """How many cuts lie between a node and the logits."""
        return self._depths[node]

    def dominates(self, later: Node | None, earlier: Node | None) -> bool:
        """Whether every path from ``earlier`` to the logits goes through ``later``; a node dominates itself."""
        if later is None or earlier is None or later not in self or earlier not in self:
            return False
        while self._depths[earlier] > self._depths[later]:
            earlier = self._parents[earlier]
        return earlier is later

    def made_of(self, earlier: Node) -> set[Node]:
        """All that is computed from a node, and the node itself."""
        if earlier not in self._made_of:
            seen, ahead = {earlier}, [earlier]
            while ahead:
                for user in self.users.get(ahead.pop(), ()):
                    if user not in seen:
                        seen.add(user)
                        ahead.append(user)
            self._made_of[earlier] = seen
        return self._made_of[earlier]

    def cuts(self, source: Node) -> list[Node]:
        """All that dominate ``source``, from itself to the logits."""
        found = [source]
        while found[-1] in self._parents:
            found.append(self._parents[found[-1]])
        return found

    def _common(self, a: Node, b: Node) -> Node:
        while a is not b:
            if self._depths[a] >= self._depths[b]:
                a = self._parents[a]
            else:
                b = self._parents[b]
        return a


def from_the_root(root: Node) -> list[Node]:
    """All nodes behind ``root``, each after every node that uses it."""
    finished: list[Node] = []
    seen = {root}
    ahead: list[tuple[Node, Iterator[Any]]] = [(root, iter(root.next_functions))]
    while ahead:
        node, following = ahead[-1]
        for after, _ in following:
            if after is not None and after not in seen:
                seen.add(after)
                ahead.append((after, iter(after.next_functions)))
                break
        else:
            finished.append(node)
            ahead.pop()
    return finished[::-1]


def nodes_behind(logits: Tensor) -> list[Node]:
    """The operations that made some logits."""
    return [] if logits.grad_fn is None else from_the_root(logits.grad_fn)


def operation(node: Node) -> str:
    """What a node is the backward pass of, such as ``Add``."""
    return re.sub(r"Backward\d*$", "", node.name())
