"""One stage as it is rehearsed: its calls, and what becomes of its items. Enters shares and means, leaves a stage for the
engine in which chance stands for data. Calls no function of the user's."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import msgspec

from headrace.core.call import Call, Message, Reply, Request
from headrace.core.digest import Digest
from headrace.core.errors import PageError
from headrace.core.event import StageInfo
from headrace.core.item import Item
from headrace.engine.best import Best
from headrace.engine.passage import finished
from headrace.engine.roll import Roll
from headrace.engine.runner import Local
from headrace.engine.stage import After, Next, Step
from headrace.engine.steps import Gather, Sieve, Spread
from headrace.flow.estimate import Charge
from headrace.sim.likeness import Known
from headrace.task.stages import Reduce, Top

CHARACTERS = 4
"""Of a token, as the simulated provider counts."""
_DIGEST = Digest(b"rehearsal")
_CLOSE = 1e-9

Usd = Callable[[float, float, int], float | None]
"""Dollars of so many tokens in and out in so many calls."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one stage before the run."""

    info: StageInfo
    known: Known | None = None
    """Of who is called; None for a stage that calls nobody."""
    account: str = ""
    timeout_s: float = 300.0
    charge: Charge = Charge("usage")
    params: Mapping[str, Any] = {}
    max_output: int | None = None
    steady: bool = False
    after: After = After.EXTEND
    failure: str = ""
    samples: int = 1
    tokens: Sequence[int] = ()
    """In, of calls like those that will be made; for items whose own are not known."""
    again: float = 0.0
    """The share of answers that are asked for once more."""
    asked: float = 1.0
    """The share of the items that it is for."""
    passes: float = 1.0
    """The share of the items that a filter lets through, or of the answers that are none."""
    fails: float = 0.0
    """The share of the items that end here."""
    makes: float = 1.0
    """Items that are made of each; of a Reduce that goes by a column, of all of them."""
    work_s: float = 0.0
    """What a Reduce's function takes."""
    stage: Top | Reduce | None = None
    usd: Usd | None = None
    """What its calls cost; None where that is not known."""

    def onward(self, coming: float) -> float:
        """Of so many items, those that go on, about."""
        if isinstance(self.stage, Top):
            return min(coming, float(self.stage.count)) if self.stage.window is None else coming
        if isinstance(self.stage, Reduce):
            return min(coming, coming / self.stage.every if self.stage.every else self.makes)
        if self.after is After.SPREAD or self.info.kind == "expand":
            return coming * self.makes
        return coming * self.passes * (1.0 - self.fails if not self.failure else 1.0)

    def scaled(self, share: float) -> "Part":
        """For so much of the items: what is counted over all of them is less as well."""
        stage = self.stage
        if isinstance(stage, Top):
            stage = msgspec.structs.replace(stage, count=max(1, round(stage.count * share)))
        makes = max(1.0, self.makes * share) if isinstance(stage, Reduce) else self.makes
        return msgspec.structs.replace(self, stage=stage, makes=makes)


class Chances:
    """What chance makes of the items at one stage. Those that begin at a later one pass by."""

    def __init__(
        self, tokens: Sequence[int], begins: Sequence[int], chance: Random | None = None, part: Part | None = None,
        number: int = 0,
    ) -> None:  # fmt: skip
        self.tokens, self.begins, self.number = tokens, begins, number
        self._part = part
        self._random = (chance or Random(0)).random  # noqa: S311 - a rehearsal
        self.skips = part is not None and (part.asked < 1.0 or any(begin > number for begin in begins))

    def passes_by(self, item: Item) -> bool:
        place = item.position
        return place < len(self.begins) and self.begins[place] > self.number

    def _begins_here(self, place: int) -> bool:
        if place >= len(self.tokens) or self.tokens[place] < 0:
            return False
        return self.begins[place] == self.number if self.begins else self.number == 0

    def asked(self, item: Item) -> bool:
        if self.passes_by(item):
            return False
        if self._begins_here(item.position):  # that it is asked is known
            return True
        return self._part is None or self.holds(self._part.asked)

    def holds(self, share: float) -> bool:
        return share >= 1.0 - _CLOSE or self._random() < share

    def through(self, item: Item) -> bool:
        return self.passes_by(item) or self._part is None or self.holds(self._part.passes)

    def score(self, _item: Item) -> float:
        return self._random()

    def some(self, mean: float) -> int:
        return int(mean) + (self._random() < mean % 1.0)

    def size(self, place: int) -> int:
        """Tokens in; those of an item that begins here are known, or negative."""
        if self._begins_here(place):
            return self.tokens[place]
        sizes = self._part.tokens if self._part is not None else ()
        return sizes[int(self._random() * len(sizes))] if sizes else 0

    def group(self, groups: float) -> int:
        return int(self._random() * max(1.0, groups))


