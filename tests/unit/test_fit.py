"""Any type to a schema, to what each provider takes of it, to an answer, to a value; and what mending may change."""

import datetime
import enum
import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import jsonschema_rs
import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.call import Message, Request
from headrace.core.digest import digest_of
from headrace.core.errors import AnswerError
from headrace.provider.dialect import Means
from headrace.provider.directory import PROVIDERS
from headrace.provider.example import compiled
from headrace.provider.fit import ANTHROPIC, ANY, GEMINI, GROQ, OPENAI, Fit, fitted
from headrace.task.mend import mended
from headrace.task.schema import Returns, checked, returns_of

FITS = {"any": ANY, "openai": OPENAI, "anthropic": ANTHROPIC, "gemini": GEMINI, "groq": GROQ}


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Place(pydantic.BaseModel):
    """Where it is."""

    street: str = pydantic.Field(min_length=1, max_length=40)
    number: int | None = None


class Tree(pydantic.BaseModel):
    name: str
    children: "list[Tree]" = []


LEAVES = st.sampled_from(
    [
        str, int, bool, float, datetime.date, datetime.datetime, Color, Place, Literal["a", "b"], Literal["only"],
        int | None, str | int, Place | Color, list[int], list[Place], Place | None, tuple[int, str],
    ]
)  # fmt: skip
FIELDS = st.one_of(
    LEAVES.map(lambda kind: (kind, ...)),
    LEAVES.map(lambda kind: (kind | None, None)),
    st.tuples(st.integers(-50, 50), st.integers(0, 50)).map(
        lambda span: (int, pydantic.Field(ge=span[0], le=span[0] + span[1], description="a whole number"))
    ),
    st.just((float, pydantic.Field(gt=0, lt=1))),
    st.integers(0, 3).map(
        lambda least: (list[Literal["x", "y"]], pydantic.Field(min_length=least, max_length=least + 2))
    ),
    st.just((str, pydantic.Field(max_length=12, title="T", examples=["e"]))),
)


@st.composite
def models(draw: st.DrawFn) -> type[pydantic.BaseModel]:
    fields = draw(st.dictionaries(st.sampled_from(["a", "b", "label", "type", "items", "über"]), FIELDS, min_size=1))
    inner = pydantic.create_model("Inner", **draw(st.dictionaries(st.sampled_from(["x", "y"]), FIELDS)))
    if draw(st.booleans()):
        fields["inner"] = (list[inner], ...)  # type: ignore[valid-type]
    return pydantic.create_model("Answer", __doc__="An answer.", **fields)


def words_of(schema: Any, *, named: bool = False) -> Iterator[str]:
    """Every keyword in it, wherever; the names of fields are none."""
    if isinstance(schema, list):
        for each in schema:
            yield from words_of(each)
    elif isinstance(schema, Mapping):
        for word, value in schema.items():
            if not named:
                yield word
            if word not in ("enum", "const") or named:
                yield from words_of(value, named=not named and word in ("properties", "$defs"))


def schemas_in(schema: Any) -> Iterator[Mapping[str, Any]]:
    """Every mapping in it."""
    if isinstance(schema, Mapping):
        yield schema
    for each in schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list) else ():
        yield from schemas_in(each)


@given(models(), st.integers(0, 2**32))
@settings(deadline=None, max_examples=150)
def test_any_model_to_a_schema_to_an_answer_to_a_value(model: type[pydantic.BaseModel], seed: int) -> None:
    """What satisfies the schema that is sent is accepted, and becomes an instance; so does what is said around it."""
    returns = returns_of(model)
    answer = msgspec.json.encode(compiled(returns.schema)(seed)).decode()
    value = checked(returns, answer)
    assert isinstance(value, model)
    assert checked(returns, f"Here you are:\n```json\n{answer}\n```\nAnything else?") == value


@given(models())
@settings(deadline=None, max_examples=150)
def test_a_fitted_schema_has_only_words_that_the_provider_takes(model: type[pydantic.BaseModel]) -> None:
    """And it is still a schema, of the same fields; what was dropped and constrains is told in a description."""
    schema = returns_of(model).schema
    for name, fit in FITS.items():
        made = fitted(schema, fit)
        jsonschema_rs.validator_for(made)
        assert list(made["properties"]) == list(schema["properties"]), name
        if fit.words is None:
            assert made == schema
            continue
        shape = {"type", "properties", "required", "items", "additionalProperties", "enum", "anyOf", "$ref", "$defs"}
        assert set(words_of(made)) <= shape | fit.words | {"description"}, name


