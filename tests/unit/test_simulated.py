"""The simulated provider without time or sockets: words, chance, ledger, answers, and examples of JSON schemas."""

import json
import math
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.call import Message, Reply, Request
from headrace.core.digest import Digest
from headrace.core.errors import (
    HeadraceError,
    Overloaded,
    QuotaExhausted,
    Rejected,
    Throttled,
    Transient,
    UsageError,
)
from headrace.core.limits import Unit
from headrace.provider.chance import Fault, Faults, Latency, decide
from headrace.provider.example import compiled
from headrace.provider.ledger import Ledger, item_name
from headrace.provider.quota import Quota
from headrace.provider.simulated import After, Simulated
from headrace.sim.loop import Deadlock, run


def ask(text: str, schema: dict[str, Any] | None = None, /, **params: Any) -> Request:
    messages = (Message("system", "Be brief."), Message("user", text))
    return Request(Digest(b"x"), "any", messages, params, schema)


# Words.


def test_latency_is_read() -> None:
    """A number is fixed; lognormal has a median and a sigma."""
    assert Latency.parse("0.2") == Latency(0.2)
    assert Latency.parse("lognormal:2,0.5") == Latency(2, 0.5)


@pytest.mark.parametrize(
    "text", ["", "fast", "-1", "nan", "inf", "lognormal", "lognormal:2", "normal:2,1", "lognormal:2,-1"]
)
def test_latency_refuses_nonsense(text: str) -> None:
    """What is no latency is refused with a usage error."""
    with pytest.raises(UsageError):
        Latency.parse(text)


def test_a_tail_is_read() -> None:
    """A share of the calls takes so many seconds."""
    assert Latency(0.2).with_tail("0.02=8") == Latency(0.2, 0, 0.02, 8)


@pytest.mark.parametrize("text", ["", "8", "0.02", "0.02=", "=8", "1.5=8", "-0.1=8", "0.1=-8", "nan=8", "0.1=inf"])
def test_a_tail_refuses_nonsense(text: str) -> None:
    """What is no share or no time is refused."""
    with pytest.raises(UsageError):
        Latency(0.2).with_tail(text)


def test_faults_are_read() -> None:
    """Every fault has a word; what is not given is 0."""
    faults = Faults.parse("500=0.02,429=0.01,reset=0.03,hang=0.005,malformed=0.04,cut=0.06,retry_after=2")
    assert dict(faults.table())[Fault.CUT] == 0.06
    assert (faults.error_500, faults.throttled_429, faults.hang, faults.retry_after_s) == (0.02, 0.01, 0.005, 2)
    assert Faults.parse("") == Faults()


@pytest.mark.parametrize(
    "text",
    [
        "404=0.1",
        "500",
        "500=often",
        "500=-0.1",
        "500=1.1",
        "500=0.6,429=0.6",
        "500=nan",
        "retry_after=-1",
        "500=0,500=1",
    ],
)
def test_faults_refuse_nonsense(text: str) -> None:
    """What is no fault, or no probability, is refused."""
    with pytest.raises(UsageError):
        Faults.parse(text)


def test_a_model_name_is_read() -> None:
    """`sim:` takes words after the colon, also a lognormal latency with its comma."""
    made = Simulated.parse("latency=lognormal:2,0.5,500=0.02,seed=7,max_concurrency=3")
    assert (made.latency, made.faults.error_500, made.seed) == (Latency(2, 0.5), 0.02, 7)
    assert made.door.quotas.quotas == (Quota(unit=Unit.CONCURRENCY, limit=3),)
    assert Simulated.parse("").latency == Latency(0)


@pytest.mark.parametrize("name", ["gpt", "speed=1", "seed=x", "seed=1.5", "latency=1,fast", "max_concurrency=0"])
def test_an_unknown_word_is_refused(name: str) -> None:
    """A word that is not known is refused, and the known ones are listed."""
    with pytest.raises(UsageError):
        Simulated.parse(name)
    with pytest.raises(UsageError, match="latency, seed, max_concurrency, 500, 429"):
        Simulated.parse("speed=1")


# Chance.


def test_decisions_are_seeded() -> None:
    """The same seed, prompt and attempt decide the same; each of the three matters."""
    latency, faults = Latency(1, 0.5), Faults(error_500=0.3).table()
    one = decide(latency, faults, seed=1, prompt=b"p", attempt=0)
    assert one == decide(latency, faults, seed=1, prompt=b"p", attempt=0)
    others = [
        decide(latency, faults, seed=2, prompt=b"p", attempt=0),
        decide(latency, faults, seed=1, prompt=b"q", attempt=0),
        decide(latency, faults, seed=1, prompt=b"p", attempt=1),
    ]
    assert len({each.latency_s for each in [one, *others]}) == 4


