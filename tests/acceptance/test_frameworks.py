"""Headrace among others: LangChain's chains, LangGraph's graphs, data frames, whatever a program has already."""

import asyncio
import functools
import operator
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict
from uuid import UUID

import httpx
import pandas as pd
import polars as pl
import pydantic
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelNotFoundError,
    ModelRateLimitError,
    ModelTimeoutError,
    OutputParserException,
)
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import PydanticOutputParser, StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import headrace as hr
from acceptance.endpoint import completion, endpoint
from headrace.provider.foreign import foreign_error

ROWS = [{"id": f"r{number}", "text": f"text {number}"} for number in range(6)]
FAST = hr.Retry(attempts=3, base_s=0.001)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def chain(answer: str = "yes") -> Runnable[dict[str, Any], str]:
    prompt = ChatPromptTemplate.from_messages([("human", "Judge {text}")])
    return prompt | FakeListChatModel(responses=[answer]) | StrOutputParser()


def hosted(url: str) -> Runnable[dict[str, Any], str]:
    """Its connections end with their answers: none outlives the loop of its run, which would be a warning."""
    client = httpx.AsyncClient(limits=httpx.Limits(max_keepalive_connections=0))
    model = ChatOpenAI(
        model="m", base_url=url, api_key=pydantic.SecretStr("sk-mine"), max_retries=0, http_async_client=client
    )
    return ChatPromptTemplate.from_messages([("human", "Judge {text}")]) | model | StrOutputParser()


# LangChain


WAYS: dict[str, Callable[[Any], Any]] = {
    "invoke": lambda chain: hr.Map(chain.invoke),
    "ainvoke": lambda chain: hr.Map(chain.ainvoke),
    "the chain": lambda chain: chain,
    "a Map of the chain": hr.Map,
    "a function": lambda chain: lambda row: chain.invoke(dict(row)),
    "a function that gives something to await": lambda chain: lambda row: chain.ainvoke(dict(row)),
    "partial": lambda chain: functools.partial(chain.ainvoke, config={"tags": ["mine"]}),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_chain_is_run_over_items(way: str, store: Path) -> None:
    """However it is given: its answers are values, and keyed rows stay with theirs."""
    run = hr.run(WAYS[way](chain() | RunnableLambda(lambda text: f"{text}!")), ROWS, key="id", store=store)
    assert [(outcome.key, outcome.value) for outcome in run] == [(row["id"], "yes!") for row in ROWS]


def test_a_message_is_a_value_too(store: Path) -> None:
    """A chain without a parser gives its message's fields, with what it used."""
    model: Any = FakeListChatModel(responses=["yes"])
    (outcome,) = hr.run(model, ["Is it?"], store=store)
    assert outcome.value is not None
    assert (outcome.value["content"], outcome.value["type"]) == ("yes", "ai")


def test_a_tool_is_run_over_items(store: Path) -> None:
    """What LangChain made of a plain function is still one."""

    @tool
    def double(number: int) -> int:
        """Twice as much."""
        return number * 2

    work: Any = double
    run = hr.run(work, [{"number": 1}, {"number": 2}], store=store)
    assert [outcome.value for outcome in run] == [2, 4]


def test_a_class_is_called_and_not_invoked(store: Path) -> None:
    """`invoke` and `ainvoke` of a class are not those of an object, and an object of one's own needs both."""

    class Shout:
        def __init__(self, text: str) -> None:
            self.text = text

        def invoke(self) -> str:
            return self.text

        async def ainvoke(self) -> str:
            return self.text

    class Half:
        def __call__(self, item: str) -> str:
            return item.upper()

        def invoke(self, item: str) -> str:
            raise AssertionError(item)

    with pytest.raises(hr.UsageError, match="object is no"):
        hr.run(object(), ["a"], store=store)  # type: ignore[arg-type]
    (made,) = hr.run(Half(), ["a"], store=store)
    assert made.value == "A"
    (failed,) = hr.run(Shout, ["a"], store=store)
    assert failed.error is not None  # a Shout has no JSON form: it was called
    assert "Shout" in failed.error.message


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_chains_go_side_by_side(way: str, store: Path) -> None:
    """As many at once as the limit says: on the event loop, and in threads."""
    meet = threading.Barrier(8, timeout=30)
    together: list[asyncio.Event] = []
    arrived: list[str] = []

    async def wait(row: dict[str, str]) -> str:
        together.append(asyncio.Event())
        arrived.append(row["id"])
        if len(arrived) == 8:
            for event in together:
                event.set()
        await together[arrived.index(row["id"])].wait()
        return row["id"]

    def wait_plainly(row: dict[str, str]) -> str:
        meet.wait()
        return row["id"]

    rows = [{"id": str(number)} for number in range(8)]
    chained = RunnableLambda(wait_plainly, afunc=wait)
    run = hr.run(WAYS[way](chained), rows, store=store, limits=hr.Limits(concurrency=8))
    assert run.ok == 8


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "the chain"])
@pytest.mark.parametrize(
    ("status", "code", "kind", "stops"),
    [
        (400, "context_length_exceeded", "context-too-long", False),
        (400, "bad", "rejected", False),
        (401, "invalid_api_key", "credentials", True),
        (404, "model_not_found", "model-not-found", True),
        (500, "", "transient", False),
    ],
)
def test_a_providers_refusal_inside_a_chain(
    way: str, status: int, code: str, kind: str, stops: bool, store: Path
) -> None:
    """Means what it means to headrace's own calls, although LangChain raises errors of its own."""
    body = '{"error": {"message": "no", "code": "' + code + '"}}'
    with endpoint(lambda _: (status, body)) as server:
        work = WAYS[way](hosted(server.url))
        if stops:
            with pytest.raises(hr.CallError) as caught:
                hr.run(work, ROWS[:1], store=store, retry=FAST)
            assert caught.value.kind == kind
            return
        (outcome,) = hr.run(work, ROWS[:1], store=store, retry=FAST)
        assert outcome.error is not None
        assert outcome.error.kind == kind
        assert (outcome.attempts, len(server.asked)) == ((3, 3) if kind == "transient" else (1, 1))


