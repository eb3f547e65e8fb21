"""Items to requests, replies to values: pure."""

import json
import string
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Generic, Literal, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, RootModel, field_validator
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from headrace.core.call import Message, Reply, Request
from headrace.core.errors import AnswerError, Filtered, HeadraceError, ItemError, Refusal, Truncated, UsageError
from headrace.core.item import Item
from headrace.task.ask import AskTask
from headrace.task.function import FunctionTask
from headrace.task.prompt import Template
from headrace.task.schema import checked, returns_of

names = st.text(string.ascii_letters, min_size=1, max_size=8)


def escape(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def test_a_prompt_among_several_says_whose_it_is() -> None:
    """Of a pipeline's stages, the one whose prompt is wrong is named: before the run, and where only an item shows it."""
    template = Template("{summry}", "second look")
    with pytest.raises(UsageError, match=r"The prompt of second look names \{summry\}, and no such column comes to it"):
        template.check(["text", "summary"])
    with pytest.raises(ItemError, match="no column 'summry', which the prompt of second look names"):
        template.fill({"text": "t"})
    with pytest.raises(UsageError, match="The prompt of second look has a lone"):
        Template("{", "second look")


@given(st.lists(st.tuples(st.text(), names), max_size=5), st.text(), st.dictionaries(names, st.text()))
def test_a_template_is_its_text_with_the_fields_put_in(
    parts: list[tuple[str, str]], end: str, data: dict[str, str]
) -> None:
    """Any text survives when its braces are doubled, whatever the values hold."""
    data |= {name: data.get(name, "{x}") for _, name in parts}
    template = Template("".join(f"{escape(text)}{{{name}}}" for text, name in parts) + escape(end))
    assert template.fill(data) == "".join(text + data[name] for text, name in parts) + end
    assert set(template.fields) == {name for _, name in parts}


@pytest.mark.parametrize("text", ["a { b", "a } b", "{}", "{ }", "{a{b}}", "{a"])
def test_a_lone_brace_is_refused_with_its_place(text: str) -> None:
    """A brace that is neither doubled nor around a name is a mistake."""
    with pytest.raises(UsageError, match=r"lone '[{}]*' at character \d+|lone"):
        Template(text)


def test_values_in_a_template() -> None:
    """None is empty, text is itself, all else is JSON; an item without columns is {item}."""
    assert Template("{a}|{b}|{c}|{d}").fill({"a": None, "b": 1.5, "c": [1, "é"], "d": True}) == '|1.5|[1,"é"]|true'
    assert Template("<{item}>").fill("x") == "<x>"
    assert Template("{odd name}").fill({"odd name": "1"}) == "1"


def test_a_missing_column_is_told_with_the_names_there_are() -> None:
    """Before any call: the wrong name, the near one, and all there are."""
    with pytest.raises(
        UsageError, match=r"\{txt\}, and the input has no such column. Did you mean \{text\}\? There are: id, text"
    ):
        Template("{txt}").check(["id", "text"])
    with pytest.raises(UsageError, match="names no column.*{id}"):
        Template("hello").check(["id"])
    with pytest.raises(ItemError, match="no column 'b'"):
        Template("{a}{b}").fill({"a": 1})


def task(template: str = "Sentiment of: {text}", **changes: Any) -> AskTask:
    return AskTask(Template(template), **{"endpoint": ("openai", "https://a/v1"), "model": "m", **changes})


def asked(made: AskTask, text: str = "hi") -> Request:
    return made.request(Item("k", 0, {"text": text}))


def test_a_request_holds_what_is_sent() -> None:
    """System first, because a constant prefix is what providers cache."""
    request = asked(task(system="Be brief.", params={"temperature": 0}))
    assert request.messages == (Message("system", "Be brief."), Message("user", "Sentiment of: hi"))
    assert (request.model, request.params, request.schema) == ("m", {"temperature": 0}, None)


@pytest.mark.parametrize(
    "change",
    [
        {"endpoint": ("openai", "https://b/v1")},
        {"endpoint": ("local", "https://a/v1")},
        {"model": "n"},
        {"system": "s"},
        {"params": {"temperature": 0}},
        {"returns": returns_of("label: a|b")},
        {"template": "Sentiment of {text}"},
    ],
)
def test_all_that_can_change_an_answer_changes_the_digest(change: dict[str, Any]) -> None:
    """Provider, address, model, messages, parameters and schema are the identity."""
    assert asked(task(**change)).digest != asked(task()).digest
    assert task(**change).digest != task().digest


def test_only_what_is_sent_is_the_identity() -> None:
    """Another key, another position, another template with the same text: the same request."""
    made = task()
    assert made.request(Item("a", 7, {"text": "hi", "other": 1})).digest == asked(made).digest
    assert asked(task("Sentiment of: {t}{text}".replace("{t}", ""))).digest == asked(made).digest
    assert asked(made).digest != asked(made, "ho").digest


def test_the_digest_is_the_same_for_ever() -> None:
    """Stored answers outlive releases: this digest may change only together with REQUEST_FORM."""
    digest = asked(task(system="s", params={"b": 1, "a": 2}, returns=returns_of("label: a|b"))).digest
    assert digest.hex() == DIGEST_OF_FORM_1


DIGEST_OF_FORM_1 = "cfb9b1752e9bb66d58f97e00dabb22549e8124ebaaeaddbae9efa430bf907119"


def test_the_first_item_tells_a_wrong_template() -> None:
    """Where columns are not known before, the first item's are: a wrong name ends the run, not an item."""
    with pytest.raises(UsageError, match="no such column"):
        task("{nope}").request(Item("k", 0, {"text": "a"}))
    made = task()
    asked(made)
    with pytest.raises(ItemError):
        made.request(Item("k", 1, {"other": "a"}))
    with pytest.raises(ItemError, match="no Unicode"):
        asked(made, "\ud800")


def test_an_item_without_content_is_no_question() -> None:
    """Where every column that the prompt names is blank, nothing is asked; one with content is enough."""
    made = task("{text} {note}")
    for data in ({"text": "", "note": " \n"}, {"text": None, "note": None}):
        with pytest.raises(ItemError, match="Every column that the prompt names is empty"):
            made.request(Item("k", 0, data))
    assert made.request(Item("k", 0, {"text": "", "note": 0})).messages[0].content == " 0"


def test_text_answers() -> None:
    """Without a type the answer is its text; an empty, filtered or refused one is an error."""
    made = task()
    assert made.value(Reply("yes")) == "yes"
    assert made.value(Reply("cut", "length")) == "cut"
    for reply, error in [
        (Reply(" \n"), AnswerError),
        (Reply("x", "filter"), Filtered),
        (Reply("no", "refusal"), Refusal),
    ]:
        with pytest.raises(error):
            made.value(reply)


def test_a_cut_answer_is_told_apart_from_a_wrong_one() -> None:
    """`length` and unreadable is truncated; `length` and complete is an answer; the raw text is kept."""
    made = task(returns=returns_of("label: a|b"))
    assert made.value(Reply('{"label":"a"}', "length")) == {"label": "a"}
    with pytest.raises(Truncated) as cut:
        made.value(Reply('{"label":', "length"))
    with pytest.raises(AnswerError) as wrong:
        made.value(Reply('{"label":"c"}'))
    assert (cut.value.raw, cut.value.kind) == ('{"label":', "truncated")
    assert (wrong.value.raw, wrong.value.kind) == ('{"label":"c"}', "answer")


SHORTHAND = "label: positive|very bad, score: float 0..1, n: int 1.., tags: [a|b]?, why: str?, ok: bool, day: date"


def test_the_shorthand_is_a_closed_schema() -> None:
    """Every field is required, nothing else is allowed, bounds and choices are in the schema."""
    returns = returns_of(SHORTHAND)
    assert returns.strict
    assert returns.schema == {
        "type": "object",
        "properties": {
            "label": {"type": "string", "enum": ["positive", "very bad"]},
            "score": {"type": "number", "minimum": 0.0, "maximum": 1.0},
            "n": {"type": "integer", "minimum": 1},
            "tags": {"anyOf": [{"type": "array", "items": {"type": "string", "enum": ["a", "b"]}}, {"type": "null"}]},
            "why": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "ok": {"type": "boolean"},
            "day": {"type": "string", "format": "date"},
        },
        "required": ["label", "score", "n", "tags", "why", "ok", "day"],
        "additionalProperties": False,
    }


GOOD = {"label": "very bad", "score": 0.5, "n": 3, "tags": ["a"], "why": None, "ok": True, "day": "2026-01-31"}


def test_the_shorthand_checks_answers() -> None:
    """A right answer is its value; each wrong one is refused for its field."""
    import msgspec

    returns = returns_of(SHORTHAND)
    assert checked(returns, msgspec.json.encode(GOOD).decode()) == GOOD
    wrong = {"label": "bad", "score": 1.1, "n": 0, "tags": ["c"], "why": 1, "ok": "true", "day": "31.1.2026"}
    for name, value in wrong.items():
        with pytest.raises(AnswerError, match=name):
            checked(returns, msgspec.json.encode({**GOOD, name: value}).decode())
    with pytest.raises(AnswerError, match="why"):
        checked(returns, msgspec.json.encode({name: value for name, value in GOOD.items() if name != "why"}).decode())
    for text in ("", "no", "[1]", "null", '{"label":'):
        with pytest.raises(AnswerError):
            checked(returns, text)


def test_a_bare_type_is_one_field() -> None:
    """`yes|no` is the field `answer`."""
    assert checked(returns_of("yes|no"), '{"answer":"yes"}') == {"answer": "yes"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("label", "no type"), ("label: ", "no type"), ("label: strin", "'strin' is no type for the field 'label'"),
        ("a: str, a: int", "twice"), ("1a: str", "cannot read"), ("a: str, b", "cannot read"), ("a: x|x", "choice 'x' of the field 'a' stands there twice"), ("good | good", "the choice 'good' of the field 'answer'"),
        ("a: x|", "no type"), ("a: str 0..1", "no bounds"), ("a: int 0.5..1", "whole numbers"), ("a: int 3..1", "wrong way"),
        ("a: [", "no type"), ("", "no type"),
    ],
)  # fmt: skip
def test_a_wrong_shorthand_is_told(line: str, said: str) -> None:
    """What cannot be read is named, with an example of what can."""
    with pytest.raises(UsageError, match=said) as error:
        returns_of(line)
    assert "label: positive|negative|neutral" in str(error.value)


