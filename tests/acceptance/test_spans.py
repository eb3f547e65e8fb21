"""Spans of real runs: from Python, where a program set OpenTelemetry up, and from the command, by its own variables."""

import asyncio
import gzip
import json
import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import aclosing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import headrace as hr
from acceptance.cli import Cli, Ended
from acceptance.endpoint import completion, endpoint

SECRET = "nobody else should read this"
ROWS = [{"id": str(number), "text": f"{SECRET} {number}"} for number in range(5)]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    made = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(made))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield made
    provider.shutdown()


def named(spans: InMemorySpanExporter, start: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name.startswith(start)]


def own(span: Any) -> int:
    found: int = span.get_span_context().span_id
    return found


def parents(spans: list[ReadableSpan]) -> set[int]:
    return {span.parent.span_id if span.parent is not None else 0 for span in spans}


def around(spans: InMemorySpanExporter, span: ReadableSpan) -> list[str]:
    """The names of what is around it, from the inside."""
    by_id = {own(each): each for each in spans.get_finished_spans()}
    found: list[str] = []
    while span.parent is not None and span.parent.span_id in by_id:
        span = by_id[span.parent.span_id]
        found.append(span.name)
    return found


# From Python


def awaited(work: Any, **settings: Any) -> None:
    asyncio.run(hr.arun(work, ROWS, **settings))


def streamed(work: Any, **settings: Any) -> None:
    async def read() -> None:
        async with aclosing(hr.stream(work, ROWS, **settings)) as outcomes:
            async for outcome in outcomes:
                assert outcome.ok
                assert trace.get_current_span().get_span_context().is_valid  # the caller's, as before

    asyncio.run(read())


def in_a_loop(work: Any, **settings: Any) -> None:
    async def block() -> None:
        hr.run(work, ROWS, **settings)  # in a thread: there is a loop here

    asyncio.run(block())


def plainly(work: Any, **settings: Any) -> None:
    hr.run(work, ROWS, **settings)


@pytest.mark.parametrize("begin", [plainly, awaited, streamed, in_a_loop])
def test_calls_to_a_model(begin: Callable[..., None], spans: InMemorySpanExporter, store: Path) -> None:
    """However a run is begun it is the caller's child; each call says model and tokens; no span has a text; what comes
    from the store is no call."""
    ask = hr.Ask("Judge {text}", system=SECRET, returns="label: good|bad", model="sim:seed=1")
    with trace.get_tracer("caller").start_as_current_span("caller") as caller:
        begin(ask, store=store, key="id", name="mine", progress=False)
        assert trace.get_current_span() is caller
    calls = named(spans, "chat ")
    (run,) = named(spans, "run ")
    assert (run.name, parents([run]), len(calls)) == ("run mine", {own(caller)}, 5)
    for call in calls:
        said = dict(call.attributes or {})
        assert said["gen_ai.provider.name"] == "sim"
        assert isinstance(said["gen_ai.usage.input_tokens"], int)
        assert isinstance(said["gen_ai.usage.output_tokens"], int)
        assert around(spans, call)[-2:] == ["run mine", "caller"]
    assert all(SECRET not in span.to_json() for span in spans.get_finished_spans())
    spans.clear()
    begin_again = {"store": store, "key": "id", "name": "mine", "progress": False}
    hr.run(ask, ROWS, **begin_again)  # type: ignore[arg-type]
    assert [span.name for span in spans.get_finished_spans() if not span.name.startswith("stage")] == ["run mine"]
    assert dict(named(spans, "run ")[0].attributes or {})["headrace.items.cached"] == 5