def test_faults_come_as_often_as_asked() -> None:
    """Over many prompts each fault has its share, and latencies have their median."""
    faults = Faults(error_500=0.1, throttled_429=0.2, reset=0.05, hang=0.05, malformed=0.1, cut=0.1)
    plans = [decide(Latency(2, 0.5), faults.table(), seed=3, prompt=str(n).encode(), attempt=0) for n in range(20_000)]
    for fault, chance in faults.table():
        assert sum(plan.fault is fault for plan in plans) / len(plans) == pytest.approx(chance, abs=0.01)
    seconds = sorted(plan.latency_s for plan in plans if plan.fault is None)
    assert seconds[len(seconds) // 2] == pytest.approx(2, rel=0.05)
    spread = [math.log(each / 2) for each in seconds]
    assert math.sqrt(sum(each * each for each in spread) / len(spread)) == pytest.approx(0.5, rel=0.05)


def test_refusals_come_at_once() -> None:
    """A 429 does not wait for the latency of an answer."""
    assert decide(Latency(9), Faults(throttled_429=1).table(), seed=0, prompt=b"", attempt=0).latency_s == 0


def test_a_tail_takes_its_share_and_leaves_the_rest_as_it_was() -> None:
    """Two of a hundred calls take 8 s, another attempt draws again, and the others keep their distribution."""
    latency = Latency(2, 0.5, 0.02, 8)
    drawn = [decide(latency, (), seed=3, prompt=str(n).encode(), attempt=0).latency_s for n in range(20_000)]
    assert drawn.count(8) / len(drawn) == pytest.approx(0.02, abs=0.003)
    others = sorted(each for each in drawn if each != 8)
    assert others[len(others) // 2] == pytest.approx(2, rel=0.05)
    again = [
        decide(latency, (), seed=3, prompt=str(n).encode(), attempt=1).latency_s for n in range(20_000) if drawn[n] == 8
    ]
    assert again.count(8) < 0.1 * len(again)


# Ledger.


def test_long_items_are_named_by_start_and_hash() -> None:
    """Up to 200 characters the text itself, beyond that its first 80 and 16 digits of its SHA-256."""
    assert item_name("x" * 200) == "x" * 200
    long = "y" * 201
    assert item_name(long) == "y" * 80 + sha256(long.encode()).hexdigest()[:16]


def test_a_reset_keeps_what_is_in_flight() -> None:
    """Counts start anew, but calls in flight stay counted."""
    ledger = Ledger()
    ledger.arrived()
    ledger.arrived()
    ledger.left("200")
    ledger.pay("a", 1, 1)
    ledger.reset()
    assert ledger.as_json() == {
        "requests": 1, "by_status": {}, "in_flight": 1, "most_in_flight": 1, "paid": 0, "input_tokens": 0,
        "output_tokens": 0, "items": {},
    }  # fmt: skip


# Calls.


def test_answers_follow_from_the_request_alone() -> None:
    """Another provider with another seed gives the same answer; another prompt another one."""
    first, again = run(Simulated()(ask("a"))), run(Simulated(seed=5)(ask("a")))
    assert first == again
    assert first.text.startswith("simulated answer ")
    assert run(Simulated()(ask("b"))).text != first.text
    assert (first.finish, first.input_tokens, first.output_tokens) == ("stop", 3, 7)


def test_max_tokens_cuts_the_answer() -> None:
    """A maximum output below the answer's length cuts the text and says so; one above does nothing."""
    for name in ("max_tokens", "max_completion_tokens"):
        cut = run(Simulated()(ask("a", None, **{name: 2})))
        assert (cut.text, cut.finish, cut.output_tokens) == ("simulate", "length", 2)
    assert run(Simulated()(ask("a", max_tokens=7))).finish == "stop"


def test_a_script_is_followed_per_prompt() -> None:
    """Each prompt goes through the steps from the first, and the last one repeats."""
    simulated = Simulated(script=[Throttled("slow", retry_after_s=1), "positive", After(2, "late")])

    async def main() -> list[str]:
        said: list[str] = []
        for text in "abaaba":
            try:
                said.append(text + (await simulated(ask(text))).text)
            except Throttled as error:
                assert error.retry_after_s == 1
                said.append(text + "!")
        return said

    assert run(main()) == ["a!", "b!", "apositive", "alate", "bpositive", "alate"]
    assert simulated.ledger.by_status == {"200": 4, "throttled": 2}


def test_a_script_may_be_a_function() -> None:
    """A function of the request gives text, reply or error, and may raise one."""

    def script(request: Request) -> str | Reply:
        if request.messages[-1].content == "bad":
            raise Rejected("no", status=400)
        return Reply("whole", model="m") if request.messages[-1].content == "reply" else "text"

    simulated = Simulated(script=script)
    assert run(simulated(ask("x"))).text == "text"
    assert run(simulated(ask("reply"))) == Reply("whole", model="m")
    with pytest.raises(Rejected):
        run(simulated(ask("bad")))
    assert simulated.ledger.in_flight == 0
    assert simulated.ledger.by_status == {"200": 2, "400": 1}


def test_a_script_that_breaks_leaves_nothing_in_flight() -> None:
    """A bug in the script's function comes out as it is, and the books stay whole."""

    def script(request: Request) -> str:
        raise ZeroDivisionError(request.model)

    simulated = Simulated(script=script)
    with pytest.raises(ZeroDivisionError):
        run(simulated(ask("x")))
    assert simulated.ledger.in_flight == 0


def test_errors_of_a_script_are_raised_fresh() -> None:
    """The same scripted error raised twice is two errors with all their fields, so tracebacks do not pile up."""
    simulated = Simulated(script=[Throttled("slow", hint="wait", status=429, retry_after_s=3)])
    caught: list[Throttled] = []
    for _ in range(2):
        with pytest.raises(Throttled) as info:
            run(simulated(ask("x")))
        caught.append(info.value)
    assert caught[0] is not caught[1]
    assert vars(caught[0]) == vars(caught[1])
    assert (caught[0].message, caught[0].hint, caught[0].status, caught[0].retry_after_s) == ("slow", "wait", 429, 3)


@pytest.mark.parametrize("script", [[], "text"])
def test_an_empty_script_is_refused(script: Any) -> None:
    """No steps, or a bare text, is a usage error."""
    with pytest.raises(UsageError):
        Simulated(script=script)


@pytest.mark.parametrize(
    ("fault", "error"),
    [(Fault.ERROR_500, Transient), (Fault.THROTTLED_429, Throttled), (Fault.RESET, Transient), (Fault.CUT, Transient),
     (Fault.MALFORMED, Transient), (Fault.UNAVAILABLE_503, Overloaded), (Fault.OVERLOADED_529, Overloaded),
     (Fault.SLOW_DOWN, Throttled), (Fault.HTML, Transient), (Fault.HIDDEN, Transient), (Fault.QUOTA, QuotaExhausted)],
)  # fmt: skip
def test_each_fault_raises_its_error(fault: Fault, error: type[HeadraceError]) -> None:
    """A fault becomes the error that the HTTP provider would raise, is counted by its word and never paid."""
    simulated = Simulated(script=[fault], faults=Faults(retry_after_s=4))
    with pytest.raises(error) as caught:
        run(simulated(ask("x")))
    assert simulated.ledger.by_status == {fault.value: 1}
    assert (simulated.ledger.paid, simulated.ledger.in_flight) == (0, 0)
    if fault is Fault.THROTTLED_429:
        assert isinstance(caught.value, Throttled)
        assert caught.value.retry_after_s == 4


def test_a_hang_never_ends() -> None:
    """A hanging call waits for ever: without a timeout virtual time finds a deadlock."""
    simulated = Simulated(script=[Fault.HANG])
    with pytest.raises(Deadlock):
        run(simulated(ask("x")))
    assert simulated.ledger.by_status == {"hang": 1}


# Examples of JSON schemas.


def valid(schema: Any, value: Any, root: Any, seen: tuple[str, ...] = ()) -> bool:
    """A tiny checker, written apart from the maker: every keyword by itself, as the standard says.

    `seen` are the references followed at this very value: one that leads back to itself proves nothing.
    """
    if isinstance(schema, bool):
        return schema
    if (name := schema.get("$ref", "").rpartition("/")[2]) in seen:
        return False
    inside = (*seen, name) if name else seen
    checks = [
        not name or valid(root["$defs"][name], value, root, inside),
        "const" not in schema or same(value, schema["const"]),
        "enum" not in schema or any(same(value, each) for each in schema["enum"]),
        "anyOf" not in schema or any(valid(each, value, root, inside) for each in schema["anyOf"]),
        all(valid(each, value, root, inside) for each in schema.get("allOf", ())),
        "type" not in schema or any(typed(value, kind) for kind in listed(schema["type"])),
    ]
    if isinstance(value, str):
        checks.append(schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        checks += [
            schema.get("minimum", -math.inf) <= value <= schema.get("maximum", math.inf),
            "exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"],
            "exclusiveMaximum" not in schema or value < schema["exclusiveMaximum"],
            "multipleOf" not in schema or (value / schema["multipleOf"]).is_integer(),
        ]
    elif isinstance(value, list):
        first = schema.get("prefixItems", [])
        checks += [
            schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf),
            all(valid(each, item, root) for each, item in zip(first, value, strict=False)),
            all(valid(schema.get("items", True), item, root) for item in value[len(first) :]),
            not schema.get("uniqueItems") or len({json.dumps(item) for item in value}) == len(value),
        ]
    elif isinstance(value, dict):
        known = schema.get("properties", {})
        checks += [
            schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", math.inf),
            set(schema.get("required", ())) <= value.keys(),
            all(
                valid(known.get(name, schema.get("additionalProperties", True)), each, root)
                for name, each in value.items()
            ),
        ]
    return all(checks)


def same(left: Any, right: Any) -> bool:
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def listed(kind: Any) -> list[Any]:
    return kind if isinstance(kind, list) else [kind]


def typed(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, int):
        return kind in ("integer", "number")
    names = {str: "string", float: "number", list: "array", dict: "object", type(None): "null"}
    return names[type(value)] == kind


names = st.sampled_from(["label", "score", "why", "kids", "key1", "a b", "ünï"])


@st.composite
def between(draw: st.DrawFn, low: str, high: str, most: int) -> dict[str, int]:
    least = draw(st.integers(0, most))
    made: dict[str, int] = {low: least} if draw(st.booleans()) else {}
    if draw(st.booleans()):
        made[high] = draw(st.integers(least, most))
    return made


@st.composite
def numbers(draw: st.DrawFn) -> dict[str, Any]:
    whole = draw(st.booleans())
    bound = st.integers(-(10**6), 10**6) if whole else st.floats(-1e6, 1e6)
    low = draw(bound)
    schema: dict[str, Any] = {"type": "integer" if whole else "number"}
    if draw(st.booleans()):
        schema[draw(st.sampled_from(["minimum", "exclusiveMinimum"]))] = low
    if draw(st.booleans()):
        schema[draw(st.sampled_from(["maximum", "exclusiveMaximum"]))] = low + draw(st.integers(2, 1000))
    if whole and len(schema) < 3 and draw(st.booleans()):
        schema["multipleOf"] = draw(st.integers(1, 50))
    return schema


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> dict[str, Any]:
    properties = draw(st.dictionaries(names, inner, max_size=4))
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if draw(st.booleans()):
        schema["required"] = draw(st.lists(st.sampled_from(sorted(properties)), unique=True)) if properties else []
    if draw(st.booleans()):
        schema["additionalProperties"] = draw(st.one_of(st.booleans(), inner))
    return schema


def arrays(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    def build(items: Any, size: dict[str, int], first: list[Any]) -> dict[str, Any]:
        return {"type": "array", "items": items, **size, **({"prefixItems": first} if first else {})}

    return st.builds(build, inner, between("minItems", "maxItems", 4), st.lists(inner, max_size=2))


scalars = st.one_of(
    st.builds(lambda size: {"type": "string", **size}, between("minLength", "maxLength", 40)),
    numbers(),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {}, True, {"type": ["string", "null"]}, {"const": 0}]),
    st.builds(lambda values: {"enum": values}, st.lists(st.one_of(st.none(), st.integers(), st.text()), min_size=1)),
    st.sampled_from(["A", "B"]).map(lambda name: {"$ref": f"#/$defs/{name}"}),
)
schemas = st.recursive(
    scalars,
    lambda inner: st.one_of(
        objects(inner), arrays(inner), st.builds(lambda each: {"anyOf": each}, st.lists(inner, min_size=1, max_size=3))
    ),
    max_leaves=12,
)


