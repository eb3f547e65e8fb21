"""What is known before a run: how much is to be asked, and what earlier runs and statements say of the endpoint.

Enters a run that is ready to start, leaves what a rehearsal takes for granted, each with where it comes from. Reads the
source and the store; calls nobody.
"""

import math
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from statistics import NormalDist
from typing import Any

import msgspec

from headrace.core.errors import HeadraceError
from headrace.core.item import Item, Outcome
from headrace.core.limits import Calls, Learnt, Unit
from headrace.core.ports import History, Source, Store, Task
from headrace.engine.forecast import Assumed
from headrace.flow.estimate import OUTPUT, Charge, Size, size_of
from headrace.flow.experience import Experience, tokens_in
from headrace.flow.quantiles import Quantiles, middle
from headrace.provider.quota import Charge as Charged
from headrace.provider.quota import Quota
from headrace.sim.likeness import Known

ENOUGH = 20
"""Answers from which a length or a latency is taken to be learnt."""
EARLIER_MOST = 5000
"""Of earlier answers so many are looked at, of the latest runs."""
DEFAULT_S, DEFAULT_SIGMA = 2.0, 0.5
DEFAULT_COUNT = 11
"""What is assumed is as uncertain as if it were learnt of so many calls."""
GUESSED, FOUND = 0.15, 0.015
"""How far off, relatively, a guess of tokens and a limit that was found may be (standard deviation)."""
FEW = 0.05
"""Of the calls refused: from here they met a limit; fewer may be refused by chance."""
MINUTE_S, HOUR_S = 60.0, 3600.0
_ASKED = (
    "work", "prompt", "system", "returns", "schema", "model", "base_url", "temperature", "max_tokens", "params",
    "images", "name", "version", "stages",
)  # fmt: skip


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be asked."""

    sizes: Sequence[Size]
    """Of the calls that must be made."""
    items: int
    stored: int
    """Answers that the store has."""
    unaskable: int
    """Items that cannot become a request: they fail without a call."""
    params: Mapping[str, Any]


async def look(
    task: Task, source: Source, store: Store, *, fresh: bool, without: AbstractSet[str] = frozenset()
) -> Asked:
    """Read the source, and leave out what the store has, and the items of these keys. Nothing is claimed or written."""
    sizes: list[Size] = []
    seen: set[int] = set()
    params: Mapping[str, Any] = {}
    items = stored = unaskable = 0
    async for batch in source:
        items += len(batch)
        requests = []
        for item in batch:
            if item.key in without:
                continue
            try:
                requests += [task.request(item, sample) for sample in range(task.samples)]
            except HeadraceError:
                unaskable += 1
        found = {}
        if task.reusable and not fresh:
            found = await store.find([request.digest for request in requests])
        for request in requests:
            if request.digest in found:
                stored += 1
                continue
            place = int.from_bytes(request.digest[:8], "little")
            if task.reusable and place in seen:  # an equal item's call answers it
                continue
            seen.add(place)
            sizes.append(size_of(request))
            params = request.params
    return Asked(sizes=sizes, items=items, stored=stored, unaskable=unaskable, params=params)


def of_this_work(task: Task, history: History, spec: Mapping[str, Any]) -> Calls:
    """The calls that earlier runs of the same work made, whatever they were made over."""
    experience = Experience()
    for seen, outcome in enumerate(_outcomes(history, spec)):
        if seen >= EARLIER_MOST:
            break
        size = Size()
        try:
            if outcome.item is not None:
                size = size_of(task.request(Item(outcome.key, outcome.position, outcome.item)))
        except HeadraceError:  # of a store that keeps no prompts
            size = Size()
        experience.add("", outcome.seconds, size, outcome.input_tokens, outcome.output_tokens)
    return experience.calls()


def _outcomes(history: History, spec: Mapping[str, Any]) -> Iterator[Outcome]:
    asked = identity_of(spec)
    for info in history.runs():
        if identity_of(info.spec) != asked:
            continue
        for outcome in history.scan(info.id):
            if outcome.ok and outcome.attempts == 1 and not outcome.samples:
                yield outcome


def identity_of(spec: Mapping[str, Any]) -> bytes:
    """What of a run's work can change its answers."""
    return msgspec.json.encode({word: spec.get(word) for word in _ASKED}, order="deterministic")


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """All that a rehearsal needs, and what to say of it."""

    known: Known
    tokens: Sequence[int]
    """In, of each call."""
    guessed: float
    """How far off they may be, relatively."""
    found: float
    """The same of the limits that were found."""
    assumed: Sequence[Assumed]
    notes: Sequence[str]


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of the endpoint, by whoever knows."""

    stated: Mapping[Unit, float]
    learnt: Learnt
    work: Calls
    """Of earlier runs of the same work."""
    charge: Charge
    start: int
    most: int
    max_output: int | None


def outlook(asked: Asked, told: Told) -> Outlook:
    """What holds: stated, else learnt or told, else assumed, and said to be."""
    shape = _Shape(told)
    limits = _Limits(told)
    stated, said = dict(told.stated), [*shape.assumed, *limits.assumed]
    notes = [*shape.notes, *limits.notes]
    if Unit.CONCURRENCY not in stated and not limits.quotas and told.learnt.concurrency is None and len(stated) == 0:
        stated[Unit.CONCURRENCY] = float(told.start)
        said.append(Assumed("concurrency", f"{told.start} in flight", "assumed"))
        notes.append(
            f"Nothing is known of this endpoint's limits: {told.start} calls in flight are assumed, as a run begins with. "
            "State them, or pay for a pilot (--pilot 50)."
        )
    line = told.work.input_tokens if told.work.input_tokens.count >= ENOUGH else told.learnt.calls.input_tokens
    learnt = line.count >= ENOUGH
    tokens = array("l", (_tokens(size, line if learnt else None) for size in asked.sizes))
    if any(tokens):
        origin = f"{sum(tokens) / max(1, len(tokens)):.0f} a call"
        said.append(Assumed("tokens in", origin, "learnt" if learnt else "assumed"))
        if not learnt:
            notes.append("Tokens in are estimated from the characters of the prompts; a pilot would measure them.")
    known = Known(
        seconds=shape.seconds, output_tokens=shape.output_tokens, ended=shape.ended, failed_s=shape.failed_s,
        limits=tuple(limits.quotas), knee=limits.knee, stated=stated, learnt=told.learnt, start=told.start,
        most=told.most,
    )  # fmt: skip
    return Outlook(
        known=known, tokens=tokens, guessed=0.0 if learnt else GUESSED, found=FOUND if told.learnt.per_s else 0.0,
        assumed=said, notes=notes,
    )  # fmt: skip


def _tokens(size: Size, line: Any) -> int:
    found = tokens_in(line, size.characters) if line is not None and not size.images else None
    return max(0, round(size.tokens if found is None else found))


class _Shape:
    """How long calls take, how much they answer, and how they fail."""

    def __init__(self, told: Told) -> None:
        endpoint, work = told.learnt.calls, told.work
        self.assumed: list[Assumed] = []
        self.notes: list[str] = []
        self.ended, self.failed_s = dict(endpoint.ended), dict(endpoint.failed_s)
        calls = sum(self.ended.values())
        if failed := calls - endpoint.answered:
            self.assumed.append(Assumed("failures", f"{100 * failed / calls:.1f} % of the calls", "learnt"))
        self.seconds = self._of(
            "seconds of a call", work.seconds, endpoint.seconds, lognormal(DEFAULT_S, DEFAULT_SIGMA), "s"
        )
        most = min(OUTPUT, told.max_output or OUTPUT)
        self.output_tokens: Mapping[int, int] = {}
        if endpoint.output_tokens or work.output_tokens or not endpoint.answered:
            self.output_tokens = self._of(
                "tokens out", work.output_tokens, endpoint.output_tokens, lognormal(0.6 * most, DEFAULT_SIGMA), "tokens"
            )

    def _of(
        self, what: str, work: Mapping[int, int], endpoint: Mapping[int, int], default: Mapping[int, int], unit: str
    ) -> Mapping[int, int]:
        for calls, whose in ((work, "this question"), (endpoint, "this endpoint")):
            count = sum(calls.values())
            if count >= ENOUGH:
                self.assumed.append(
                    Assumed(what, f"{_median(calls):.3g} {unit} in the median, of {count:,} calls", "learnt")
                )
                if calls is endpoint and work is not endpoint:
                    self.notes.append(
                        f"The {what} are those of all calls to {whose}: this question was not asked yet, or seldom."
                    )
                return calls
        self.assumed.append(Assumed(what, f"{_median(default):.3g} {unit} in the median", "assumed"))
        self.notes.append(f"The {what} are not known: {_median(default):.3g} {unit} in the median are assumed.")
        return default


class _Limits:
    """The limits that hold beside what is stated: told by the provider, or found."""

    def __init__(self, told: Told) -> None:
        self.quotas: list[Quota] = []
        self.knee: float | None = None
        self.assumed: list[Assumed] = []
        self.notes: list[str] = []
        stated, learnt = told.stated, told.learnt
        for unit, limit in stated.items():
            self.assumed.append(Assumed(unit.value, _said(unit, limit, 60.0), "stated"))
        self._windows(told)
        self._just_used(told)
        slots = learnt.concurrency
        ended = learnt.calls.ended
        unclear = not self.quotas and not learnt.held_by and ended.get("throttled", 0) > FEW * sum(ended.values())
        if unclear and Unit.CONCURRENCY not in stated:
            slots = slots or told.start
            self.notes.append(
                f"{ended['throttled']} calls were refused, and it is not known yet for which limit: {slots} in flight are "
                "taken to be the most. A larger pilot would tell."
            )
        if Unit.CONCURRENCY in stated or slots is None:
            return
        if learnt.held_by == "refused" or unclear:
            self.quotas.append(Quota(unit=Unit.CONCURRENCY, limit=slots))
        elif learnt.held_by == "knee":
            self.knee = float(slots)
        origin = "learnt" if learnt.held_by else "assumed" if unclear else "learnt, no limit was met"
        self.assumed.append(Assumed(Unit.CONCURRENCY.value, _said(Unit.CONCURRENCY, slots, 0.0), origin))
        if not learnt.held_by and not self.quotas and not stated:
            self.notes.append(f"No limit was met with {slots} calls in flight: none is assumed above that.")

    def _windows(self, told: Told) -> None:
        charge: Charged = "usage" if told.charge.at == "usage" else "admission"
        learnt = told.learnt
        heard = {each.unit for each in learnt.told if each.limit}
        for each in learnt.told:
            if each.limit is None or each.unit is Unit.CONCURRENCY or each.limit < 1:
                continue
            self.assumed.append(Assumed(each.unit.value, _said(each.unit, each.limit, each.window_s), "told"))
            if each.window_s <= HOUR_S:
                self.quotas.append(Quota(unit=each.unit, limit=each.limit, window_s=each.window_s, charge=charge))
        for name, per_s in learnt.per_s.items():
            unit = Unit(name)
            if unit in heard or 60.0 * per_s < 1:
                continue
            self.quotas.append(Quota(unit=unit, limit=60.0 * per_s, charge=charge))
            self.assumed.append(Assumed(name, _said(unit, 60.0 * per_s, 60.0), "learnt"))

    def _just_used(self, told: Told) -> None:
        """What a limit's minute holds already makes the run's beginning slower than a later one's."""
        most = {each.unit.value: each.limit for each in self.quotas} | {
            unit.value: at for unit, at in told.stated.items()
        }
        spent = {name: n for name, n in told.learnt.spent.items() if n >= FEW * most.get(name, math.inf)}
        if spent and time.time() - told.learnt.at < MINUTE_S:
            said = ", ".join(f"{amount:,.0f} {name}" for name, amount in spent.items())
            self.notes.append(
                f"{said} of the last minute are in its limit already: this is for a run that begins now; one that begins a "
                "minute later may take less."
            )


def _said(unit: Unit, limit: float, window_s: float) -> str:
    if unit is Unit.CONCURRENCY:
        return f"{limit:,.0f} in flight"
    return f"{limit:,.0f} a minute" if window_s == 60.0 else f"{limit:,.0f} in {window_s:g} s"


def lognormal(median: float, sigma: float) -> Mapping[int, int]:
    """As many calls as make an assumption."""
    bins = Quantiles()
    normal = NormalDist()
    for place in range(DEFAULT_COUNT):
        bins.add(median * math.exp(sigma * normal.inv_cdf((place + 0.5) / DEFAULT_COUNT)))
    return bins.bins()


def _median(bins: Mapping[int, int]) -> float:
    left = sum(bins.values()) / 2
    for place in sorted(bins):
        left -= bins[place]
        if left <= 0:
            return middle(place)
    return 0.0
