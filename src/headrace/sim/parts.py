"""What is known of each stage of a pipeline before it runs: from the store, from the figures of an earlier run, else
assumed, and said to be. Enters a trail and the store's history; leaves what a rehearsal takes for granted."""

import math
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from itertools import islice
from statistics import NormalDist
from typing import Any

import msgspec

from headrace.core.errors import HeadraceError
from headrace.core.item import Item, Outcome
from headrace.core.limits import Learnt
from headrace.core.ports import History, RunInfo, Store
from headrace.engine.forecast import Assumed
from headrace.engine.leg import Calling
from headrace.engine.lender import recall
from headrace.engine.snapshot import ASKED_AGAIN, Snapshot, StageFigures, snapshot_of
from headrace.engine.stage import After
from headrace.flow.estimate import Size, size_of
from headrace.flow.quantiles import middle
from headrace.sim.likeness import Known
from headrace.sim.outlook import ENOUGH, Asked, Outlook, Told, identity_of, lognormal, outlook
from headrace.sim.part import Part, Usd
from headrace.sim.rehearsal import Work
from headrace.sim.trail import Begin, Seen, Stop, Trail
from headrace.task.condition import Condition
from headrace.task.extract import Extract
from headrace.task.fetch import Fetch
from headrace.task.pipeline import Cascade
from headrace.task.prompt import Template
from headrace.task.stages import Expand, Filter, Reduce, Top
from headrace.task.work import Ask

LOOKED_UP = 500
"""Of an earlier run's rows so many are rendered as prompts of each stage."""
KEYS_MOST = 100_000
"""Of earlier outcomes so many are looked at, of the latest runs."""
UNSURE = 0.3
"""Of a Cascade's answers, where nothing is known."""
GROUP = 10
"""Items of a Reduce that goes by a column, where nothing is known."""
FUNCTION_S, FETCH_S, EXTRACT_S = 0.1, 1.0, 0.5
SIGMA = 0.5
A_PAGE, A_RESULT = 4000, 200
"""Characters that a page or document, and a function's result, put into a prompt, where nothing is known."""
_P95 = NormalDist().inv_cdf(0.95)


class Earlier(msgspec.Struct, frozen=True):
    """What the store has of runs of the same work."""

    snapshot: Snapshot | None = None
    """Of the last one that made calls."""
    rows: Sequence[Item] = ()
    """As their last stages got them."""
    done: AbstractSet[str] = frozenset()
    """The keys of items that one of them is done with: what it asked of them is in the store."""

    @property
    def again(self) -> float:
        """The share of the answers that were asked for once more."""
        found = self.snapshot
        if found is None or found.calls < ENOUGH:
            return 0.0
        count = found.paid_again.get(ASKED_AGAIN, 0)
        asking = [stage.calls for stage in found.stages if stage.model]
        answered = (sum(asking) if asking else found.calls) - count
        return min(1.0, count / answered) if answered > 0 else 0.0

    def figures(self, name: str) -> StageFigures | None:
        """Of a stage that enough items came to."""
        stages = self.snapshot.stages if self.snapshot is not None else ()
        return next((each for each in stages if each.name == name and each.taken >= ENOUGH), None)


def earlier_of(history: History, spec: Mapping[str, Any], *, rows: int = LOOKED_UP) -> Earlier:
    """Runs of the same work, whatever they were made over."""
    asked = identity_of(spec)
    snapshot: Snapshot | None = None
    found: list[Item] = []
    done: set[str] = set()
    for info in history.runs():
        if identity_of(info.spec) != asked:
            continue
        if snapshot is None or not snapshot.calls:
            whole = history.run(info.id)
            snapshot = snapshot_of(whole.figures if whole is not None else None) or snapshot
        for outcome in _outcomes(history, info) if rows and len(done) < KEYS_MOST else ():
            if len(found) < rows and outcome.item is not None:
                found.append(Item(outcome.key, outcome.position, outcome.item))
            if outcome.ok:
                done.add(outcome.key)
    return Earlier(snapshot, found, done)


def _outcomes(history: History, info: RunInfo) -> Iterator[Outcome]:
    for dropped in (False, True):
        yield from islice(history.scan(info.id, dropped=dropped), KEYS_MOST)