@given(st.text(max_size=40))
def test_no_shorthand_breaks_the_parser(line: str) -> None:
    """Any line is a type or a UsageError."""
    try:
        returns_of(line)
    except UsageError:
        pass


class Insight(BaseModel):
    category: Literal["short", "long"]
    notes: list[str] = []


def test_a_pydantic_model_gives_its_instances() -> None:
    """The value is an instance; the schema that is sent is closed."""
    returns = returns_of(Insight)
    assert checked(returns, '{"category":"short","notes":["a"]}') == Insight(category="short", notes=["a"])
    assert returns.strict
    assert returns.schema["required"] == ["category", "notes"]
    with pytest.raises(AnswerError, match="category"):
        checked(returns, '{"category":"middle"}')


def test_a_json_schema_is_checked() -> None:
    """A schema of one's own checks answers; one that is none is refused."""
    returns = returns_of({"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}, "required": ["a"]})
    assert checked(returns, '{"a":1}') == {"a": 1}
    with pytest.raises(AnswerError):
        checked(returns, '{"a":0}')
    for wrong in ({"type": "nonsense"}, {"type": "array"}, {}):
        with pytest.raises(UsageError):
            returns_of(wrong)


class Aliased(BaseModel):
    label: str = Field(alias="theLabel")


class Even(BaseModel):
    n: int
    word: str = "w"

    @field_validator("n")
    @classmethod
    def _even(cls, n: int) -> int:
        if n % 2:
            raise ValueError("it is odd")
        return n

    @field_validator("word")
    @classmethod
    def _word(cls, word: str) -> str:
        if len(word) > 3:
            raise ValueError(f"{word!r} is too long")
        return word


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Pet(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


K = TypeVar("K")


class Box(BaseModel, Generic[K]):
    inside: K


class Typed(TypedDict):
    n: int


@dataclass
class Data:
    n: int
    when: date | None = None


class Counts(RootModel[dict[str, int]]):
    pass


@pytest.mark.parametrize(
    ("kind", "right", "value", "wrong", "said"),
    [
        (Aliased, '{"theLabel": "a"}', Aliased(theLabel="a"), '{"label": "a"}', "theLabel: Field required"),
        (Even, '{"n": 2, "word": "w"}', Even(n=2), '{"n": 3}', "n: a validator of the type refused it: it is odd"),
        (Even, '{"n": 2}', Even(n=2), '{"n": 2, "word": "CANARY"}', "too long"),
        (Pet, '{"pet": {"kind": "cat"}}', Pet(pet=Cat(kind="cat")), '{"pet": {"kind": "CANARY"}}', "'cat', 'dog'"),
        (Box[int], '{"inside": 1}', Box[int](inside=1), '{"inside": "CANARY"}', "inside: Input should be a valid integer"),
        (Typed, '{"n": 1}', {"n": 1}, '{"n": "CANARY"}', "n: Input should be a valid integer"),
        (Data, '{"n": 1, "when": "2026-01-02"}', Data(1, date(2026, 1, 2)), '{"n": 1, "when": "CANARY"}', "when"),
        (Counts, '{"a": 1}', Counts({"a": 1}), '{"CANARY": "x"}', "valid integer"),
    ],
)  # fmt: skip
def test_every_kind_of_type(kind: Any, right: str, value: Any, wrong: str, said: str) -> None:
    """Aliases, validators of one's own, unions, generics, dataclasses: a value, or what is wrong without the answer."""
    returns = returns_of(kind)
    assert checked(returns, right) == value
    with pytest.raises(AnswerError, match=said) as raised:
        checked(returns, wrong)
    assert "CANARY" not in raised.value.message


class Picky(BaseModel):
    word: str

    @field_validator("word")
    @classmethod
    def not_these(cls, word: str) -> str:
        if word == "custom":
            raise PydanticCustomError("odd", "no {what}, please", {"what": word})
        if word == "claim":
            raise AssertionError("not so")
        return {"good": "good"}[word]


@pytest.mark.parametrize(
    ("word", "said"),
    [("custom", "word: %s: no ..., please"), ("claim", "word: %s: not so"), ("else", "%s: KeyError: 'else'")],
)
def test_what_a_validator_says_is_told_as_its_own(word: str, said: str) -> None:
    """Whatever somebody's own validator raises, its words come after ours: so they can be left out."""
    with pytest.raises(AnswerError) as raised:
        checked(returns_of(Picky), json.dumps({"word": word}))
    wrong = said % "a validator of the type refused it"
    assert raised.value.message == f"The answer is not of the type asked for: {wrong}."


@pytest.mark.parametrize("kind", [int, 3, object()])
def test_a_type_without_fields_is_refused(kind: Any) -> None:
    """An answer is an object with fields."""
    with pytest.raises(UsageError):
        returns_of(kind)


def lengths(item: dict[str, Any]) -> int:
    return len(item)


def insight(_item: Any) -> Insight:
    return Insight(category="short")


def test_functions_are_reusable_with_a_name_and_a_version() -> None:
    """Only then do equal items share a digest, and only the same version shares them."""
    item, same = Item("a", 0, {"x": 1}), Item("b", 9, {"x": 1})
    one, two = FunctionTask(lengths, name="f", version="1"), FunctionTask(lengths, name="f", version="2")
    assert one.reusable
    assert one.request(item).digest == one.request(same).digest != two.request(item).digest
    unnamed, again = FunctionTask(lengths), FunctionTask(lengths)
    assert not unnamed.reusable
    assert len({unnamed.request(item).digest, unnamed.request(same).digest, again.request(item).digest}) == 3
    assert unnamed.digest == again.digest


def test_a_function_gives_the_type_it_names() -> None:
    """Live or from the store, the value is what the annotation says."""
    assert FunctionTask(insight).value(Reply('{"category":"short","notes":[]}')) == Insight(category="short")
    assert FunctionTask(lengths).value(Reply("3")) == 3


def test_every_error_says_what_to_do() -> None:
    """Each kind of error has a verdict and an exit status, and no two share a kind."""

    def tree(kind: type[HeadraceError]) -> list[type[HeadraceError]]:
        return [kind, *(each for child in kind.__subclasses__() for each in tree(child))]

    kinds = [kind.kind for kind in tree(HeadraceError) if kind.__module__ == "headrace.core.errors"]
    assert len(kinds) == len(set(kinds))
    assert str(HeadraceError("What.", hint="Do this.")) == "What. Do this."
