"""Leases: never more lent than there is, whatever the interleaving; fair shares soon after; nobody starves."""

import math
import random
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headrace.core.limits import Unit
from headrace.flow.lease import FOOT, TURN, Lease, Share, share_out, strictest

CALLS, REQUESTS = Unit.CONCURRENCY.value, Unit.REQUESTS.value
WANTS = st.one_of(st.just(0.0), st.just(1e9), st.floats(0, 60))


class Holder:
    """One process: what it has written, what it may use, what it uses. A renewal has three steps, as it has in truth."""

    def __init__(self, name: str, limits: dict[str, float]) -> None:
        self.name, self.limits = name, limits
        self.wanted: dict[str, float] = {}
        self.in_force = dict.fromkeys(limits, 0.0)
        self.in_flight = 0
        self.served = 0
        self.seen: dict[str, float] | None = None
        self.decided: Share | None = None

    def look(self) -> None:
        self.seen = self.in_force | {CALLS: max(self.in_force.get(CALLS, 0.0), self.in_flight)}

    def write(self, rows: dict[str, Lease]) -> Share:
        assert self.seen is not None
        mine = Lease(holder=self.name, limits=self.limits, wanted=self.wanted, served=self.served)
        self.decided = share_out(mine, [row for name, row in rows.items() if name != self.name], self.seen)
        rows[self.name] = self.decided.lease
        return self.decided

    def take(self) -> None:
        assert self.decided is not None
        self.in_force, self.served = dict(self.decided.lent), self.decided.lease.served
        self.seen = self.decided = None

    def renew(self, rows: dict[str, Lease]) -> Share:
        """And once more where it has something to write off, as that is done without delay."""
        for _ in range(2):
            self.look()
            share = self.write(rows)
            self.take()
            if not share.owing:
                break
        return share

    def start(self) -> None:
        if self.in_flight < self.in_force.get(CALLS, 0.0):
            self.in_flight += 1


