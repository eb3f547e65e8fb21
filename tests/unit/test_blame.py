"""Which limit an unlabelled refusal was for: a dialogue of times and numbers."""

import math
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.limits import Unit
from headrace.flow.blame import EPISODE_S, EPISODES, PATIENCE_S, SILENCE_S, Blame, Verdict
from headrace.flow.concurrency import Mark


class Call(msgspec.Struct):
    number: int
    at_s: float
    level: Mark


class Talk:
    """Sends and ends calls, and knows how many are in flight."""

    def __init__(self) -> None:
        self.blame = Blame()
        self.now_s = 0.0
        self.open: list[Call] = []
        self.number = 0
        self.accepted = 0

    def may(self) -> bool:
        return self.blame.earliest(self.now_s, len(self.open)) <= self.now_s

    def send(self, count: int = 1) -> Call:
        for _ in range(count):
            self.number += 1
            self.open.append(Call(self.number, self.now_s, Mark(0, len(self.open) + 1)))
            self.blame.sent(self.now_s, self.number, len(self.open))
        return self.open[-1]

    def ok(self, count: int = 1) -> None:
        for _ in range(count):
            self.accepted = max(self.accepted, len(self.open))
            self.blame.ok(self.now_s, self.open.pop(0))

    def refuse(self, call: Call | None = None, hint_s: float | None = None) -> Unit | None:
        call = call or self.open[-1]
        self.open.remove(call)
        return self.blame.throttled(self.now_s, call, len(self.open), hint_s, self.accepted)

    def doubt(self, in_flight: int = 20) -> "Talk":
        """A refusal beside so many that were let in."""
        self.send(in_flight + 1)
        self.now_s += 0.2
        assert self.refuse() is None
        return self

    def probe(self) -> Call:
        self.ok(len(self.open) - int(0.8 * len(self.open)))
        assert self.may()
        return self.send()

    def trial(self) -> "Talk":
        self.probe()
        self.now_s += SILENCE_S
        return self


def test_nothing_is_sent_until_a_fifth_has_ended() -> None:
    """Then one call, and none beside it until it was refused, or answered, or silent for half a second."""
    talk = Talk().doubt(20)
    assert talk.blame.earliest(talk.now_s, 20) == talk.blame.earliest(talk.now_s, 17) == math.inf
    talk.ok(4)
    assert talk.may()
    talk.send()
    assert talk.blame.earliest(talk.now_s, 17) == talk.now_s + SILENCE_S


def test_refused_although_fewer_are_in_flight_is_a_window() -> None:
    """The one call decides, and is the one that is cut for."""
    talk = Talk().doubt(20)
    probe = talk.probe()
    talk.now_s += 0.1
    assert talk.refuse(probe) is Unit.REQUESTS
    assert talk.may()
    assert talk.refuse(talk.send()) is Unit.REQUESTS


def test_refused_early_in_the_trial_is_a_window() -> None:
    """A bucket let the one call in, but not many more."""
    talk = Talk().doubt(20).trial()
    talk.ok(5)
    assert talk.may()
    assert talk.refuse(talk.send()) is Unit.REQUESTS


def test_refused_where_it_was_refused_before_is_concurrency() -> None:
    """After as many calls as were in flight went well, slightly more are tried: and there is the limit again."""
    talk = Talk().doubt(20).trial()
    for _ in range(200):
        if not talk.may():
            talk.now_s += 0.1
            talk.ok()
        elif len(talk.open) == 20:
            break
        else:
            talk.send()
    assert len(talk.open) == 20
    assert talk.refuse(talk.send()) is Unit.CONCURRENCY
    assert talk.blame.found is Unit.CONCURRENCY


def undisturbed(talk: Talk) -> Verdict | None:
    """What a trial comes to in which nothing is refused."""
    for _ in range(1000):
        if talk.may():
            talk.send()
        else:
            talk.now_s += 0.1
            talk.ok()
        decided = talk.blame.decided(talk.now_s)
        if decided is not None:
            return decided
    return None


def test_never_refused_again_is_no_limit_once_and_then_a_window_that_was_crowded() -> None:
    """A fourth more than were let in at first: the second time it is told, once, with the call that was refused and
    those beside it."""
    talk = Talk()
    first = talk.send(21)
    talk.now_s += 0.05
    assert talk.refuse(first) is None
    talk.trial()
    assert undisturbed(talk) is None
    assert talk.blame.found is None
    talk.ok(len(talk.open))
    second = talk.send(21)
    assert talk.refuse(second) is None
    talk.trial()
    assert undisturbed(talk) == (Unit.REQUESTS, second, 20, None)
    assert talk.blame.decided(talk.now_s) is None
    assert talk.may()


def test_two_refused_together_and_then_none_are_a_window() -> None:
    """Chance seldom strikes twice at once."""
    talk = Talk()
    first, other = talk.send(22), talk.open[0]
    assert talk.refuse(first) is talk.refuse(other) is None
    talk.trial()
    decided = undisturbed(talk)
    assert decided is not None
    assert decided[:2] == (Unit.REQUESTS, first)


@pytest.mark.parametrize(("refused", "settled"), [(0, True), (1, False)])
def test_where_those_sent_after_it_are_let_in_it_was_no_limit(refused: int, settled: bool) -> None:
    """The first of 25 calls, sent at once, is refused and the others are answered: there is nothing to wait for. With
    one more of them refused there is."""
    talk = Talk()
    talk.send(25)
    assert talk.refuse(talk.open[0]) is None
    for _ in range(refused):
        assert talk.refuse() is None
    talk.ok(18)
    talk.send()
    assert not talk.may()
    talk.ok()
    assert talk.may() is settled
    assert talk.blame.found is None


