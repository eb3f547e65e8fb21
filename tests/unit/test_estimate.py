"""Estimates of what a call costs: the start, what replies teach, and how providers charge."""

import math
import random
import time
import timeit
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.call import Message, Request
from headrace.core.digest import Digest
from headrace.core.limits import Cost
from headrace.flow.estimate import Charge, Estimator, Size, size_of

Mixture = Callable[[random.Random], tuple[Size, int]]


def request(*texts: str, **params: Any) -> Request:
    return Request(Digest(b""), messages=tuple(Message("user", text) for text in texts), params=params)


def test_a_size_counts_characters_and_messages() -> None:
    """And knows the maximum output under any of its names."""
    assert size_of(request("abc", "de")) == Size(5, 2, ascii=True, max_output=None)
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        assert size_of(request("abc", **{name: 70})).max_output == 70
    for odd in (0, -1, "70", None, True, 7.5):
        assert size_of(request("abc", max_tokens=odd)).max_output is None


def test_a_function_of_the_users_own_costs_no_tokens_in() -> None:
    """It has no messages."""
    size = size_of(Request(Digest(b""), item={"a": 1}))
    assert size == Size()
    assert Estimator().cost(size).input_tokens == 0


@pytest.mark.parametrize(
    ("text", "mostly"),
    [
        ("plain", True),
        ("", True),
        (
            "It\u2019s a caf\u00e9 \u2014 with \u201cquotes\u201d in quite a long sentence of plain English words " * 3,
            True,
        ),
        ("日本語のテキスト", False),
        ("Привет, как дела", False),
        ("\ud800" * 10, False),
    ],
)
def test_text_is_mostly_ascii_or_not(text: str, mostly: bool) -> None:
    """A few typographic signs change nothing; another script does."""
    assert size_of(request(text)).ascii is mostly


def test_the_start_is_a_rule_of_thumb() -> None:
    """0.30 tokens a character, more in other scripts, 4 a message, 512 out or the maximum."""
    estimator = Estimator(Charge("usage"))
    assert estimator.cost(Size(1000, 2)) == Cost(820, 308, 512, 0.6 * 308)
    assert estimator.cost(Size(1000, 2, ascii=False)) == Cost(758 + 512, 758, 512, 0.6 * 758)
    assert estimator.cost(Size(1000, 2, max_output=100)) == Cost(408, 308, 100, 0.6 * 308)
    assert Size(1000, 2).tokens == 308


def english(chance: random.Random) -> tuple[Size, int]:
    characters = int(math.exp(chance.gauss(7, 0.8)))
    return Size(characters, 2), round(9 + characters * chance.gauss(0.235, 0.015))


def with_a_schema(chance: random.Random) -> tuple[Size, int]:
    """Short texts behind a constant that is larger than they are."""
    characters = int(math.exp(chance.gauss(5, 0.6)))
    return Size(characters, 1), round(640 + characters * chance.gauss(0.25, 0.02))


def chinese(chance: random.Random) -> tuple[Size, int]:
    characters = chance.randint(50, 3000)
    return Size(characters, 2, ascii=False), round(20 + characters * chance.gauss(1.1, 0.08))


def both(chance: random.Random) -> tuple[Size, int]:
    return english(chance) if chance.random() < 0.6 else chinese(chance)


def code(chance: random.Random) -> tuple[Size, int]:
    characters = int(math.exp(chance.gauss(8, 1.2)))
    return Size(characters, 3), round(15 + characters * chance.gauss(0.42, 0.03))


def all_alike(chance: random.Random) -> tuple[Size, int]:
    return Size(4000, 2), round(chance.gauss(950, 20))