def test_a_chain_is_slowed_and_tried_again_by_headrace(store: Path) -> None:
    """A 429 is waited for, and a 500 tried again: no retry of LangChain's is needed."""
    asked = Counter[str]()

    def answer(request: Any) -> tuple[int, str]:
        item = request.body["messages"][-1]["content"]
        asked[item] += 1
        if asked[item] == 1:
            return (429, '{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}')
        return completion("yes") if asked[item] > 2 else (500, "{}")

    with endpoint(answer) as server:
        chained: Any = hosted(server.url)
        run = hr.run(hr.Map(chained, endpoint="mine"), ROWS, key="id", store=store, retry=FAST)
    assert [(outcome.value, outcome.attempts) for outcome in run] == [("yes", 3)] * 6


TWICE = """
import sys
sys.modules["uvloop"] = None  # which ends what a loop leaves open; not every system has it
import headrace as hr
from langchain_openai import ChatOpenAI
model = ChatOpenAI(model="m", base_url=sys.argv[1], api_key="sk-mine", max_retries=0)
for texts in (["a", "b"], ["c", "d"]):
    run = hr.run(model.ainvoke, texts, store=sys.argv[2], retry=hr.Retry(attempts=5, base_s=0.001), progress=False)
    print(run.ok, run.failed, sorted(outcome.value["content"] for outcome in run if outcome.ok))
"""


def test_a_client_that_outlives_its_loop(store: Path) -> None:
    """Connections that an earlier run left in a client's pool cost attempts, and no item."""
    with endpoint() as server:
        done = subprocess.run(
            [sys.executable, "-c", TWICE, server.url, str(store)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.stdout == "2 0 ['yes', 'yes']\n" * 2, done.stderr


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ModelAuthenticationError("no"), "credentials"),
        (ModelNotFoundError("no"), "model-not-found"),
        (ModelRateLimitError("slow"), "throttled"),
        (ModelAPIError("oops"), "transient"),
        (ModelConnectionError("gone"), "transient"),
        (ModelTimeoutError("late"), "transient"),
        (ContextOverflowError("long"), "context-too-long"),
        (OutputParserException("odd"), None),
    ],
)
def test_langchains_own_names_for_what_a_provider_answers(error: Exception, kind: str | None) -> None:
    """Also without a status, as an integration may raise them; an answer that does not parse is the function's."""
    found = foreign_error(error, 0.0)
    assert (found.kind if found else None) == kind


