"""Spans of a run, from its events alone: names, parents, what they say and what they must not say."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from headrace.core.event import (
    CallEnded,
    CallStarted,
    Event,
    ItemsRead,
    RunEnded,
    RunStarted,
    Settled,
    StageEnded,
    StageInfo,
    StageStarted,
)
from headrace.core.item import Failure, Outcome
from headrace.report.trace import traced

SECRET = "a text that only the caller and the model should know"
STAGES = (StageInfo("judge", "ask", "openai:gpt-5-nano"), StageInfo("shout", "map"))
STARTED = RunStarted(0.0, "r1", "mine", "a.csv", 2, 4, STAGES)
Emit = Callable[[Event], None]


class Spans(InMemorySpanExporter):
    """What was made, by name."""

    def __getitem__(self, name: str) -> ReadableSpan:
        (found,) = self.named(name)
        return found

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.get_finished_spans() if span.name == name]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    made = Spans()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(made))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield made
    provider.shutdown()


def use(monkeypatch: pytest.MonkeyPatch, provider: Any) -> None:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)


def ignore(_event: Event) -> None:
    """Nobody listens."""


def parent(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent is not None else None


def own(span: Any) -> int:
    found: int = span.get_span_context().span_id
    return found


def call(emit: Emit, stage: str = "", *, attempt: int = 1, backup: bool = False, error: str = "", **more: Any) -> None:
    emit(CallStarted(0.0, attempt, backup, stage))
    emit(CallEnded(0.5, 0.5, error, stage=stage, **more))


def end(emit: Emit, status: str = "finished", reason: str = "") -> None:
    emit(RunEnded(1.0, status, reason))


# Whether there are any


@pytest.mark.parametrize("provider", [None, trace.NoOpTracerProvider()], ids=["nobody", "no-op"])
def test_where_nobody_set_it_up_nothing_stands_between(provider: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same function comes back, so a call costs nothing more."""
    use(monkeypatch, provider)
    assert traced(ignore) is ignore


def test_where_it_is_switched_off_nothing_stands_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SDK_DISABLED counts, as the SDK reads it."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    use(monkeypatch, TracerProvider(shutdown_on_exit=False))
    assert traced(ignore) is ignore


