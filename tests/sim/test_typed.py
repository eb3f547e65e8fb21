"""Typed answers over a whole run, in virtual time: asked again once, several samples, a prefix that is warmed first."""

import asyncio
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from headrace.core.call import Reply, Request
from headrace.core.errors import CallError, Rejected, Transient, Unsupported
from headrace.core.event import AskedAgain, CallEnded, Event
from headrace.core.item import Outcome
from headrace.engine.tally import Tally
from headrace.engine.warm import Warm
from headrace.flow.retry import Retry
from headrace.sim.loop import run
from headrace.store.memory import Memory, MemoryStore
from headrace.task.ask import AskTask
from headrace.task.prompt import Template
from headrace.task.schema import returns_of
from sim.world import Rows, collect, runner


def task(*, samples: int = 1, returns: str = "n: int") -> AskTask:
    return AskTask(Template("{text}"), endpoint=("sim", ""), model="m", returns=returns_of(returns), samples=samples)


class Says:
    """Answers what the script says for the nth time that an item is asked about, the last for all that follow."""

    def __init__(self, *script: Any) -> None:
        self.script = script
        self.asked: Counter[str] = Counter()
        self.requests: list[Request] = []

    async def __call__(self, request: Request) -> Reply:
        text = request.messages[0].content
        step = self.script[min(self.asked[text], len(self.script) - 1)]
        self.asked[text] += 1
        self.requests.append(request)
        await asyncio.sleep(1.0)
        if isinstance(step, Exception):
            raise step
        if isinstance(step, Reply):
            return step
        return Reply(step, input_tokens=10, output_tokens=5)


def texts(count: int) -> list[str]:
    return [f"t{number}" for number in range(count)]


def done(
    says: Says, made_task: AskTask, count: int = 3, memory: Memory | None = None, **more: Any
) -> tuple[list[Outcome], list[Event], Memory]:
    memory = memory or Memory()
    events: list[Event] = []

    async def main() -> list[Outcome]:
        made = runner(says, Rows(texts(count)), MemoryStore(memory), task=made_task, events=events, **more)
        return await collect(made)

    return run(main()), events, memory


def test_a_wrong_answer_is_asked_again_once() -> None:
    """With what was said and the validator's message; what both took is counted, the first is evidence, and a rerun is
    served the second."""
    says = Says('{"n": "many"}', '{"n": 3}')
    outcomes, events, memory = done(says, task())
    assert [outcome.value for outcome in outcomes] == [{"n": 3}] * 3
    assert {(outcome.attempts, outcome.input_tokens, outcome.output_tokens) for outcome in outcomes} == {(2, 20, 10)}
    again = [request for request in says.requests if len(request.messages) > 1]
    assert len(again) == 3
    assert [message.role for message in again[0].messages] == ["user", "assistant", "user"]
    assert again[0].messages[1].content == '{"n": "many"}'
    assert "Expected `int`" in again[0].messages[2].content
    assert [event.error for event in events if isinstance(event, AskedAgain)] == ["answer"] * 3
    assert len(memory.evidence) == 3
    assert not memory.claims
    before = sum(says.asked.values())
    outcomes, _, _ = done(says, task(), memory=memory)
    assert sum(says.asked.values()) == before
    assert all(outcome.cached and outcome.value == {"n": 3} for outcome in outcomes)


def test_wrong_twice_is_an_error_with_the_text() -> None:
    """The second answer's text; nothing is asked a third time, and a rerun asks anew."""
    says = Says('{"n": "many"}', '{"n": "lots"}')
    outcomes, _, memory = done(says, task(), count=1)
    assert outcomes[0].error is not None
    assert (outcomes[0].error.kind, outcomes[0].error.raw, outcomes[0].attempts) == ("answer", '{"n": "lots"}', 2)
    assert outcomes[0].input_tokens == 20
    assert len(memory.evidence) == 2
    assert not memory.claims
    done(says, task(), count=1, memory=memory)
    assert says.asked["t0"] == 4


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply('{"n": 1', finish="length"), "truncated"),
        (Reply("I would rather not.", finish="refusal"), "refusal"),
        (Reply("", finish="filter"), "filtered"),
    ],
)
def test_what_asking_again_does_not_mend(reply: Reply, kind: str) -> None:
    """An answer that was cut off, declined or filtered is told apart, and asked for once."""
    says = Says(reply, '{"n": 1}')
    outcomes, _, _ = done(says, task(), count=1)
    assert outcomes[0].error is not None
    assert (outcomes[0].error.kind, says.asked["t0"]) == (kind, 1)