def test_an_answer_that_does_not_parse(store: Path) -> None:
    """Is that item's failure, and the others go on; a parsed one comes back as its fields."""

    class Mood(pydantic.BaseModel):
        mood: str

    answers = iter(['{"mood": "good"}', "no JSON at all"])
    model: Any = RunnableLambda(lambda _row: next(answers))
    parsed: Any = model | PydanticOutputParser(pydantic_object=Mood)
    first, second = hr.run(parsed.invoke, ROWS[:2], key="id", store=store, limits=hr.Limits(concurrency=1))
    assert first.value == {"mood": "good"}
    assert second.error is not None
    assert second.error.kind == "function"


def test_a_named_chain_is_not_run_again(store: Path) -> None:
    """With a name and a version what a chain answered is kept, however it is called."""
    asked = Counter[str]()

    def answer(request: Any) -> tuple[int, str]:
        asked[request.body["messages"][-1]["content"]] += 1
        return completion("yes")

    with endpoint(answer) as server:
        chained: Any = hosted(server.url)
        for work in (chained, chained.ainvoke, chained.invoke):
            run = hr.run(hr.Map(work, name="judge", version="1"), ROWS, key="id", store=store)
            assert [outcome.value for outcome in run] == ["yes"] * 6
    assert set(asked.values()) == {1}
    assert len(asked) == 6


@pytest.mark.parametrize("kind", ["async", "thread"])
def test_a_named_function_is_not_run_again(kind: str, store: Path) -> None:
    """On the loop or in a thread: a second run over the same items, and over more, calls it for the new ones alone."""
    done = Counter[str]()

    def work(row: dict[str, str]) -> str:
        done[row["id"]] += 1
        return row["text"].upper()

    async def work_later(row: dict[str, str]) -> str:
        await asyncio.sleep(0)
        return work(row)

    mapped: hr.Map[str] = hr.Map(work_later if kind == "async" else work, name="shout", version="1")
    for rows in (ROWS[:4], ROWS[:4], ROWS):
        run = hr.run(mapped, rows, key="id", store=store)
        assert [outcome.value for outcome in run] == [row["text"].upper() for row in rows]
    assert [outcome.cached for outcome in run] == [True] * 4 + [False] * 2
    assert set(done.values()) == {1}


# What is seen from outside


class Seen(BaseCallbackHandler):
    """Which chains began, inside which: what LangSmith is told."""

    def __init__(self) -> None:
        self.began: dict[UUID, tuple[str, UUID | None]] = {}

    def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: UUID, parent_run_id: Any = None, **more: Any
    ) -> None:
        self.began[run_id] = (str(more.get("name")), parent_run_id)

    def around(self, name: str) -> list[list[str]]:
        """Of each of that name, what is around it, from the inside."""
        found = []
        for each, parent in self.began.values():
            line = []
            at = parent
            while at is not None:
                outer, at = self.began[at]
                line.append(outer)
            if each == name:
                found.append(line)
        return found


class State(TypedDict, total=False):
    rows: list[dict[str, str]]
    answers: Annotated[list[str], operator.add]


def graph(node: Any) -> Any:
    made = StateGraph(State)
    made.add_node("judge", node)
    made.add_edge(START, "judge")
    made.add_edge("judge", END)
    return made.compile()