@pytest.mark.parametrize("mixture", [english, with_a_schema, chinese, both, code, all_alike])
def test_after_fifty_calls_estimates_are_within_a_tenth(mixture: Mixture) -> None:
    """In sum, and half of the calls each by itself, of whatever mixture; also when it goes on for long."""
    for seed in range(5):
        chance, estimator = random.Random(seed), Estimator(Charge("usage"))
        for calls in (50, 5000):
            for _ in range(calls):
                size, true = mixture(chance)
                estimator.learn(size, true, 10)
            pairs = [(estimator.cost(size).input_tokens, true) for size, true in (mixture(chance) for _ in range(300))]
            assert sum(guess for guess, _ in pairs) == pytest.approx(sum(true for _, true in pairs), rel=0.1)
            errors = sorted(abs(guess / true - 1) for guess, true in pairs)
            assert errors[len(errors) // 2] <= 0.1


def test_it_follows_a_task_that_changes() -> None:
    """Two hundred calls of another kind are enough to forget the first."""
    chance, estimator = random.Random(1), Estimator(Charge("usage"))
    for _ in range(3000):
        estimator.learn(*english(chance), None)
    for _ in range(200):
        estimator.learn(*code(chance), None)
    pairs = [(estimator.cost(size).input_tokens, true) for size, true in (code(chance) for _ in range(300))]
    assert sum(guess for guess, _ in pairs) == pytest.approx(sum(true for _, true in pairs), rel=0.1)


def test_output_is_what_nine_of_ten_calls_do_not_pass() -> None:
    """From the twentieth reply on, of the last 200, and never more than the maximum."""
    estimator = Estimator(Charge("usage"))
    size = Size(100, 1)
    for number in range(1, 20):
        estimator.learn(size, None, number)
        assert estimator.cost(size).output_tokens == 512
    estimator.learn(size, None, 20)
    assert estimator.cost(size).output_tokens == 18
    assert estimator.cost(Size(100, 1, max_output=5)).output_tokens == 5
    for _ in range(200):
        estimator.learn(size, None, 1000)
    assert estimator.cost(size).output_tokens == 1000
    for number in range(200):
        estimator.learn(size, None, number)
    assert estimator.cost(size).output_tokens == 179


def test_where_admission_is_charged_the_maximum_counts_and_nothing_comes_back() -> None:
    """Reserved is the larger of the maximum output and the estimate; settled the larger of that and the truth."""
    charge = Charge("admission")
    reserved = charge.reserved(300, 50, 1000)
    assert reserved == Cost(1000, 300, 50)
    assert charge.reserved(300, 50, 100) == Cost(350, 300, 50)
    assert charge.reserved(300, 50, None) == Cost(350, 300, 50)
    assert charge.charged(reserved, 280, 20) == reserved
    assert charge.charged(reserved, 900, 200) == Cost(1100, 900, 200)
    assert Charge() == charge


def test_where_usage_is_charged_the_truth_counts() -> None:
    """What a reply does not tell is taken to be what was reserved."""
    charge = Charge("usage")
    reserved = charge.reserved(300, 50, 1000)
    assert reserved == Cost(350, 300, 50)
    assert charge.charged(reserved, 280, 20) == Cost(300, 280, 20)
    assert charge.charged(reserved, None, 20) == Cost(320, 300, 20)
    assert charge.charged(reserved, 280, None) == Cost(330, 280, 50)
    assert charge.charged(reserved, 0, 0) == Cost(0, 0, 0)


@pytest.mark.parametrize("odd", [-5, 10**12])
def test_usage_that_cannot_be_true_is_not_believed(odd: int) -> None:
    """Nor is what it would teach."""
    estimator = Estimator(Charge("usage"))
    before = estimator.cost(Size(1000, 1))
    for _ in range(50):
        estimator.learn(Size(1000, 1), odd, odd)
    assert estimator.cost(Size(1000, 1)) == before
    assert estimator.charged(before, odd, odd) == before


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**9),
            st.integers(0, 1000),
            st.booleans(),
            st.one_of(st.none(), st.integers(-10, 10**12)),
            st.one_of(st.none(), st.integers(-10, 10**12)),
        ),
        max_size=80,
    ),
    st.integers(0, 10**9),
    st.one_of(st.none(), st.integers(1, 10**9)),
    st.sampled_from(["admission", "usage"]),
)
def test_whatever_replies_say_costs_are_sound(
    replies: list[tuple[int, int, bool, int | None, int | None]], characters: int, most: int | None, at: Any
) -> None:
    """No estimate is negative, endless or no number, and none shrinks when more is asked."""
    estimator = Estimator(Charge(at))
    for length, messages, kind, tokens_in, tokens_out in replies:
        estimator.learn(Size(length, messages, ascii=kind), tokens_in, tokens_out)
    for kind in (True, False):
        cost = estimator.cost(Size(characters, 3, ascii=kind, max_output=most))
        for amount in (cost.tokens, cost.input_tokens, cost.output_tokens):
            assert 0 <= amount < math.inf
        assert cost.tokens >= cost.input_tokens + cost.output_tokens - 1e-6 * cost.tokens
        assert cost.output_tokens <= (most or math.inf)
        more = estimator.cost(Size(characters + 1000, 3, ascii=kind, max_output=most))
        assert more.tokens >= cost.tokens
        settled = estimator.charged(cost, 5, 5)
        assert settled.tokens >= (cost.tokens if at == "admission" else 10)