def test_a_nearly_right_answer_is_mended_without_a_call() -> None:
    """Fences, sentences around it, single quotes, a comma too many; one attempt."""
    for text in ('```json\n{"n": 4}\n```', 'Sure! Here it is: {"n": 4}. Anything else?', "{'n': 4,}", '{"n": 4'):
        outcomes, _, _ = done(Says(text), task(), count=1)
        assert (outcomes[0].value, outcomes[0].attempts) == ({"n": 4}, 1), text


def test_the_second_question_may_fail_as_any_call() -> None:
    """A fault in passing is tried again; one that stays is the item's, with all attempts counted."""
    says = Says("no", Transient("broke off"), '{"n": 2}')
    outcomes, _, _ = done(says, task(), count=1)
    assert (outcomes[0].value, outcomes[0].attempts) == ({"n": 2}, 3)
    outcomes, _, memory = done(Says("no", Rejected("too long now")), task(), count=1)
    assert outcomes[0].error is not None
    assert (outcomes[0].error.kind, outcomes[0].attempts) == ("rejected", 2)
    assert not memory.claims


def test_samples_are_separate_questions_with_one_outcome() -> None:
    """Three answers, the nearest to the others stands for all, and the agreement says how near; a rerun pays nothing,
    more samples pay for those that are new."""
    says = Says('{"n": 1}', '{"n": 1}', '{"n": 4}', '{"n": 1}')
    outcomes, _, memory = done(says, task(samples=3), count=2)
    for outcome in outcomes:
        assert (outcome.value, outcome.attempts, len(outcome.samples)) == ({"n": 1}, 3, 3)
        assert outcome.agreement == pytest.approx((1 + 0.25 + 0.25) / 3)
        assert outcome.input_tokens == 30
    assert len({request.digest for request in says.requests}) == 6
    outcomes, _, _ = done(says, task(samples=3), count=2, memory=memory)
    assert sum(says.asked.values()) == 6
    assert all(outcome.cached for outcome in outcomes)
    outcomes, _, _ = done(says, task(samples=5), count=2, memory=memory)
    assert sum(says.asked.values()) == 10
    assert [len(outcome.samples) for outcome in outcomes] == [5, 5]
    outcomes, _, _ = done(says, task(), count=2, memory=memory)
    assert sum(says.asked.values()) == 10
    assert [(outcome.samples, outcome.agreement) for outcome in outcomes] == [((), None)] * 2


def test_samples_that_fail_do_not_take_the_others_down() -> None:
    """Those that were answered count; where none was, the item fails."""
    outcomes, _, _ = done(Says(Rejected("no"), '{"n": 1}'), task(samples=3), count=1)
    assert (outcomes[0].value, len(outcomes[0].samples), outcomes[0].agreement) == ({"n": 1}, 2, 1.0)
    outcomes, _, _ = done(Says(Rejected("no")), task(samples=3), count=1)
    assert outcomes[0].error is not None
    assert outcomes[0].error.kind == "rejected"


@given(
    st.lists(st.sampled_from(["right", "wrong", "near", "broken", "refused"]), min_size=1, max_size=8),
    st.integers(1, 3),
)
@settings(deadline=None, max_examples=60)
def test_each_item_ends_once_whatever_is_answered(script: list[str], samples: int) -> None:
    """G2: one outcome each, no claim left, and a value wherever one was given."""
    steps: dict[str, Any] = {
        "right": '{"n": 1}', "wrong": '{"m": 1}', "near": "{'n': 1}", "broken": Transient("x"), "refused": Rejected("x"),
    }  # fmt: skip
    assume(script.count("broken") <= 2)  # more would be a dead provider, and end the run
    outcomes, _, memory = done(Says(*[steps[step] for step in script], '{"n": 1}'), task(samples=samples), count=4)
    assert sorted(outcome.position for outcome in outcomes) == [0, 1, 2, 3]
    assert not memory.claims
    for outcome in outcomes:
        assert outcome.ok == (outcome.value == {"n": 1})


def test_a_prefix_is_warmed_by_one_call() -> None:
    """The others wait for the first answer, not for a failed one, and then go together."""
    in_flight, most, starts = 0, 0, []

    async def call(request: Request) -> Reply:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        starts.append(asyncio.get_running_loop().time())
        try:
            await asyncio.sleep(2.0)
            if len(starts) == 1:
                raise Rejected("the first one fails")
            return Reply("ok")
        finally:
            in_flight -= 1

    async def main() -> list[Any]:
        warmed = Warm().warm(call)
        request = Request(digest=msgspec.json.encode(1))  # type: ignore[arg-type]
        return await asyncio.gather(*[warmed(request) for _ in range(10)], return_exceptions=True)

    replies = run(main())
    assert sum(isinstance(reply, CallError) for reply in replies) == 1
    assert starts == [0.0, 2.0] + [4.0] * 8
    assert most == 8