@pytest.mark.parametrize("kind", ["async", "thread"])
def test_what_a_function_does_is_inside_its_call(kind: str, spans: InMemorySpanExporter, store: Path) -> None:
    """Spans of instrumented libraries are children of the call that made them, on the loop and in threads."""
    tracer = trace.get_tracer("library")

    async def work(row: dict[str, str]) -> str:
        with tracer.start_as_current_span(f"inside {row['id']}"):
            await asyncio.sleep(0)
            return row["id"]

    def work_plainly(row: dict[str, str]) -> str:
        with tracer.start_as_current_span(f"inside {row['id']}"):
            return row["id"]

    hr.run(work if kind == "async" else work_plainly, ROWS, store=store, name="mine")
    inside = named(spans, "inside ")
    assert len(inside) == len(parents(inside)) == 5
    (run,) = named(spans, "run ")
    for span in inside:
        call, *outer = around(spans, span)
        assert not call.startswith(("run", "stage"))
        assert outer[-1] == run.name


@pytest.mark.parametrize("begin", [plainly, awaited, streamed, in_a_loop])
def test_the_stages_of_a_pipeline(begin: Callable[..., None], spans: InMemorySpanExporter, store: Path) -> None:
    """Each has its span with its counts, and calls of stages that go on at once are the children of their own."""
    tracer = trace.get_tracer("library")

    def shout(row: dict[str, str]) -> dict[str, str]:
        with tracer.start_as_current_span("inside"):
            return {"loud": row["text"].upper()}

    pipeline = hr.Pipeline(hr.Map(shout), hr.Ask("Judge {loud}", returns="label: good|bad", model="sim:seed=1"))
    with trace.get_tracer("caller").start_as_current_span("caller"):
        begin(pipeline, store=store, key="id", name="mine", progress=False)
    first, second = (span for span in spans.get_finished_spans() if span.name.startswith("stage "))
    (run,) = named(spans, "run ")
    assert parents([first, second]) == {own(run)}
    asked, inside = named(spans, "chat "), named(spans, "inside")
    assert len(asked) == len(inside) == 5
    stages = {around(spans, span)[0] for span in asked}, {around(spans, span)[1] for span in inside}
    assert {name for each in stages for name in each} == {first.name, second.name}
    assert all(len(each) == 1 for each in stages)
    for stage in (first, second):
        assert dict(stage.attributes or {})["headrace.items.passed"] == 5
    assert dict(run.attributes or {})["headrace.items.ok"] == 5
    assert all(SECRET.upper() not in span.to_json() for span in spans.get_finished_spans())


def test_every_attempt_is_a_call(spans: InMemorySpanExporter, store: Path) -> None:
    """One that failed says how, and what was tried again says so; a client's own headers can carry the call on."""
    asked = Counter[str]()

    def answer(request: Any) -> tuple[int, str]:
        item = request.body["messages"][-1]["content"]
        asked[item] += 1
        return completion("yes") if asked[item] > 1 else (500, '{"error": {"message": "' + SECRET + '"}}')

    with endpoint(answer) as server:
        model = hr.Model("openai:m", base_url=server.url)
        ask = hr.Ask("{id}", model=model)
        run = hr.run(ask, ROWS, key="id", store=store, retry=hr.Retry(attempts=2, base_s=0.001))
    assert run.ok == 5
    calls = [dict(span.attributes or {}) for span in named(spans, "chat m")]
    first = [call for call in calls if "headrace.attempt" not in call]
    assert len(calls) == 10
    assert [(call["error.type"], call["http.response.status_code"]) for call in first] == [("transient", 500)] * 5
    assert {call["headrace.attempt"] for call in calls if call not in first} == {2}
    assert all(SECRET not in span.to_json() for span in spans.get_finished_spans())


def test_a_run_that_stops_has_its_spans(spans: InMemorySpanExporter, store: Path) -> None:
    """Refused credentials end the run and its span, as an error."""
    with endpoint(lambda _: (401, '{"error": {"code": "invalid_api_key", "message": "no"}}')) as server:
        ask = hr.Ask("{id}", model=hr.Model("openai:m", base_url=server.url, api_key="sk-mine"))
        with pytest.raises(hr.CallError):
            hr.run(ask, ROWS, store=store, name="mine")
    (run,) = named(spans, "run ")
    assert (run.status.status_code.name, dict(run.attributes or {})["headrace.status"]) == ("ERROR", "stopped")
    assert all("sk-mine" not in span.to_json() for span in spans.get_finished_spans())