@pytest.mark.parametrize("way", ["ainvoke", "invoke", "the chain"])
@pytest.mark.parametrize("kind", ["async", "plain", "blocking"])
def test_a_node_that_fans_out(kind: str, way: str, store: Path) -> None:
    """A node of a running graph runs headrace over its rows, awaited or not; what runs inside belongs to the node."""
    judge = chain().with_config(run_name="inner")
    settings: dict[str, Any] = {"key": "id", "store": store, "name": "rows", "progress": False}

    async def node(state: State) -> dict[str, Any]:
        run = await hr.arun(WAYS[way](judge), state["rows"], **settings)
        return {"answers": [outcome.value for outcome in run]}

    def plain(state: State) -> dict[str, Any]:
        return {"answers": [outcome.value for outcome in hr.run(WAYS[way](judge), state["rows"], **settings)]}

    async def blocking(state: State) -> dict[str, Any]:
        return plain(state)

    seen = Seen()
    made = graph({"async": node, "plain": plain, "blocking": blocking}[kind])
    for config in ({"callbacks": [seen]}, {}):
        ended = asyncio.run(made.ainvoke({"rows": ROWS}, config))
        assert ended["answers"] == ["yes"] * 6
    if kind == "plain":
        assert made.invoke({"rows": ROWS}, {"callbacks": [seen]})["answers"] == ["yes"] * 6
    assert seen.around("inner") == [["judge", "LangGraph"]] * (12 if kind == "plain" else 6)


def test_a_graph_is_run_over_items(store: Path) -> None:
    """A compiled graph is work like a chain: each item is its own state."""
    made = graph(lambda state: {"answers": [row["text"] for row in state["rows"]]})
    run = hr.run(made, [{"rows": ROWS[:2]}, {"rows": ROWS[2:3]}], store=store)
    assert [outcome.value["answers"] for outcome in run if outcome.value] == [["text 0", "text 1"], ["text 2"]]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    made = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(made))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield made
    provider.shutdown()


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "the chain"])
@pytest.mark.parametrize("kind", ["async", "plain"])
def test_spans_inside_a_chain(kind: str, way: str, spans: InMemorySpanExporter, store: Path) -> None:
    """What an instrumented client makes inside a chain inside a node is a child of headrace's call, wherever it runs."""
    tracer = trace.get_tracer("client")

    def client(row: dict[str, str]) -> str:
        with tracer.start_as_current_span(f"inside {row['id']}"):
            return row["id"]

    async def node(state: State) -> dict[str, Any]:
        run = await hr.arun(WAYS[way](RunnableLambda(client)), state["rows"], key="id", store=store, name="rows")
        return {"answers": [outcome.value for outcome in run]}

    def plain(state: State) -> dict[str, Any]:
        run = hr.run(WAYS[way](RunnableLambda(client)), state["rows"], key="id", store=store, name="rows")
        return {"answers": [outcome.value for outcome in run]}

    with tracer.start_as_current_span("caller"):
        asyncio.run(graph(node if kind == "async" else plain).ainvoke({"rows": ROWS}))
    made = {span.context.span_id: span for span in spans.get_finished_spans()}
    inside = [span for span in made.values() if span.name.startswith("inside")]
    assert len({span.parent.span_id for span in inside if span.parent}) == 6
    for span in inside:
        line = []
        each = span
        while each.parent is not None:
            each = made[each.parent.span_id]
            line.append(each.name)
        assert line[-2:] == ["run rows", "caller"]
        assert len(line) >= 3


# Data frames


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "the chain"])
def test_a_frame_through_a_chain(way: str, store: Path) -> None:
    """A pandas frame and a polars frame go in, and come out with an answer for each row, in their order."""
    work = WAYS[way](RunnableLambda(lambda row: {"mood": "good", "length": len(row["text"])}))
    frame = pd.DataFrame(ROWS)
    answered = hr.run(work, frame, key="id", store=store).to_pandas()
    assert list(answered["id"]) == list(frame["id"])
    assert hr.run(work, pl.DataFrame(ROWS), key="id", store=store).to_polars()["id"].to_list() == list(frame["id"])
    frame["length"] = [
        outcome.value["length"] for outcome in hr.run(work, frame, key="id", store=store) if outcome.value
    ]
    assert list(frame["length"]) == [6] * 6