def test_estimating_costs_little() -> None:
    """A few microseconds at most, measuring a prompt of some pages included."""
    estimator, ask = Estimator(), request("plain words " * 1000, "and more")

    def rounds() -> None:
        for _ in range(2000):
            size = size_of(ask)
            estimator.cost(size)
            estimator.learn(size, 3000, 40)

    assert min(timeit.repeat(rounds, number=1, repeat=3, timer=time.process_time)) / 2000 < 30e-6


def test_what_a_refusal_counts_is_believed_by_and_by() -> None:
    """A provider that counts half as much again in its refusals is soon met; nonsense moves nothing."""
    estimator, size = Estimator(Charge("usage")), Size(characters=4000, messages=1)
    first = estimator.cost(size)
    for _ in range(30):
        estimator.correct(estimator.cost(size), first.tokens * 1.5)
    assert estimator.cost(size).tokens == pytest.approx(first.tokens * 1.5, rel=0.01)
    assert estimator.cost(size).input_tokens == first.input_tokens
    for nonsense in (0.0, -5.0, 1e30, float("nan")):
        estimator.correct(estimator.cost(size), nonsense)
    assert estimator.cost(size).tokens == pytest.approx(first.tokens * 1.5, rel=0.01)


def test_a_picture_is_learnt_apart_from_text() -> None:
    """It begins at 800 and becomes what is left of the tokens; the tokens of text stay what they were."""
    estimator = Estimator(Charge("usage"))
    for characters in (400, 800, 1200, 1600):
        estimator.learn(Size(characters, 1), 10 + characters // 4, 1)
    text = estimator.cost(Size(1000, 1)).input_tokens
    assert estimator.cost(Size(1000, 1, images=2)).input_tokens == pytest.approx(text + 1600)
    for _ in range(50):
        estimator.learn(Size(1000, 1, images=2), round(text) + 2 * 258, 1)
    assert estimator.cost(Size(1000, 1, images=1)).input_tokens == pytest.approx(text + 258, rel=0.02)
    assert estimator.cost(Size(1000, 1)).input_tokens == text


def test_cached_tokens_are_charged_only_where_they_count() -> None:
    """Anthropic and Groq leave them out of their limits; others count them."""
    reserved = Cost(100, 80, 20)
    assert Charge("usage", cached_free=True).charged(reserved, 80, 20, 60) == Cost(40, 20, 20)
    assert Charge("usage", cached_free=True).charged(reserved, 80, 20, 900) == Cost(20, 0, 20)
    assert Charge("usage", cached_free=True).charged(reserved, 80, 20, None) == Cost(100, 80, 20)
    assert Charge("usage").charged(reserved, 80, 20, 60) == Cost(100, 80, 20)