@given(models(), st.integers(0, 2**32))
@settings(deadline=None, max_examples=100)
def test_a_fitted_schema_allows_all_that_the_whole_one_does(model: type[pydantic.BaseModel], seed: int) -> None:
    """Constraints may be lost on the way, never added: a right answer stays possible."""
    schema = returns_of(model).schema
    answer = compiled(schema)(seed)
    for fit in (OPENAI, ANTHROPIC, GEMINI):
        jsonschema_rs.validator_for(fitted(schema, fit), validate_formats=True).validate(answer)


def test_what_cannot_be_enforced_is_told() -> None:
    """In the description of its own place, behind what stands there."""
    schema = {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "minimum": 1, "maximum": 9, "description": "How many."},
            "t": {"type": "string", "minLength": 3, "format": "uri"},
            "l": {"type": "array", "items": {"type": "string"}, "minItems": 2, "uniqueItems": True},
            "c": {"const": "x"},
            "o": {"oneOf": [{"type": "string"}, {"type": "null"}], "default": None},
        },
    }
    told = fitted(schema, ANTHROPIC)["properties"]
    assert told["n"] == {"type": "integer", "description": "How many. (at least 1; at most 9)"}
    assert told["t"] == {"type": "string", "format": "uri", "description": "(at least 3 characters)"}
    assert told["l"]["description"] == "(at least 2 entries; no entry twice)"
    assert told["o"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    told = fitted(schema, OPENAI)["properties"]
    assert told["n"] == schema["properties"]["n"]  # type: ignore[index]
    assert told["t"]["description"] == "(at least 3 characters; a valid uri)"
    assert fitted(schema, GEMINI)["properties"]["c"] == {"enum": ["x"]}


def test_a_model_that_holds_itself() -> None:
    """The root is an object, as strict providers ask for, and the reference stays."""
    returns = returns_of(Tree)
    made = fitted(returns.schema, OPENAI)
    assert made["type"] == "object"
    assert "#/$defs/Tree" in str(made)
    answer = '{"name": "a", "children": [{"name": "b", "children": []}]}'
    jsonschema_rs.validator_for(made).validate(msgspec.json.decode(answer))
    assert checked(returns, answer) == Tree(name="a", children=[Tree(name="b")])


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("means", Means)
def test_every_dialect_tells_the_type_by_every_means(name: str, means: Means) -> None:
    """The schema is in the body, or in the prompt of it; the body is JSON."""
    returns = returns_of("label: good|bad, why: str?")
    request = Request(
        digest_of(1), model="m", messages=(Message("system", "S"), Message("user", "q")), schema=returns.schema,
        strict=True,
    )  # fmt: skip
    _, body = PROVIDERS[name].dialect().encode(request, means, {})
    text = body.decode()
    msgspec.json.decode(text)
    if means in PROVIDERS[name].means:
        assert "label" in text
        assert "good" in text


# Mending.

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(st.dictionaries(st.text(), VALUES, max_size=4))
@settings(deadline=None, max_examples=200)
def test_a_valid_answer_is_never_changed(value: dict[str, Any]) -> None:
    """Whatever it holds: fences, braces, quotes, text that looks broken."""
    kept = Returns({}, msgspec.json.decode, strict=False)
    assert checked(kept, msgspec.json.encode(value).decode()) == value


@given(st.dictionaries(st.from_regex("[a-z]{1,8}", fullmatch=True), st.integers(0, 99), min_size=1, max_size=4))
@settings(deadline=None, max_examples=100)
def test_what_is_around_an_answer_is_taken_off(value: dict[str, Any]) -> None:
    """Fences and sentences, whichever of them."""
    kept = Returns({}, msgspec.json.decode, strict=False)
    text = msgspec.json.format(msgspec.json.encode(value)).decode()
    for around in (f"```json\n{text}\n```", f"```\n{text}\n```", f"Sure!\n\n{text}\n\nDone.", f"{text}\n<|end|>"):
        assert checked(kept, around) == value


@given(st.text() | st.text("{}[]\"',:`abc \n"))
@settings(deadline=None, max_examples=300)
def test_no_text_breaks_the_mending(text: str) -> None:
    """It gives candidates or none, and never raises."""
    for candidate in mended(text):
        assert isinstance(candidate, str)
    with pytest.raises(AnswerError):
        checked(returns_of("an_unlikely_name: int 7..7"), text.replace("an_unlikely_name", ""))


@pytest.mark.parametrize(
    "piece", ["{", '{"a":', "[{", '{"', "{'", '{"a":1,', "{ ,", '{"\\', '"', "{a b 'c", "```json\n{"]
)
@pytest.mark.parametrize("length", [10_000, 50_000, 1_000_000])
def test_no_text_is_mended_for_long(piece: str, length: int) -> None:
    """Neither brackets nor quotes without end: json-repair alone takes half a minute for 10,000 of them."""
    before = time.process_time()
    with pytest.raises(AnswerError):
        checked(returns_of("an_unlikely_name: int 7..7"), (piece * length)[:length])
    assert time.process_time() - before < 10


def test_a_long_answer_is_mended() -> None:
    """One of many thousand words with a comma too many."""
    value = {"l": [{"name": f'it\'s {number}, "good"', "n": number} for number in range(800)]}
    text = msgspec.json.format(msgspec.json.encode(value)).decode()
    kept = Returns({}, msgspec.json.decode, strict=False)
    assert checked(kept, f"{text[:-1]},}}") == value
    assert checked(kept, repr(value)) == value


def test_a_described_reference_keeps_its_description() -> None:
    """Where nothing may stand beside a reference, what it refers to stands there; what holds itself stays one."""

    class Order(pydantic.BaseModel):
        place: Place = pydantic.Field(description="Where it goes.")
        default: Place = pydantic.Field(description="Where it went.")
        tree: Tree = pydantic.Field(description="What is in it.")

    schema = returns_of(Order).schema
    for fit in (OPENAI, ANTHROPIC, GEMINI, GROQ):
        made = fitted(schema, fit)
        assert made["properties"]["place"]["description"] == "Where it goes."
        assert made["properties"]["default"]["description"] == "Where it went."
        assert set(made["properties"]["place"]["properties"]) == {"street", "number"}
        assert all(len(place) == 1 for place in schemas_in(made) if "$ref" in place)
        jsonschema_rs.validator_for(made)


class Chain(pydantic.BaseModel):
    next: "Chain | None" = pydantic.Field(default=None, description="The one behind it.")
    first: "Chain" = pydantic.Field(description="A reference with words beside it, to itself.")


def test_what_holds_itself_with_a_description_ends() -> None:
    """It is put in once, and then is a reference."""
    made = fitted(returns_of(Chain).schema, OPENAI)
    assert len(msgspec.json.encode(made)) < 4000
    jsonschema_rs.validator_for(made)


def test_older_schemas_name_their_definitions_otherwise() -> None:
    """`definitions` is sent as `$defs`, with what refers to it."""
    schema = {
        "type": "object", "properties": {"a": {"$ref": "#/definitions/A"}}, "definitions": {"A": {"type": "string"}},
    }  # fmt: skip
    made = fitted(returns_of(schema).schema, OPENAI)
    assert made["properties"]["a"] == {"$ref": "#/$defs/A"}
    assert made["$defs"] == {"A": {"type": "string"}}


class Shelf(pydantic.BaseModel):
    counts: dict[str, int]


def test_an_open_object_is_not_called_strict() -> None:
    """A mapping of names to numbers cannot be closed: it is sent whole, and checked here."""
    returns = returns_of(Shelf)
    assert not returns.strict
    request = Request(digest_of(1), model="m", messages=(Message("user", "q"),), schema=returns.schema, strict=False)
    form = msgspec.json.decode(PROVIDERS["openai"].dialect().encode(request, Means.SCHEMA, {})[1])["response_format"]
    assert form["json_schema"]["strict"] is False
    sent = form["json_schema"]["schema"]
    assert sent["properties"]["counts"]["additionalProperties"] == {"type": "integer"}
    assert sent["additionalProperties"] is False
    assert checked(returns, '{"counts": {"a": 1}}') == Shelf(counts={"a": 1})
    with pytest.raises(AnswerError):
        checked(returns, '{"counts": {"a": "x"}}')


def test_the_error_says_what_is_wrong_with_the_answer_itself() -> None:
    """Not that there were fences around it; and nothing of the answer's own text."""
    with pytest.raises(AnswerError, match="Expected `int`") as raised:
        checked(returns_of("n: int"), '```json\n{"n": "secret words"}\n```')
    assert "secret" not in raised.value.message
    assert "secret words" in raised.value.raw


def test_every_fit_is_one() -> None:
    """The directory's rows name fits that are described here."""
    assert {id(row.fit) for row in PROVIDERS.values()} <= {id(fit) for fit in FITS.values()}
    assert isinstance(ANY, Fit)