@given(schemas, schemas, schemas, st.integers(0, 2**64 - 1))
@settings(max_examples=200, deadline=None)
def test_any_schema_gets_a_valid_value(top: Any, a: Any, b: Any, seed: int) -> None:
    """A value made from a schema satisfies it, the same seed makes the same one; what has no finite value is refused."""
    root = {"allOf": [top], "$defs": {"A": a, "B": b}}
    try:
        make = compiled(root)
        value = make(seed)
    except Rejected:
        return
    assert valid(root, value, root), (root, value)
    assert make(seed) == value
    assert json.loads(json.dumps(value)) == value


@given(schemas, st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_nothing_satisfiable_is_refused(top: Any, seed: int) -> None:
    """With definitions that can be satisfied no schema of the strategy is refused, but for those that grow too large."""
    root = {"anyOf": [top], "$defs": {"A": {"type": "string"}, "B": {"type": "array", "items": {"$ref": "#/$defs/B"}}}}
    assert valid(root, compiled(root)(seed), root)


def test_recursive_schemas_come_to_an_end() -> None:
    """A schema that contains itself gets a finite value by its shortest way."""
    tree = {
        "$ref": "#/$defs/Tree",
        "$defs": {
            "Tree": {
                "type": "object",
                "required": ["kids", "next", "name"],
                "properties": {
                    "kids": {"type": "array", "items": {"$ref": "#/$defs/Tree"}},
                    "next": {"anyOf": [{"$ref": "#/$defs/Tree"}, {"type": "null"}]},
                    "name": {"type": "string", "maxLength": 3},
                },
            }
        },
    }
    make = compiled(tree)
    for seed in range(200):
        assert valid(tree, make(seed), tree)


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"type": "sound"},
        {"enum": []},
        {"anyOf": []},
        {"anyOf": {"type": "string"}},
        {"type": "string", "pattern": "^a+$"},
        {"not": {}},
        {"$ref": "#/$defs/Missing"},
        {"$ref": "https://example.com/schema"},
        {"$ref": "#"},
        {"type": "integer", "minimum": 3, "maximum": 2},
        {"type": "integer", "minimum": "three"},
        {"type": "number", "exclusiveMinimum": 1, "exclusiveMaximum": 1},
        {"type": "string", "minLength": 10**9},
        {"type": "array", "minItems": 10**9},
        {"type": "array", "minItems": 3, "uniqueItems": True, "items": {"type": "boolean"}},
        {"type": "object", "required": ["a"], "properties": {"a": False}},
        {"type": "object", "required": ["a"], "additionalProperties": False},
        {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]},
        {"allOf": [{"type": "string"}, {"type": "null"}]},
        [1, 2],
        "string",
    ],
)
def test_what_cannot_be_satisfied_is_refused(schema: Any) -> None:
    """A schema without a value, or one the maker cannot promise to satisfy, is a rejected request, not a wrong answer."""
    with pytest.raises(Rejected):
        compiled(schema)(1)