class Staged(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline as it is rehearsed."""

    work: Work
    outlook: Outlook


async def staged(trail: Trail, earlier: Earlier, store: Store, work: Work, usd: Mapping[str, Usd]) -> Staged:
    """`usd` are the prices of the stages that have one. `work` is how the run goes about it."""
    maker = _Maker(trail, earlier, store, usd)
    parts = [await maker.part(number, stop) for number, stop in enumerate(trail.stops)]
    tokens = [maker.tokens(begin) for begin in trail.begins]
    begins = [begin.stage for begin in trail.begins]
    nothing = Known(seconds={})
    seen = Outlook(
        known=next((part.known for part in parts if part.known is not None), nothing), tokens=tokens,
        guessed=max(maker.guessed, default=0.0), found=max(maker.found, default=0.0), assumed=maker.assumed,
        notes=maker.sentences(),
    )  # fmt: skip
    return Staged(
        work=msgspec.structs.replace(work, tokens=tokens, begins=begins, parts=tuple(parts)), outlook=seen
    )  # fmt: skip


class _Maker:
    """Makes the parts one after another, and knows how long the texts are that each adds."""

    def __init__(self, trail: Trail, earlier: Earlier, store: Store, usd: Mapping[str, Usd]) -> None:
        self._trail, self._earlier, self._store, self._usd = trail, earlier, store, usd
        self.assumed: list[Assumed] = []
        self._notes: dict[str, list[str]] = {}
        """Each once, with the stages that it is of."""
        self.guessed: list[float] = []
        self.found: list[float] = []
        self._made: dict[int, Sequence[int]] = {}
        """By stage, the tokens of what begins there, in order."""
        self._next: dict[int, int] = {}
        self._characters = A_RESULT
        """Of the column that was added last."""

    def tokens(self, begin: Begin) -> int:
        """In, of its first call; negative where they are not known."""
        sizes = self._made.get(begin.stage)
        if begin.size is None or sizes is None:
            return -1
        place = self._next.get(begin.stage, 0)
        self._next[begin.stage] = place + 1
        return sizes[place]

    async def part(self, number: int, stop: Stop) -> Part:
        seen, figures = self._trail.seen[number], self._earlier.figures(stop.name)
        if not isinstance(stop.stage, Calling):
            return self._local(stop, seen, figures)
        if isinstance(stop.value, Ask | Cascade) and stop.stage.info.model:
            part = await self._asking(number, stop, stop.stage, seen)
        else:
            part = self._function(stop, stop.stage, seen, figures)
        part = self._selective(part, stop, seen, figures)
        stored = self._trail.stored_at(number)
        if not stored:
            return part
        self._learnt(stop, "in the store", stored)
        return msgspec.structs.replace(part, asked=part.asked * (1.0 - stored))

    def _note(self, stage: str, sentence: str) -> None:
        self._notes.setdefault(sentence, []).append(stage)

    def sentences(self) -> tuple[str, ...]:
        return tuple(f"{', '.join(stages)}: {sentence}" for sentence, stages in self._notes.items())

    # Stages that ask.

    async def _asking(self, number: int, stop: Stop, calling: Calling, seen: Seen) -> Part:
        sizes = await self._sizes(stop, calling, seen)
        learnt = await recall(self._store, calling.account.name)
        begun = [begin.size for begin in self._trail.begins if begin.stage == number and begin.size is not None]
        told = Told(
            stated=calling.stated, learnt=learnt, work=seen.experience.calls(), charge=calling.charge,
            start=calling.account.start, most=calling.account.most,
            max_output=next((size.max_output for size in (*begun, *sizes)), None),
        )  # fmt: skip
        whole = outlook(Asked(sizes=[*begun, *sizes], items=0, stored=0, unaskable=0, params={}), told)
        self._say(stop.name, whole)
        self._made[number] = whole.tokens[: len(begun)]
        self._characters = round(4 * _mean(whole.known.output_tokens))
        params = self._params(calling)
        return Part(
            info=calling.info, known=whole.known, account=calling.account.name, timeout_s=calling.timeout_s,
            charge=calling.charge, params=params, max_output=told.max_output, after=calling.after,
            failure=calling.failure, samples=calling.task.samples, tokens=whole.tokens, again=self._earlier.again,
            usd=self._usd.get(stop.name),
        )  # fmt: skip

    def _say(self, name: str, whole: Outlook) -> None:
        self.assumed += [msgspec.structs.replace(each, what=f"{name}: {each.what}") for each in whole.assumed]
        for note in whole.notes:
            self._note(name, note)
        self.guessed.append(whole.guessed)
        self.found.append(whole.found)

    def _params(self, calling: Calling) -> Mapping[str, Any]:
        for item in (*self._earlier.rows, *self._trail.rows):
            try:
                return calling.task.request(item).params
            except HeadraceError:
                continue
        return {}

    async def _sizes(self, stop: Stop, calling: Calling, seen: Seen) -> list[Size]:
        """Of prompts like those that will be rendered: of these items, of an earlier run's, else estimated."""
        if len(seen.sizes) >= ENOUGH:
            return seen.sizes
        sizes = [*seen.sizes, *await self._rendered(calling, seen)]
        if len(sizes) >= ENOUGH or (sizes and stop is self._trail.stops[0]):
            return sizes
        guessed = [size for size in map(self._guess(stop, calling), self._trail.rows) if size is not None]
        if guessed:
            self._note(
                stop.name,
                f"How long its prompts are is not known; {self._characters:,} characters are assumed for what stages before "
                "it add.",
            )
        return guessed or sizes

    async def _rendered(self, calling: Calling, seen: Seen) -> list[Size]:
        """The prompts of an earlier run's rows; what the store has of their answers is learnt."""
        requests = []
        for item in self._earlier.rows:
            try:
                requests.append(calling.task.request(item))
            except HeadraceError:
                continue
        if not seen.experience.calls().answered and calling.task.reusable:
            found = await self._store.find([request.digest for request in requests])
            for request in requests:
                reply = found.get(request.digest)
                if reply is not None:
                    seen.experience.add("", reply.seconds, size_of(request), reply.input_tokens, reply.output_tokens)
        return [size_of(request) for request in requests]

    def _guess(self, stop: Stop, calling: Calling) -> Any:
        """A row's prompt, with as much text for each column that is not there yet as a stage is taken to add."""
        prompt = stop.value.prompt if isinstance(stop.value, Ask) else ""
        if isinstance(stop.value, Cascade):
            prompt = " ".join(each.prompt for each in stop.value.stages if isinstance(each, Ask))
        fields = Template(prompt).fields if prompt else ()
        filler = "x" * max(1, self._characters)

        def size(item: Item) -> Size | None:
            row = dict(item.data) if isinstance(item.data, Mapping) else {"item": item.data}
            row = {**dict.fromkeys(fields, filler), **row}
            try:
                return size_of(calling.task.request(msgspec.structs.replace(item, data=row)))
            except HeadraceError:
                return None

        return size

    # Stages that call a function, a page, a document.

    def _function(self, stop: Stop, calling: Calling, seen: Seen, figures: StageFigures | None) -> Part:
        measured = seen.experience.calls().seconds
        kind = calling.info.kind
        if sum(measured.values()) >= ENOUGH:
            seconds, origin = measured, "learnt"
        elif figures is not None and figures.p50_s:
            spread = math.log(max(1.0, (figures.p95_s or figures.p50_s) / figures.p50_s)) / _P95
            seconds, origin = lognormal(figures.p50_s, max(0.01, spread)), "learnt"
        else:
            default = {"fetch": FETCH_S, "extract": EXTRACT_S}.get(kind, FUNCTION_S)
            seconds, origin = lognormal(default, SIGMA), "assumed"
            self._note(stop.name, f"How long its calls take is not known; {default:g} s are assumed.")
        self._characters = A_PAGE if isinstance(stop.value, Fetch | Extract) else A_RESULT
        if isinstance(stop.value, Extract):
            self._characters = min(A_PAGE, stop.value.max_chars or A_PAGE)
        self.assumed.append(
            Assumed(f"{stop.name}: seconds of a call", f"{_middle(seconds):.3g} s in the median", origin)
        )
        account = calling.account
        known = Known(
            seconds=seconds, stated=calling.stated, start=account.start, most=account.most, learnt=Learnt(),
        )  # fmt: skip
        fails = figures.failed / figures.taken if figures is not None else 0.0
        return Part(
            info=calling.info, known=known, account=account.name, timeout_s=calling.timeout_s, charge=calling.charge,
            steady=calling.steady, after=calling.after, failure=calling.failure, fails=fails,
        )  # fmt: skip

    # What becomes of the items.

    def _selective(self, part: Part, stop: Stop, seen: Seen, figures: StageFigures | None) -> Part:
        asked = 1.0
        if isinstance(stop.stage, Calling) and stop.stage.when is not None:
            asked = self._asked(stop, seen, figures)
        if part.after is After.KEEP:
            return msgspec.structs.replace(part, passes=self._passes(stop, seen, figures), asked=asked)
        if part.after is After.SPREAD:
            return msgspec.structs.replace(part, makes=self._makes(stop, seen, figures), asked=asked)
        return msgspec.structs.replace(part, asked=asked)

    def _asked(self, stop: Stop, seen: Seen, figures: StageFigures | None) -> float:
        """For how many of its items it is."""
        if stop.is_told and seen.taken >= ENOUGH:
            return self._learnt(stop, "asked about", seen.asked / seen.taken)
        if figures is not None and figures.calls > figures.retries:
            return self._learnt(stop, "asked about", min(1.0, (figures.calls - figures.retries) / figures.taken))
        shown = self._share_of_rows(getattr(stop.value, "when", ""))
        if shown is not None:
            return self._learnt(stop, "asked about", shown)
        share = UNSURE if isinstance(stop.value, Cascade) else 1.0
        return self._taken(stop, "asked about", share, f"It is taken to be for {100 * share:.0f} % of the items")

    def _passes(self, stop: Stop, seen: Seen, figures: StageFigures | None) -> float:
        if figures is not None:
            return self._learnt(stop, "let through", min(1.0, figures.passed / figures.taken))
        if seen.taken >= ENOUGH and isinstance(stop.value, Filter) and isinstance(stop.value.keep, str):
            return self._learnt(stop, "let through", seen.passed / seen.taken)
        shown = self._share_of_rows(stop.value.keep) if isinstance(stop.value, Filter) else None
        if shown is not None:
            return self._learnt(stop, "let through", shown)
        return self._taken(stop, "let through", 1.0, "It is taken to let all items through")

    def _share_of_rows(self, given: object) -> float | None:
        """For how many of the source's rows a condition holds; None where it is of columns that are not there yet."""
        if not isinstance(given, str) or not given:
            return None
        condition = Condition(given)
        rows = [item.data for item in self._trail.rows if isinstance(item.data, Mapping)]
        rows = [row for row in rows if row.keys() >= set(condition.fields)]
        holds = 0
        for row in rows:
            with suppress(HeadraceError):  # such a row will fail there
                holds += condition.holds(row)
        return holds / len(rows) if rows else None

    def _makes(self, stop: Stop, seen: Seen, figures: StageFigures | None) -> float:
        value = stop.value
        if figures is not None:
            return self._learnt(stop, "made of each", figures.passed / figures.taken, share=False)
        if seen.taken >= ENOUGH and isinstance(value, Expand) and isinstance(value.into, str):
            return self._learnt(stop, "made of each", seen.passed / seen.taken, share=False)
        self._taken(stop, "made of each", 1.0, "It is taken to make one of each item", share=False)
        return 1.0

    def _learnt(self, stop: Stop, what: str, value: float, *, share: bool = True) -> float:
        said = f"{100 * value:.0f} % of the items" if share else f"{value:.3g} items"
        self.assumed.append(Assumed(f"{stop.name}: {what}", said, "learnt"))
        return value

    def _taken(self, stop: Stop, what: str, value: float, why: str, *, share: bool = True) -> float:
        self._learnt(stop, what, value, share=share)
        self.assumed[-1] = msgspec.structs.replace(self.assumed[-1], origin="assumed")
        self._note(stop.name, f"{why}, as nothing is known; a pilot would tell (--pilot 50).")
        return value

    def _local(self, stop: Stop, seen: Seen, figures: StageFigures | None) -> Part:
        value, info = stop.value, stop.stage.info
        if isinstance(value, Top):
            return Part(info=info, stage=value)
        if isinstance(value, Reduce):
            return Part(info=info, stage=value, makes=self._groups(stop, value, figures))
        if isinstance(value, Expand):
            return Part(info=info, makes=self._makes(stop, seen, figures))
        return Part(info=info, passes=self._passes(stop, seen, figures))

    def _groups(self, stop: Stop, value: Reduce, figures: StageFigures | None) -> float:
        """How many items it makes."""
        items = len(self._trail.begins)
        if value.each:
            return float(self._trail.items)
        if not value.by:
            return 1.0
        if figures is not None:
            return self._learnt(stop, "made of all", max(1.0, float(figures.passed)), share=False)
        groups = max(1.0, items / GROUP)
        return self._taken(stop, "made of all", groups, f"{GROUP} items are taken to go together", share=False)


def _middle(bins: Mapping[int, int]) -> float:
    left = sum(bins.values()) / 2
    for place in sorted(bins):
        left -= bins[place]
        if left <= 0:
            return middle(place)
    return 0.0


def _mean(bins: Mapping[int, int]) -> float:
    total = sum(bins.values())
    return sum(middle(place) * count for place, count in bins.items()) / total if total else A_RESULT / 4