def test_a_trial_goes_on_after_a_stray_and_ends_with_two_in_a_row() -> None:
    """Past a window the next calls are refused too."""
    talk = Talk().doubt(40).trial()
    for _ in range(21):
        talk.ok(1 if talk.may() else 2)
        assert talk.may()
        talk.send()
    assert talk.refuse(talk.send()) is None
    assert talk.may()
    talk.send()
    assert talk.refuse(talk.send()) is Unit.REQUESTS


def test_a_probe_that_was_not_made_proves_nothing() -> None:
    """Its silence is no answer: another one is sent, alone."""
    talk = Talk().doubt(20)
    probe = talk.probe()
    talk.open.remove(probe)
    talk.blame.unsent(probe.number)
    talk.now_s += 10 * SILENCE_S
    assert talk.may()
    talk.send()
    assert talk.blame.earliest(talk.now_s, 1) == talk.now_s + SILENCE_S


def test_refusals_of_calls_sent_before_belong_to_the_doubt() -> None:
    """They are not cut for; and they were not in flight at the provider, so fewer must end."""
    talk = Talk()
    talk.send(40)
    assert [talk.refuse() for _ in range(20)] == [None] * 20
    assert not talk.may()
    talk.ok(4)
    assert talk.may()
    old = talk.open[-1]
    assert talk.refuse(talk.send()) is Unit.REQUESTS
    assert talk.refuse(old) is None


def test_an_answer_ends_the_silence() -> None:
    """Where answers come faster than half a second."""
    talk = Talk().doubt(5)
    probe = talk.probe()
    assert not talk.may()
    talk.open.remove(probe)
    talk.blame.ok(talk.now_s, probe)
    talk.ok()
    assert talk.may()


def test_slow_refusals_lengthen_the_silence() -> None:
    """A provider that takes a second to refuse is given two."""
    talk = Talk()
    call = talk.send(11)
    talk.now_s = 1.0
    talk.refuse(call)
    talk.probe()
    assert talk.blame.earliest(talk.now_s, 9) == talk.now_s + 2.0


def test_a_long_hint_is_a_window() -> None:
    """Only a window knows when it opens; a second is what a gateway says to everybody."""
    talk = Talk()
    talk.send(21)
    assert talk.refuse(hint_s=1.0) is None
    talk = Talk()
    talk.send(21)
    assert talk.refuse(hint_s=17.0) is Unit.REQUESTS


def test_calls_without_end_are_not_waited_for() -> None:
    """After half a minute one is sent all the same, and with nothing in flight at once."""
    talk = Talk().doubt(20)
    talk.now_s += PATIENCE_S - 1
    assert not talk.may()
    talk.now_s += 1
    assert talk.may()
    alone = Talk()
    alone.send()
    alone.refuse()
    assert alone.may()


def test_a_refusal_beside_nothing_disproves_concurrency() -> None:
    """And one beside much does not."""
    talk = Talk()
    talk.blame.found = Unit.CONCURRENCY
    talk.send(20)
    talk.ok(5)
    assert talk.refuse() is Unit.CONCURRENCY
    talk.ok(9)
    assert talk.refuse(talk.send()) is Unit.CONCURRENCY
    talk.ok(len(talk.open))
    assert talk.refuse(talk.send()) is Unit.REQUESTS
    talk.send(20)
    assert talk.refuse() is Unit.REQUESTS


def test_a_call_that_was_overtaken_proves_nothing() -> None:
    """Sent as the only one, refused while another is there: that one was there first."""
    talk = Talk()
    talk.blame.found = Unit.CONCURRENCY
    alone = talk.send()
    talk.send()
    assert talk.refuse(alone) is Unit.CONCURRENCY


def test_refusals_always_at_the_top_disprove_a_window() -> None:
    """Five episodes in a row; one from the middle begins the count anew."""
    for spoilt in (None, 3):
        talk = Talk()
        talk.blame.found = Unit.REQUESTS
        verdicts = []
        for episode in range(EPISODES):
            for level in (12, 15, 11, 14, 13, 16) * 3:
                talk.now_s += EPISODE_S / 12
                talk.send(level - len(talk.open))
                talk.ok(5)
            talk.send((13 if episode == spoilt else 17) - len(talk.open))
            verdicts.append(talk.refuse())
        assert verdicts == [Unit.REQUESTS] * (EPISODES - 1) + [Unit.REQUESTS if spoilt else Unit.CONCURRENCY]


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["send", "send", "ok", "refuse", "refuse old", "lose", "later"]), max_size=300),
    st.integers(0, 2**32),
)
def test_it_never_stalls_and_gives_one_verdict_at_most(story: list[str], seed: int) -> None:
    """With nothing in flight there is always a time at which a call may go; no refusal is cut for twice."""
    chance = random.Random(seed)
    talk, judged = Talk(), set()
    for word in story:
        at_s = talk.blame.earliest(talk.now_s, len(talk.open))
        if not talk.open:
            assert at_s <= talk.now_s + 2 * SILENCE_S + 10.0
        decided = talk.blame.decided(talk.now_s)
        if decided is not None:
            assert decided[1].number not in judged
            judged.add(decided[1].number)
        if word == "send" and talk.may():
            talk.send()
        elif word == "ok" and talk.open:
            talk.ok()
        elif word.startswith("refuse") and talk.open:
            call = talk.open[0 if word == "refuse old" else -1]
            if talk.refuse(call, chance.choice([None, None, 0.0, 1.0])) is not None:
                judged.add(call.number)
        elif word == "lose" and talk.open:
            talk.open.pop()
        elif word == "later":
            talk.now_s += chance.choice([0.0, 0.05, 0.6, 40.0])