def test_it_is_imported_by_nobody_else() -> None:
    """A program without OpenTelemetry does not load it for headrace."""
    program = (
        "import sys, headrace; from headrace.report.trace import traced; from headrace import run\n"
        "assert traced(print) is print\n"
        "print(sorted(name for name in sys.modules if name.startswith('opentelemetry')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# What is made


def test_a_run_its_stages_and_their_calls(spans: Spans) -> None:
    """Each is the child of the one around it, calls say what the conventions ask for, and a reader hears all events."""
    heard: list[Event] = []
    emit = traced(heard.append)
    emit(STARTED)
    emit(ItemsRead(0.0, 2))
    emit(StageStarted(0.0, "judge", 2, 4))
    call(emit, "judge", input_tokens=7, output_tokens=3, usd=0.001)
    call(emit, "judge", attempt=2, backup=True, error="throttled", status=429)
    emit(StageStarted(0.1, "shout", None, 4))
    call(emit, "shout")
    emit(StageEnded(0.5, "judge", 2, 1, 1, 0, 0.5))
    outcomes = [
        Outcome(key="a", position=0, item=1, cached=True),
        Outcome(key="b", position=1, item=2, error=Failure("throttled", "no")),
        Outcome(key="c", position=2, item=2, dropped="filtered"),
    ]
    emit(Settled(0.9, tuple(outcomes)))
    end(emit)
    assert len(heard) == 13
    run, judge, shout = spans["run mine"], spans["stage judge"], spans["stage shout"]
    good, bad = spans.named("chat gpt-5-nano")
    assert [parent(span) for span in (run, judge, shout)] == [None, own(run), own(run)]
    assert [parent(span) for span in (good, bad, spans["call shout"])] == [own(judge), own(judge), own(shout)]
    assert len({span.context.trace_id for span in spans.get_finished_spans()}) == 1
    asked = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5-nano"}
    used = {"gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 3, "headrace.usd": 0.001}
    assert dict(good.attributes or {}) == asked | used
    refused = {"error.type": "throttled", "http.response.status_code": 429}
    assert dict(bad.attributes or {}) == asked | refused | {"headrace.attempt": 2, "headrace.backup": True}
    assert (good.kind, spans["call shout"].kind, run.kind) == (SpanKind.CLIENT, SpanKind.INTERNAL, SpanKind.INTERNAL)
    assert [span.status.status_code for span in (good, bad, run)] == [
        StatusCode.UNSET, StatusCode.ERROR, StatusCode.UNSET,
    ]  # fmt: skip
    ran = dict(run.attributes or {})
    assert [ran[f"headrace.items.{name}"] for name in ("ok", "failed", "dropped", "cached")] == [1, 1, 1, 1]
    assert (ran["headrace.run.id"], ran["headrace.source"], ran["headrace.status"]) == ("r1", "a.csv", "finished")
    worked = dict(judge.attributes or {})
    assert [worked[f"headrace.items.{name}"] for name in ("taken", "passed", "failed", "dropped")] == [2, 1, 1, 0]
    for inner, outer in ((good, judge), (judge, run), (shout, run)):
        assert outer.start_time is not None
        assert outer.end_time is not None
        assert inner.start_time is not None
        assert inner.end_time is not None
        assert outer.start_time <= inner.start_time <= inner.end_time <= outer.end_time


@pytest.mark.parametrize(
    ("model", "name", "provider"),
    [
        ("openai-responses:m", "chat m", "openai"), ("azure:d", "chat d", "azure.ai.openai"),
        ("anthropic:m", "chat m", "anthropic"), ("gemini:m", "generate_content m", "gcp.gemini"),
        ("mistral:m", "chat m", "mistral_ai"), ("xai:m", "chat m", "x_ai"), ("local", "chat local", "local"),
        ("sim:latency=1", "chat sim", "sim"), ("ollama:a:b", "chat a:b", "ollama"),
    ],
)  # fmt: skip
def test_providers_have_the_names_of_the_conventions(model: str, name: str, provider: str, spans: Spans) -> None:
    """Also where a call names no stage because there is but one."""
    emit = traced(ignore)
    emit(RunStarted(0.0, "r", "mine", "", None, 0, (StageInfo("", "ask", model),)))
    call(emit)
    end(emit)
    assert dict(spans[name].attributes or {})["gen_ai.provider.name"] == provider
    assert parent(spans[name]) == own(spans["run mine"])


def test_names_are_those_of_the_installed_conventions(spans: Spans) -> None:
    """Every attribute of theirs that is used is one that they have."""
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
    from opentelemetry.semconv.attributes import error_attributes, http_attributes

    emit = traced(ignore)
    emit(STARTED)
    call(emit, "judge", error="rejected", status=400, input_tokens=1, output_tokens=1, usd=1.0)
    known = {
        value for module in (gen_ai_attributes, error_attributes, http_attributes) for value in vars(module).values()
        if isinstance(value, str)
    }  # fmt: skip
    used = {name for span in spans.get_finished_spans() for name in span.attributes or {}}
    assert len(used) == 8
    assert {name for name in used if not name.startswith("headrace.")} <= known


def test_no_text_of_prompts_answers_or_errors(spans: Spans) -> None:
    """Not of an item, a value, a message or a reason: only kinds, numbers and the names of what was run."""
    emit = traced(ignore)
    emit(STARTED)
    emit(CallStarted(0.0, 1, stage="judge"))
    emit(CallEnded(0.1, 0.1, "rejected", message=SECRET, status=400, stage="judge"))
    failed = Outcome(key=SECRET, position=0, item=SECRET, value=SECRET, error=Failure("rejected", SECRET, raw=SECRET))
    emit(Settled(0.2, (failed,)))
    end(emit, "stopped", SECRET)
    assert len(spans.get_finished_spans()) == 2
    assert all(SECRET not in span.to_json() for span in spans.get_finished_spans())
    assert spans["run mine"].status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("kind", ["overtaken", "cancelled"])
def test_a_call_that_was_taken_off_is_no_fault(kind: str, spans: Spans) -> None:
    """It says so, and its status is no error."""
    emit = traced(ignore)
    emit(STARTED)
    call(emit, "judge", error=kind, paid=True)
    made = spans["chat gpt-5-nano"]
    assert dict(made.attributes or {})["error.type"] == kind
    assert made.status.status_code is StatusCode.UNSET


# In which context


def test_calls_at_the_same_time_do_not_mix(spans: Spans) -> None:
    """What is made inside a call is its child, however calls interleave, and afterwards all is as it was before."""
    tracer = trace.get_tracer("inside")

    async def one(emit: Emit, number: int) -> None:
        before = context.get_current()
        for attempt in (1, 2):
            emit(CallStarted(0.0, attempt, stage="judge"))
            await asyncio.sleep(0)
            assert baggage.get_baggage("who") == "caller"
            with tracer.start_as_current_span(f"inside {number}.{attempt}"):
                await asyncio.sleep(0)
            emit(CallEnded(0.5, 0.5, "", stage="judge", input_tokens=number * 10 + attempt))
            assert context.get_current() == before

    async def run() -> None:
        emit = traced(ignore)
        emit(STARTED)
        await asyncio.gather(*(one(emit, number) for number in range(20)))
        end(emit)

    token = context.attach(baggage.set_baggage("who", "caller"))
    asyncio.run(run())
    context.detach(token)
    assert not trace.get_current_span().get_span_context().is_valid
    asked = {own(span): dict(span.attributes or {}) for span in spans.named("chat gpt-5-nano")}
    assert len(asked) == 40
    for number in range(20):
        for attempt in (1, 2):
            around = asked[parent(spans[f"inside {number}.{attempt}"]) or 0]
            assert around["gen_ai.usage.input_tokens"] == number * 10 + attempt


def test_the_run_belongs_to_who_began_it(spans: Spans) -> None:
    """Its parent is the span that was current then, not the one that is when it starts or ends."""
    tracer = trace.get_tracer("caller")
    with tracer.start_as_current_span("caller") as caller:
        emit = traced(ignore)
    with tracer.start_as_current_span("another"):
        emit(STARTED)
        end(emit)
    assert parent(spans["run mine"]) == own(caller)


def test_a_run_inside_a_call_of_another(spans: Spans) -> None:
    """The inner run is the child of the outer call, and leaves the outer one's context as it was."""
    outer = traced(ignore)
    outer(STARTED)
    outer(CallStarted(0.0, 1, stage="shout"))
    within = trace.get_current_span()
    inner = traced(ignore)
    inner(RunStarted(0.0, "r2", "inner", "", None, 0))
    inner(CallStarted(0.0, 1))
    inner(CallEnded(0.1, 0.1, ""))
    end(inner)
    assert trace.get_current_span() is within
    outer(CallEnded(0.2, 0.2, "", stage="shout"))
    end(outer)
    assert parent(spans["run inner"]) == own(spans["call shout"])
    assert parent(spans["call"]) == own(spans["run inner"])


def test_an_end_in_a_context_without_its_beginning(spans: Spans) -> None:
    """Makes nothing, and ends nobody else's call."""
    emit, other = traced(ignore), traced(ignore)
    emit(STARTED)
    other(RunStarted(0.0, "r2", "other", "", None, 0))
    emit(CallEnded(0.1, 0.1, "", stage="judge"))
    emit(CallStarted(0.0, 1, stage="judge"))
    other(CallEnded(0.1, 0.1, ""))
    assert spans.get_finished_spans() == ()
    emit(CallEnded(0.1, 0.1, "", stage="judge"))
    assert [span.name for span in spans.get_finished_spans()] == ["chat gpt-5-nano"]


def test_stages_that_did_not_end_end_with_the_run(spans: Spans) -> None:
    """A run that is stopped leaves no span open."""
    emit = traced(ignore)
    emit(STARTED)
    emit(StageStarted(0.0, "judge", 2, 4))
    end(emit, "interrupted")
    assert parent(spans["stage judge"]) == own(spans["run mine"])
    assert spans["run mine"].status.status_code is StatusCode.UNSET


# What goes wrong


class Broken(SpanProcessor):
    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if span.name.startswith("chat"):
            raise RuntimeError("broken")


def test_a_broken_processor_costs_spans_and_no_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once, and every event still reaches its reader."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Broken())
    use(monkeypatch, provider)
    heard: list[Event] = []
    emit = traced(heard.append)
    emit(STARTED)
    for _ in range(3):
        call(emit, "judge")
    end(emit)
    assert len(heard) == 8
    assert [record.message for record in caplog.records] == ["OpenTelemetry failed; this run makes no more spans"]


def test_what_is_not_sampled_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sampler that says no is obeyed, for calls too."""
    made = Spans()
    provider = TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(made))
    use(monkeypatch, provider)
    emit = traced(ignore)
    emit(STARTED)
    call(emit, "judge", input_tokens=1)
    end(emit)
    assert made.get_finished_spans() == ()