def test_too_large_values_are_refused_fast() -> None:
    """A small schema that asks for millions of values does not take the provider down."""
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(10):
        schema = {"type": "array", "items": schema, "minItems": 50}
    with pytest.raises(Rejected, match="too large"):
        compiled(schema)(1)
    for _ in range(5000):
        schema = {"type": "array", "items": schema}
    with pytest.raises(Rejected):
        compiled(schema)(1)


def test_formats_are_filled() -> None:
    """Formats that typed models use get values of their form."""
    pydantic = pytest.importorskip("pydantic")
    import datetime
    import uuid

    model = pydantic.create_model(
        "Model", day=(datetime.date, ...), at=(datetime.datetime, ...), clock=(datetime.time, ...), id=(uuid.UUID, ...),
        wait=(datetime.timedelta, ...), pair=(tuple[int, str], ...), many=(dict[str, float], ...), few=(set[int], ...),
        score=(float, pydantic.Field(gt=0, le=1)), count=(int, pydantic.Field(ge=3, lt=9, multiple_of=2)),
    )  # fmt: skip
    make = compiled(model.model_json_schema())
    for seed in range(300):
        model.model_validate_json(json.dumps(make(seed * 7919)))


def test_schema_answers_are_json() -> None:
    """A request with a schema is answered by JSON that satisfies it, and differs from prompt to prompt."""
    schema = {
        "type": "object",
        "properties": {"label": {"enum": ["a", "b"]}, "score": {"type": "number", "minimum": 0, "maximum": 1}},
        "required": ["label", "score"],
        "additionalProperties": False,
    }
    simulated = Simulated()
    said = {run(simulated(ask(str(n), schema))).text for n in range(50)}
    assert all(valid(schema, json.loads(text), schema) for text in said)
    assert len(said) > 40