class Prompts:
    """A task whose prompts are as large as the real ones, and whose values are as likely."""

    digest = _DIGEST
    reusable = False

    def __init__(self, part: Part, chances: Chances) -> None:
        self.samples = part.samples
        self._part, self._chances = part, chances
        self._requests: dict[int, Request] = {}
        self._text = " " * (CHARACTERS * max(max(chances.tokens, default=0), max(part.tokens, default=0)))

    def request(self, item: Item, sample: int = 0) -> Request:  # noqa: ARG002 - the port's
        tokens = self._chances.size(item.position)
        request = self._requests.get(tokens)
        if request is None:
            message = Message("user", self._text[: CHARACTERS * tokens])
            request = self._requests[tokens] = Request(_DIGEST, messages=(message,), params=self._part.params)
        return request

    def value(self, reply: Reply) -> Any:
        after = self._part.after
        if after is After.KEEP:
            return self._chances.holds(self._part.passes)
        if after is After.SPREAD:
            return [None] * self._chances.some(self._part.makes)
        return reply.text

    def again(self, _request: Request, _reply: Reply, _error: Exception) -> None:
        return None

    def agreed(self, _values: Sequence[Any]) -> tuple[int, float]:
        return 0, 1.0

    def failed(self, _value: Any) -> PageError | None:
        fails = self._part.fails
        return PageError("As an earlier one failed.") if fails and self._chances.holds(fails) else None

    def onward(self, item: Item, _value: Any) -> Item:
        return item


def around(share: float, chances: Chances) -> Callable[[Call], Call]:
    """So many answers are no value, and are asked for once more."""

    def asking(call: Call) -> Call:
        async def asked(request: Request) -> Reply:
            reply = await call(request)
            return await call(request) if chances.holds(share) else reply

        return asked

    return asking


def local_of(part: Part, chances: Chances) -> Local:
    """A stage that calls nobody: the engine's own, with chance for data."""

    def make(name: str, roll: Roll, onward: Next | None) -> Step:
        end, stage = onward or _end(name, roll), part.stage
        if isinstance(stage, Top):
            return Best(
                name, roll, end, most=stage.count, score=chances.score, so_far=stage.so_far,
                within_s=stage.within or stage.window, again=stage.window is not None,
            )  # fmt: skip
        if isinstance(stage, Reduce):
            return _Gathered(name, roll, end, stage, part, chances)
        if part.info.kind == "expand":
            return _Spread(name, roll, end, part, chances)
        return Sieve(name, roll, end, chances.through)

    return Local(part.info, make, isinstance(part.stage, Reduce) and part.stage.each)


def _end(name: str, roll: Roll) -> Next:
    async def end(passages: list[Any]) -> None:
        await roll.end([finished(passage, name) for passage in passages])

    return end


class _Spread(Spread):
    def __init__(self, name: str, roll: Roll, onward: Next, part: Part, chances: Chances) -> None:
        super().__init__(name, roll, onward, "")
        self._part, self._chances = part, chances

    def _list(self, item: Item) -> list[Any]:
        return [None] * (1 if self._chances.passes_by(item) else self._chances.some(self._part.makes))

    def _child(self, item: Item, _value: Any) -> Item:
        return item


class _Gathered(Gather):
    def __init__(self, name: str, roll: Roll, onward: Next, stage: Reduce, part: Part, chances: Chances) -> None:
        async def work(value: Any) -> Any:
            if part.work_s:
                await asyncio.sleep(part.work_s)
            return value

        super().__init__(
            name, roll, onward, by=stage.by, every=stage.every, by_source=stage.each, fold=_nothing, function=work
        )  # fmt: skip
        self._grouped, self._part, self._chances = bool(stage.by), part, chances

    def _place(self, item: Item) -> Any:
        if not self._grouped:
            return super()._place(item)
        return False, self._chances.group(self._part.makes)


def _nothing(_value: Any, _row: Any) -> None:
    return None
