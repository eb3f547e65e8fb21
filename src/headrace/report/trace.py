"""A run as OpenTelemetry spans: of the run, its stages and its calls, those to models by the GenAI conventions.

Enter events, told at once and in the context where they happen; leave spans. Knows no prompt, no answer and no words of
an error. Rules of this file:

1. Where nobody set OpenTelemetry up there is nothing: no import, and no function between an event and its reader.
2. The run's span is a child of whatever span is current where the run is begun.
3. A call's span is current while it is made, so that what the function or the client inside makes is its child; each
   attempt is a call.
4. Times are read as an event is told: the loop's clock, which events have, may stand still for a millisecond.
5. Whatever breaks here ends the spans, not the run.
"""

import logging
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.core.event import (
    CallEnded,
    CallStarted,
    Event,
    RunEnded,
    RunStarted,
    Settled,
    StageEnded,
    StageInfo,
    StageStarted,
)

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanKind

Emit = Callable[[Event], None]

_PROVIDERS = {
    "openai-responses": "openai", "azure": "azure.ai.openai", "gemini": "gcp.gemini", "mistral": "mistral_ai",
    "xai": "x_ai",
}  # fmt: skip
"""Names that the conventions have for what is called otherwise here."""
_NO_FAULT = frozenset({"overtaken", "cancelled"})
_LOG = logging.getLogger(__name__)


def traced(emit: Emit) -> Emit:
    """`emit`, with spans made of what it is told, where this program has set OpenTelemetry up; else `emit` itself."""
    if "opentelemetry.trace" not in sys.modules:
        return emit
    from opentelemetry import trace  # noqa: PLC0415 - optional; here it is imported already

    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):  # set up by nobody
        return emit
    tracer = provider.get_tracer("headrace")
    return emit if isinstance(tracer, trace.NoOpTracer) else _Spans(emit, tracer).tell


class _Kind(msgspec.Struct, frozen=True):
    """What is the same for all calls of a stage."""

    name: str
    kind: "SpanKind"
    attributes: dict[str, str]


class _Made(msgspec.Struct, frozen=True):
    """A call under way in this context, and what was current before it."""

    whose: "_Spans"
    span: "Span"
    before: "Context"
    outer: "_Made | None"


_CALL: ContextVar[_Made | None] = ContextVar("headrace_call", default=None)


class _Spans:
    """The spans of one run."""

    def __init__(self, emit: Emit, tracer: Any) -> None:
        from opentelemetry import context, trace  # noqa: PLC0415 - as above

        self._emit, self._tracer, self._trace, self._context = emit, tracer, trace, context
        self._outside = context.get_current()
        self._run: Span | None = None
        self._within: dict[str, Context] = {}
        """What the calls of a stage are children of; of the run, under no name."""
        self._stages: dict[str, Span] = {}
        self._kinds: dict[str, _Kind] = {}
        self._items = {"ok": 0, "failed": 0, "dropped": 0, "cached": 0}
        self._make: dict[type[Event], Callable[[Any], None]] = {
            CallStarted: self._call_started, CallEnded: self._call_ended, Settled: self._settled,
            StageStarted: self._stage_started, StageEnded: self._stage_ended,
            RunStarted: self._run_started, RunEnded: self._run_ended,
        }  # fmt: skip

    def tell(self, event: Event) -> None:
        make = self._make.get(type(event))
        if make is not None:
            try:
                make(event)
            except Exception:  # noqa: BLE001 - rule 5: processors and samplers are anybody's
                self._make = {}
                _LOG.exception("OpenTelemetry failed; this run makes no more spans")
        self._emit(event)

    def _run_started(self, event: RunStarted) -> None:
        attributes = {"headrace.run.id": event.run, "headrace.run.name": event.name, "headrace.source": event.source}
        self._run = self._tracer.start_span(f"run {event.name}", self._outside, attributes=attributes)
        self._within[""] = self._trace.set_span_in_context(self._run, self._outside)
        self._kinds = {stage.name: self._kind_of(stage) for stage in event.stages}
        if len(event.stages) == 1:  # its calls may name no stage
            self._kinds[""] = self._kind_of(event.stages[0])

    def _kind_of(self, stage: StageInfo) -> _Kind:
        if not stage.model:
            return _Kind(f"call {stage.name or stage.kind}", self._trace.SpanKind.INTERNAL, {})
        provider, _, model = stage.model.partition(":")
        if provider == "sim":  # what follows says how it behaves
            model = ""
        doing = "generate_content" if provider == "gemini" else "chat"
        said = {"gen_ai.operation.name": doing, "gen_ai.provider.name": _PROVIDERS.get(provider, provider)}
        if model:
            said["gen_ai.request.model"] = model
        return _Kind(f"{doing} {model or provider}", self._trace.SpanKind.CLIENT, said)

    def _stage_started(self, event: StageStarted) -> None:
        stage = self._tracer.start_span(f"stage {event.stage}", self._within.get(""))
        self._stages[event.stage] = stage
        self._within[event.stage] = self._trace.set_span_in_context(stage, self._outside)

    def _call_started(self, event: CallStarted) -> None:
        kind = self._kinds.get(event.stage) or _Kind("call", self._trace.SpanKind.INTERNAL, {})
        parent = self._within.get(event.stage) or self._within.get("")
        span = self._tracer.start_span(kind.name, parent, kind.kind, kind.attributes)
        if event.attempt > 1:
            span.set_attribute("headrace.attempt", event.attempt)
        if event.backup:
            span.set_attribute("headrace.backup", True)  # noqa: FBT003 - OpenTelemetry's own signature
        before = self._context.get_current()
        _CALL.set(_Made(self, span, before, _CALL.get()))
        self._context.attach(self._trace.set_span_in_context(span, before))

    def _call_ended(self, event: CallEnded) -> None:
        made = _CALL.get()
        if made is None or made.whose is not self:  # told in another context than its beginning
            return
        _CALL.set(made.outer)
        self._context.attach(made.before)
        said: dict[str, str | int | float] = {}
        if event.input_tokens is not None:
            said["gen_ai.usage.input_tokens"] = event.input_tokens
        if event.output_tokens is not None:
            said["gen_ai.usage.output_tokens"] = event.output_tokens
        if event.usd is not None:
            said["headrace.usd"] = event.usd
        if event.error:
            said["error.type"] = event.error
            if event.status is not None:
                said["http.response.status_code"] = event.status
            if event.error not in _NO_FAULT:
                made.span.set_status(self._trace.StatusCode.ERROR)
        if said:
            made.span.set_attributes(said)
        made.span.end()

    def _settled(self, event: Settled) -> None:
        for outcome in event.outcomes:
            self._items["dropped" if outcome.dropped else "ok" if outcome.ok else "failed"] += 1
            self._items["cached"] += outcome.cached

    def _stage_ended(self, event: StageEnded) -> None:
        stage = self._stages.pop(event.stage, None)
        if stage is not None:
            items = {"taken": event.taken, "passed": event.passed, "failed": event.failed, "dropped": event.dropped}
            stage.set_attributes(_counted(items))
            stage.end()

    def _run_ended(self, event: RunEnded) -> None:
        for stage in self._stages.values():
            stage.end()
        if self._run is not None:
            self._run.set_attributes({"headrace.status": event.status, **_counted(self._items)})
            if event.status == "stopped":
                self._run.set_status(self._trace.StatusCode.ERROR)
            self._run.end()
        self._within, self._stages, self._kinds = {}, {}, {}


def _counted(items: dict[str, int]) -> dict[str, int]:
    return {f"headrace.items.{name}": count for name, count in items.items()}