def test_cancelling_the_first_lets_another_go_first() -> None:
    """Nobody waits for a call that is gone."""

    async def call(request: Request) -> Reply:
        await asyncio.sleep(2.0)
        return Reply("ok")

    async def main() -> list[Any]:
        warmed = Warm().warm(call)
        request = Request(digest=msgspec.json.encode(1))  # type: ignore[arg-type]
        first, *others = [asyncio.ensure_future(warmed(request)) for _ in range(4)]
        await asyncio.sleep(1.0)
        first.cancel()
        return await asyncio.gather(first, *others, return_exceptions=True)

    replies = run(main())
    assert isinstance(replies[0], asyncio.CancelledError)
    assert [reply.text for reply in replies[1:]] == ["ok"] * 3


def test_a_means_that_is_refused_costs_a_refusal() -> None:
    """A provider that lacks one way to tell a type is asked in the next, by the same attempt budget."""
    says = Says(Unsupported("response_format is not supported"), '{"n": 1}')
    outcomes, events, _ = done(says, task(), count=1)
    assert (outcomes[0].value, outcomes[0].attempts) == ({"n": 1}, 2)
    assert [event.error for event in events if isinstance(event, CallEnded)] == ["unsupported", ""]


@pytest.mark.parametrize("attempts", [1, 5])
def test_a_means_that_all_are_refused_fails_nobody(attempts: int) -> None:
    """Hundreds of calls that went at once are refused together: none of them is an attempt that failed."""
    says = Says(Unsupported("no json_schema"), Unsupported("no json_object"), '{"n": 1}')
    outcomes, _, _ = done(says, task(), count=300, concurrency=300, retry=Retry(attempts=attempts))
    assert all(outcome.value == {"n": 1} for outcome in outcomes)
    assert {outcome.attempts for outcome in outcomes} == {3}


def test_what_was_paid_before_the_second_question_failed_is_counted() -> None:
    """The tokens of the answer that was no value are the failed item's."""
    outcomes, events, _ = done(Says("no", Rejected("too long now")), task(), count=1)
    assert (outcomes[0].input_tokens, outcomes[0].output_tokens, outcomes[0].attempts) == (10, 5, 2)
    tally = Tally()
    for event in events:
        tally.add(event)
    assert tally.snapshot(9.0).paid_again == {"asked again": 1}


def test_equal_items_wait_for_the_second_question() -> None:
    """One of them asks, and asks again; the others are given what it gets, and no call is theirs."""
    says = Says("no", '{"n": 2}')

    async def main() -> list[Outcome]:
        made = runner(says, Rows(["same"] * 5), MemoryStore(Memory()), task=task(), events=[])
        return await collect(made)

    outcomes = run(main())
    assert [outcome.value for outcome in outcomes] == [{"n": 2}] * 5
    assert sorted(outcome.attempts for outcome in outcomes) == [0, 0, 0, 0, 2]
    assert sum(says.asked.values()) == 2


@pytest.mark.parametrize("when_s", [0.5, 1.5])
def test_a_run_that_is_left_between_both_questions_leaves_no_claim(when_s: float) -> None:
    """The item stays pending, what was answered first is evidence, and the next run asks anew."""
    memory, says = Memory(), Says("no", '{"n": 2}')

    async def main() -> None:
        made = runner(says, Rows(["t0"]), MemoryStore(memory), task=task(), events=[])
        collecting = asyncio.ensure_future(collect(made))
        await asyncio.sleep(when_s)
        collecting.cancel()
        await asyncio.gather(collecting, return_exceptions=True)

    run(main())
    assert not memory.claims
    assert len(memory.evidence) == (when_s > 1)
    outcomes, _, _ = done(Says('{"n": 7}'), task(), count=1, memory=memory)
    assert [outcome.value for outcome in outcomes] == [{"n": 7}]


def test_a_second_question_that_hangs_is_timed_out() -> None:
    """As any call: the item fails with what both took."""

    async def hangs(request: Request) -> Reply:
        await asyncio.sleep(1.0 if len(request.messages) == 1 else 10_000.0)
        return Reply("no", input_tokens=10, output_tokens=5)

    outcomes, events, memory = done(hangs, task(), count=1, retry=Retry(attempts=2), timeout_s=30.0)  # type: ignore[arg-type]
    assert outcomes[0].error is not None
    assert (outcomes[0].error.kind, outcomes[0].attempts, outcomes[0].input_tokens) == ("timeout", 3, 10)
    assert not memory.claims
    assert sum(isinstance(event, AskedAgain) for event in events) == 1
