"""The parts of a compiled JSON schema: each makes a value from dice. Pure.

A node's `height` is how many levels its shortest value has: infinite until known, and for ever where there is no value.
From DEEP on only the shortest way is taken, so a schema that contains itself comes to an end.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headrace.core.errors import Rejected
from headrace.provider.scalar import Dice, refusal

DEEP = 5


class Node:
    __slots__ = ("height",)

    def __init__(self) -> None:
        self.height = math.inf

    def settle(self) -> bool:
        """Look again how high the shortest value is, from what the parts now say; whether that changed."""
        before, self.height = self.height, min(self.height, self.measure())
        return self.height < before

    def measure(self) -> float:
        return 0

    def make(self, dice: Dice, depth: int) -> Any:  # noqa: ARG002
        raise refusal("allows no value")


class Never(Node):
    """A schema that was refused, where a reference led."""

    __slots__ = ("why",)

    def __init__(self, why: Rejected) -> None:
        super().__init__()
        self.why = why


class Constant(Node):
    __slots__ = ("values",)

    def __init__(self, values: Sequence[Any]) -> None:
        super().__init__()
        self.values = values

    def make(self, dice: Dice, depth: int) -> Any:  # noqa: ARG002
        return self.values[dice.roll(len(self.values))]


class Made(Node):
    """A number or a text."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[[Dice], Any]) -> None:
        super().__init__()
        function(Dice(0))  # refuses now rather than in the middle of a value
        self.function = function

    def make(self, dice: Dice, depth: int) -> Any:  # noqa: ARG002
        return self.function(dice)


class Choice(Node):
    __slots__ = ("nodes", "possible")

    def __init__(self, nodes: Sequence[Node]) -> None:
        super().__init__()
        self.nodes = nodes
        self.possible: list[Node] = []

    def measure(self) -> float:
        return min(node.height for node in self.nodes)

    def make(self, dice: Dice, depth: int) -> Any:
        if depth >= DEEP:
            return min(self.nodes, key=lambda node: node.height).make(dice, depth)
        possible = self.possible
        if not possible:
            possible = self.possible = [node for node in self.nodes if node.height < math.inf]
        return possible[dice.roll(len(possible))].make(dice, depth)


class Reference(Node):
    __slots__ = ("name", "target")

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.target: Node = self

    def measure(self) -> float:
        return self.target.height + 1

    def make(self, dice: Dice, depth: int) -> Any:
        return self.target.make(dice, depth)


class Array(Node):
    __slots__ = ("first", "least", "most", "rest", "unique")

    def __init__(self, first: Sequence[Node], rest: Node | None, size: tuple[int, int], *, unique: bool) -> None:
        super().__init__()
        self.first = first
        self.rest = rest
        self.least, self.most = size
        self.unique = unique

    def _at(self, position: int) -> Node | None:
        return self.first[position] if position < len(self.first) else self.rest

    def measure(self) -> float:
        needed = [self._at(position) for position in range(min(self.least, len(self.first) + 1))]
        return 1 + max((node.height if node else math.inf for node in needed), default=-1)

    def make(self, dice: Dice, depth: int) -> list[Any]:
        dice.spend(1)
        size = self.least
        if depth < DEEP:
            size = max(size, min(max(1, len(self.first)), self.most))
            size += dice.roll(min(3, self.most - size + 1))
        made: list[Any] = []
        seen: set[str] = set()
        repeats = 0
        while len(made) < size and repeats < 50 + 20 * size:
            node = self._at(len(made))
            if node is None or node.height == math.inf:
                break
            value = node.make(dice, depth + 1)
            if self.unique:
                mark = json.dumps(value, sort_keys=True)
                if mark in seen:
                    repeats += 1
                    continue
                seen.add(mark)
            made.append(value)
        if len(made) < self.least:
            raise refusal(f"asks for {self.least} items where only {len(made)} can be made")
        return made


class Object(Node):
    __slots__ = ("extra", "fields", "least", "most", "plans", "required")

    def __init__(
        self, fields: Mapping[str, Node], required: frozenset[str], extra: Node | None, size: tuple[int, int]
    ) -> None:
        super().__init__()
        self.fields = fields
        self.required = required
        self.extra = extra
        self.least, self.most = size
        self.plans: list[list[tuple[str, Node]] | None] = [None, None]

    def measure(self) -> float:
        heights = [self.fields[name].height for name in self.required]
        if (missing := self.least - len(heights)) > 0:
            others = sorted(node.height for name, node in self.fields.items() if name not in self.required)
            further = self.extra.height if self.extra else math.inf
            heights.append(others[missing - 1] if missing <= len(others) else max([*others, further]))
        return 1 + max(heights, default=-1)

    def make(self, dice: Dice, depth: int) -> dict[str, Any]:
        dice.spend(1)
        deep = depth >= DEEP
        plan = self.plans[deep]
        if plan is None:
            plan = self.plans[deep] = self._plan(deep=deep)
        return {name: node.make(dice, depth + 1) for name, node in plan}

    def _plan(self, *, deep: bool) -> list[tuple[str, Node]]:
        """Which properties a value has: all that can be made, or where it is deep, as few as may be."""
        optional = [n for n, node in self.fields.items() if n not in self.required and node.height < math.inf]
        room = self.most - len(self.required)
        if deep:
            optional.sort(key=lambda name: self.fields[name].height)
            room = max(0, self.least - len(self.required))
        taken = self.required.union(optional[:room])
        plan = [(name, node) for name, node in self.fields.items() if name in taken]
        further = self.least - len(plan)
        if not self.fields and not deep:
            further = max(further, min(2, self.most))
        if self.extra is not None and self.extra.height < math.inf and further > 0:
            names = (f"key{number}" for number in range(1, len(self.fields) + further + 1))
            plan += [(name, self.extra) for name in names if name not in self.fields][:further]
        if len(plan) < self.least:
            raise refusal(f"asks for {self.least} properties where only {len(plan)} can be made")
        return plan