class Sharing(RuleBasedStateMachine):
    """Joins, renewals torn apart at every step, calls that begin and end, deaths: in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = {CALLS: 5.0, REQUESTS: 100.0}
        self.holders: list[Holder] = []
        self.rows: dict[str, Lease] = {}
        self.joined = 0

    def pick(self, data: st.DataObject) -> Holder:
        return data.draw(st.sampled_from(self.holders), label="who") if self.holders else self.new()

    def new(self) -> Holder:
        self.joined += 1
        self.holders.append(Holder(f"h{self.joined * 7919 % 100:02}", dict(self.limits)))
        return self.holders[-1]

    @precondition(lambda self: len(self.holders) < 8)
    @rule()
    def join(self) -> None:
        self.new()

    @rule(data=st.data(), wanted=WANTS)
    def want(self, data: st.DataObject, wanted: float) -> None:
        self.pick(data).wanted = {CALLS: wanted, REQUESTS: wanted}

    @rule(data=st.data())
    def look(self, data: st.DataObject) -> None:
        holder = self.pick(data)
        if holder.decided is None:
            holder.look()

    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        holder = self.pick(data)
        if holder.seen is not None and holder.decided is None:
            holder.write(self.rows)

    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        holder = self.pick(data)
        if holder.decided is not None:
            holder.take()

    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        holder = self.pick(data)
        if holder.decided is None:
            holder.renew(self.rows)

    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        """A renewal that was written, and whose answer was never heard."""
        holder = self.pick(data)
        holder.seen = holder.decided = None

    @rule(data=st.data(), more=st.integers(1, 9))
    def begin(self, data: st.DataObject, more: int) -> None:
        holder = self.pick(data)
        for _ in range(more):
            holder.start()

    @rule(data=st.data(), fewer=st.integers(1, 9))
    def end(self, data: st.DataObject, fewer: int) -> None:
        holder = self.pick(data)
        holder.in_flight = max(0, holder.in_flight - fewer)

    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        holder = self.pick(data)
        self.holders.remove(holder)
        self.rows.pop(holder.name, None)

    @invariant()
    def never_more_than_there_is(self) -> None:
        assert sum(holder.in_flight for holder in self.holders) <= self.limits[CALLS]
        for unit, limit in self.limits.items():
            assert sum(row.granted.get(unit, 0.0) for row in self.rows.values()) <= limit * (1 + 1e-9)
            assert sum(holder.in_force.get(unit, 0.0) for holder in self.holders) <= limit * (1 + 1e-9)
        for holder in self.holders:
            on_books = self.rows.get(holder.name, Lease(holder="")).granted
            assert all(amount <= on_books.get(unit, 0.0) + 1e-9 for unit, amount in holder.in_force.items())
            assert holder.in_flight <= on_books.get(CALLS, 0.0)


TestSharing = Sharing.TestCase
TestSharing.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)


def settle(holders: list[Holder], rows: dict[str, Lease], rounds: int = 3, seed: int = 0) -> None:
    chance = random.Random(seed)
    for _ in range(rounds):
        for holder in chance.sample(holders, len(holders)):
            holder.renew(rows)


def max_min(limit: float, wants: list[float], grain: float) -> list[float]:
    """The oracle: a grain at a time, always to whoever has least and wants more."""
    parts = [0.0] * len(wants)
    for _ in range(int(limit / grain)):
        hungry = [n for n, want in enumerate(wants) if parts[n] < want]
        if not hungry:
            break
        parts[min(hungry, key=lambda n: parts[n])] += grain
    return parts


@settings(max_examples=60)
@given(
    limit=st.integers(1, 60), wants=st.lists(st.integers(0, 80), min_size=1, max_size=8), seed=st.integers(0, 9),
    before=st.lists(st.integers(0, 80), min_size=8, max_size=8),
)  # fmt: skip
def test_shares_become_max_min_fair(limit: int, wants: list[int], seed: int, before: list[int]) -> None:
    """Within three rounds of renewals from any state each has its fair part: nobody lacks while another has more."""
    rows: dict[str, Lease] = {}
    holders = [Holder(f"h{n}", {CALLS: limit, REQUESTS: limit * 60.0}) for n in range(len(wants))]
    for holder, want in zip(holders, before, strict=False):
        holder.wanted = {CALLS: want, REQUESTS: want * 60.0}
    settle(holders, rows, seed=seed + 1)
    for holder, want in zip(holders, wants, strict=True):
        holder.wanted = {CALLS: want, REQUESTS: want * 60.0}
    settle(holders, rows, seed=seed)
    calls = [holder.in_force[CALLS] for holder in holders]
    assert sum(calls) == limit, "nothing lies idle"
    floor = [max(want, 1) if len(wants) <= limit else want for want in wants]
    fair = max_min(limit, [float(want) for want in floor], 1.0)
    met = [min(part, want) for part, want in zip(calls, floor, strict=True)]
    assert sorted(met) == sorted(min(part, want) for part, want in zip(fair, floor, strict=True))
    rates = [holder.in_force[REQUESTS] for holder in holders]
    assert math.isclose(sum(rates), limit * 60.0)
    feet = FOOT * limit * 60.0
    for want, part, due in zip(wants, rates, max_min(limit * 60.0, [want * 60.0 for want in wants], 0.5), strict=True):
        assert min(part, want * 60.0) >= due - feet - 1.0
        assert part >= feet / len(wants) * 0.999


def test_who_is_alone_has_everything() -> None:
    """One holder has the whole limit at once, whatever it wants."""
    alone = Holder("a", {CALLS: 7, REQUESTS: 100.0})
    alone.wanted = {CALLS: 0.0, REQUESTS: 3.0}
    share = alone.renew({})
    assert alone.in_force == {CALLS: 7, REQUESTS: 100.0}
    assert (share.short, share.owing) == (False, False)


def test_a_newcomer_takes_only_what_is_free() -> None:
    """The one before gives up its part at its next renewal, and what is in flight only when that is off the wire."""
    rows: dict[str, Lease] = {}
    one, two = Holder("a", {CALLS: 10}), Holder("b", {CALLS: 10})
    one.renew(rows)
    one.in_flight = 10
    assert two.renew(rows).short
    assert two.in_force[CALLS] == 0
    assert one.renew(rows).owing
    assert (one.in_force[CALLS], rows["a"].granted[CALLS]) == (5, 10)
    assert two.renew(rows).lent[CALLS] == 0
    one.in_flight = 7
    one.renew(rows)
    assert two.renew(rows).lent[CALLS] == 3
    one.in_flight = 2
    assert not one.renew(rows).owing
    assert not two.renew(rows).short
    assert (one.in_force[CALLS], two.in_force[CALLS]) == (5, 5)


def test_an_idle_holder_leaves_its_part_to_the_others() -> None:
    """It keeps one call and a foot in each rate, and has its fair part back two renewals after it wants it."""
    rows: dict[str, Lease] = {}
    busy, idle = Holder("a", {CALLS: 10, REQUESTS: 600.0}), Holder("b", {CALLS: 10, REQUESTS: 600.0})
    busy.wanted = {CALLS: 99, REQUESTS: 9999.0}
    idle.wanted = {CALLS: 0, REQUESTS: 0.0}
    settle([busy, idle], rows)
    assert (busy.in_force[CALLS], idle.in_force[CALLS]) == (9, 1)
    assert idle.in_force[REQUESTS] == pytest.approx(FOOT * 300)
    idle.wanted = busy.wanted
    for holder in (idle, busy, idle):
        holder.renew(rows)
    assert busy.in_force == idle.in_force == {CALLS: 5, REQUESTS: pytest.approx(300.0)}


def test_the_strictest_statement_holds() -> None:
    """Of two limits the lower is shared, also by who knows none; it goes with who stated it. Half a call is none."""
    rows: dict[str, Lease] = {}
    wide, narrow, unknowing = Holder("a", {CALLS: 100}), Holder("b", {CALLS: 12.9}), Holder("c", {})
    settle([wide, narrow, unknowing], rows)
    assert [holder.in_force[CALLS] for holder in (wide, narrow, unknowing)] == [4, 4, 4]
    assert strictest(list(rows.values())) == {CALLS: 12}
    del rows["b"]
    settle([wide, unknowing], rows)
    assert [holder.in_force[CALLS] for holder in (wide, unknowing)] == [50, 50]
    del rows["a"]
    unknowing.renew(rows)
    assert unknowing.in_force == {}, "what nobody knows is not lent"


def test_a_limit_that_falls_stops_nobody() -> None:
    """When less is allowed than is lent, each goes down to its fair part, none below, and nobody up before that is so."""
    rows: dict[str, Lease] = {}
    holders = [Holder(name, {CALLS: 100}) for name in "abcd"]
    settle(holders, rows)
    for holder in holders:
        holder.in_flight = 25
    holders[0].limits = {CALLS: 40}
    for n, holder in enumerate(holders):
        holder.renew(rows)
        assert [each.in_force[CALLS] for each in holders] == [10] * (n + 1) + [25] * (3 - n)
    newcomer = Holder("e", {CALLS: 40})
    assert newcomer.renew(rows).lent[CALLS] == 0
    for holder in holders:
        holder.in_flight = 8
    settle([*holders, newcomer], rows)
    assert [each.in_force[CALLS] for each in [*holders, newcomer]] == [8] * 5


@pytest.mark.parametrize(("places", "count"), [(1, 2), (1, 3), (2, 3), (3, 7)])
def test_where_there_are_too_few_places_all_take_turns(places: int, count: int) -> None:
    """Nobody waits longer than its turn takes to come round, all get about as much, and turns are not torn up."""
    rows: dict[str, Lease] = {}
    holders = [Holder(f"h{n}", {CALLS: places}) for n in range(count)]
    had = dict.fromkeys(holders, 0)
    last = dict.fromkeys(holders, 0)
    changes = 0
    rounds = 60 * TURN
    for n, holder in enumerate(holders):
        holder.wanted = {CALLS: 1 + 2 * n}
    for now in range(rounds):
        before = [holder.in_force[CALLS] for holder in holders]
        for holder in holders:
            holder.renew(rows)
        assert sum(holder.in_force[CALLS] for holder in holders) <= places
        changes += before != [holder.in_force[CALLS] for holder in holders]
        for holder in holders:
            if holder.in_force[CALLS]:
                had[holder] += 1
                last[holder] = now
            assert now - last[holder] <= (TURN + 2) * math.ceil(count / places) * 2
    assert min(had.values()) >= 0.8 * rounds * places / count
    assert changes <= 2.5 * rounds * places / TURN + count


def test_a_latecomer_has_no_claim_to_turns_long_gone() -> None:
    """After a hundred turns of two others, a third has its turn soon, and then its third of them."""
    rows: dict[str, Lease] = {}
    holders = [Holder(name, {CALLS: 1}) for name in "ab"]
    settle(holders, rows, rounds=100 * TURN)
    late = Holder("0", {CALLS: 1})
    turns: list[str] = []
    for _ in range(12 * TURN):
        for holder in (*holders, late):
            holder.renew(rows)
            if holder.in_force[CALLS]:
                turns.append(holder.name)
    assert turns.index("0") <= 2 * TURN + 2
    assert max(turns.count(name) for name in "ab0") <= 6 * TURN
    assert all(turns.count(name) >= 2 * TURN for name in "ab0")
    assert sum(one != other for one, other in pairwise(turns)) <= 16


def test_a_lease_goes_through_json() -> None:
    """What is written is what is read."""
    lease = Lease(holder="a", limits={CALLS: 3}, wanted={CALLS: 0.5}, granted={CALLS: 1.0}, served=4)
    assert msgspec.json.decode(msgspec.json.encode(lease), type=Lease) == lease