# From the command


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP."""

    daemon_threads = True
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.spans: list[Any] = []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        collector = self.server
        assert isinstance(collector, Collector)
        body = self.rfile.read(int(self.headers["content-length"]))
        sent = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
        for resource in ExportTraceServiceRequest.FromString(sent).resource_spans:
            for scope in resource.scope_spans:
                collector.spans.extend(scope.spans)
        self.send_response(collector.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as served:
        thread = threading.Thread(target=served.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield served
        finally:
            served.shutdown()
            thread.join()


def run(folder: Path, *words: str, **environ: str) -> Ended:
    """Ask about all rows in this environment; they are answered in any case."""
    cli = Cli(folder, **environ)
    cli.file("rows.csv", "id,text\n" + "".join(f"{row['id']},{row['text']}\n" for row in ROWS))
    asked = ("--ask", "Judge {text}", "--model", "sim:", "--key", "id", "--name", "mine")
    ended = cli.run("run", "rows.csv", *asked, *words)
    assert (ended.status, len(ended.rows)) == (0, 5), ended.err
    return ended


def test_the_command_sends_spans_to_a_collector(collector: Collector, tmp_path: Path) -> None:
    """With the standard variables and nothing else, by name or by an address alone; all have arrived when it ends."""
    address = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}"}
    named = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    for number, environ in enumerate((address, address | named)):
        collector.spans.clear()
        run(tmp_path / str(number), **environ)
        sent = Counter(span.name.partition(" ")[0] for span in collector.spans)
        assert (sent["run"], sent["chat"]) == (1, 5)
        assert len({span.trace_id for span in collector.spans}) == 1
        assert SECRET not in str(collector.spans)


def test_a_collector_that_is_not_there_costs_no_answer(tmp_path: Path) -> None:
    """The run is whole, and the command ends as its exporter's time-out says."""
    with socket.socket() as taken:  # bound, and listening to nobody
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        run(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}", OTEL_EXPORTER_OTLP_TIMEOUT="1")


def test_the_console_is_standard_error(tmp_path: Path) -> None:
    """Rows and spans do not mix."""
    told = run(tmp_path, "--quiet", OTEL_TRACES_EXPORTER="console").err
    names = []
    while told.strip():
        found, at = json.JSONDecoder().raw_decode(told.lstrip())
        names.append(found["name"].partition(" ")[0])
        told = told.lstrip()[at:]
    assert (names.count("run"), names.count("chat")) == (1, 5)


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"OTEL_TRACES_EXPORTER": "nonsense"}, "No spans are sent to nonsense: there is no such exporter"),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, ""),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "console"}, ""),
        ({"OTEL_TRACES_EXPORTER": ""}, ""),
    ],
)
def test_what_cannot_be_or_is_not_wanted(environ: dict[str, str], told: str, tmp_path: Path) -> None:
    """An exporter that is not there is told in one sentence, and the run goes on; none is none."""
    err = run(tmp_path, **environ).err
    assert (told in err) if told else ("spans" not in err and "trace_id" not in err)


def test_without_the_packages(tmp_path: Path) -> None:
    """Who asks for spans is told what to install; an address alone, which may be meant for others, says nothing."""
    hidden = Cli(tmp_path)
    hidden.file("hidden/opentelemetry/__init__.py", "raise ImportError('hidden')\n")
    path = {"PYTHONPATH": f"{tmp_path / 'hidden'}{os.pathsep}{hidden.environ['PYTHONPATH']}"}
    err = run(tmp_path, **path, OTEL_TRACES_EXPORTER="otlp").err
    assert 'OpenTelemetry is not installed (pip install "headrace[otel]")' in err
    assert "OpenTelemetry" not in run(tmp_path, **path, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9").err
