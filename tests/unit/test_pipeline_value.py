"""Pipelines and conditions as values: written and read again, compared, shown; what is none is refused in a sentence."""

import json
import tomllib
from collections.abc import Mapping
from datetime import date
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import headrace as hr
from headrace.core.errors import ItemError, UsageError
from headrace.task.condition import Condition
from headrace.task.pipeline import KINDS, kind_of, named


def grade(row: Mapping[str, Any]) -> float:
    """For Maps, and for stages that take a plain function."""
    return float(row["score"])


def together(rows: list[Any]) -> int:
    return len(rows)


def add(so_far: int, row: Any) -> int:
    return so_far + len(str(row))


async def asked(row: Any) -> Any:
    return row


class Insight:
    """A type of answers."""

    label: str


STAGES: list[Any] = [
    hr.Ask("Of {text}?"),
    hr.Ask(
        "Of {text}?", system="Be short.", returns="label: a|b", model="openai:m", temperature=0.5, max_tokens=9,
        params={"stop": ["x", "y"], "seed": 7}, images=("photo",), samples=3, name="judge", concurrency=4,
    ),
    hr.Ask("{a}", returns={"type": "object", "properties": {"import": {"enum": ["a"]}}, "required": ["import"]}),
    hr.Ask("{a}", returns=Insight, model=hr.Model("openai:m", base_url="http://127.0.0.1:1/v1")),
    hr.Map(grade),
    hr.Map(asked, name="asked", version="2", endpoint="shared", mode="async", concurrency=2),
    hr.Filter("score >= 0.5 and label in ['a', 'b']"),
    hr.Filter(grade, name="graded"),
    hr.Filter(hr.Map(grade, name="g", version="1")),
    hr.Expand("parts"),
    hr.Expand(grade),
    hr.Top(3, "score"),
    hr.Top(3, grade, largest=False, so_far=True, name="best"),
    hr.Top(3, grade, within=2.5),
    hr.Reduce(),
    hr.Reduce(together, by="brand"),
    hr.Reduce(hr.Map(together), every=5, fold=add, start=0),
    hr.Reduce(each=True, start={"import": 1, "list": [1, 2]}),
    hr.Cascade(hr.Ask("{text}", model="sim:"), hr.Map(grade), unsure="confidence < 0.7", name="cheap first"),
    hr.Cascade(hr.Map(grade), hr.Map(grade), hr.Map(grade), unsure=grade),
    hr.Fetch(),
    hr.Fetch("https://{domain}/", by="domain", allow=("10.0.0.0/8", "intranet.example"), max_bytes=5, name="pages"),
    hr.Extract(),
    hr.Extract(source="path", keep=("title", "links"), max_chars=0, concurrency=1),
]  # fmt: skip


@pytest.mark.parametrize("stage", STAGES, ids=repr)
def test_every_stage_is_written_and_read_again(stage: Any) -> None:
    """A pipeline of it is the same after JSON; what is left out stays out; its repr and str name it."""
    pipeline = hr.Pipeline(stage)
    written = json.loads(json.dumps(pipeline.to_dict()))
    assert hr.Pipeline.from_dict(written) == pipeline
    assert hr.Pipeline.from_dict(written).to_dict() == written
    assert None not in written["stage"][0].values()
    assert written["stage"][0]["kind"] == kind_of(stage)
    assert repr(stage) in repr(pipeline)
    assert str(pipeline).startswith("1. ")
    assert len({pipeline, hr.Pipeline(stage)}) == 1


def test_all_kinds_are_written_above() -> None:
    """No kind of stage is left out of the test above."""
    assert {kind_of(stage) for stage in STAGES} == {*KINDS, "cascade"}


def test_pipelines_compose() -> None:
    """A pipeline among the stages stands for its stages, a function for a Map of it; order and stages make it equal."""
    first = hr.Pipeline(hr.Filter("x > 1"), grade)
    whole = hr.Pipeline(first, hr.Top(2, "result"))
    assert whole == hr.Pipeline(hr.Filter("x > 1"), hr.Map(grade), hr.Top(2, "result"))
    assert whole != hr.Pipeline(hr.Top(2, "result"), first)
    assert (len(whole), [kind_of(stage) for stage in whole]) == (3, ["filter", "map", "top"])
    assert whole != object()
    assert str(whole) == "1. filter: Filter('x > 1')\n2. map: Map(grade)\n3. top: Top(2, 'result')"


@given(st.lists(st.sampled_from(["", "", "map", "map 2", "map 3", "filter"]), min_size=1, max_size=8))
def test_no_two_stages_have_one_name(names: list[str]) -> None:
    """Names that repeat get a number, and never one that is another stage's."""
    found = [name for name, _ in named(hr.Pipeline(*[hr.Map(grade, name=name) for name in names]).stages)]
    assert len(set(found)) == len(names)
    assert found[0] == names[0] or not names[0]


def test_how_many_are_in_flight_is_part_of_it() -> None:
    """It is written, compared and shown; of two pipelines in one the smaller number holds; less than one is refused."""
    few = hr.Pipeline(grade, in_flight=5)
    assert hr.Pipeline.from_dict(json.loads(json.dumps(few.to_dict()))) == few != hr.Pipeline(grade)
    assert "in_flight=5" in repr(few)
    assert hr.Pipeline(few, asked, in_flight=9).in_flight == 5
    for wrong in (0, -1, "5", 2.5, True):
        with pytest.raises(UsageError):
            hr.Pipeline(grade, in_flight=wrong)  # type: ignore[arg-type]
        with pytest.raises(UsageError):
            hr.Pipeline.from_dict({**few.to_dict(), "in_flight": wrong})


@pytest.mark.parametrize(
    "stage",
    [hr.Map(lambda row: row), hr.Filter(lambda row: row), hr.Top(1, lambda row: 1), hr.Reduce(lambda rows: rows)],
)
def test_code_is_never_written(stage: Any) -> None:
    """A function that has no name to import it by is refused when the pipeline is written, and works until then."""
    with pytest.raises(UsageError, match=r"<lambda> cannot be imported by its name\. Put it into a module"):
        hr.Pipeline(stage).to_dict()


def test_keys_are_never_written() -> None:
    """A model with a key or with headers is not written."""
    for model in (hr.Model("openai:m", api_key="sk-x"), hr.Model("openai:m", headers={"X": "sk-x"})):
        with pytest.raises(UsageError, match="holds no key") as raised:
            hr.Pipeline(hr.Ask("{a}", model=model)).to_dict()
        assert "sk-x" not in str(raised.value)


TEXT = """
[[stage]]
kind = "fetch"
url = "{link}"
allow = ["127.0.0.1"]

[[stage]]
kind = "extract"

[[stage]]
kind = "cascade"
unsure = "confidence < 0.7"
stages = [
    {kind = "ask", prompt = "{text}", model = "sim:"},
    {kind = "ask", prompt = "{text}"},
]

[[stage]]
kind = "map"
function = {import = "json:dumps"}

[[stage]]
kind = "filter"
keep = 'label != "spam"'
"""


def test_a_pipeline_in_toml() -> None:
    """Tables in a file become the stages; those that name no model ask the one that is given."""
    assert hr.Pipeline.from_dict(tomllib.loads(TEXT), model="openai:m") == hr.Pipeline(
        hr.Fetch("{link}", allow=("127.0.0.1",)),
        hr.Extract(),
        hr.Cascade(hr.Ask("{text}", model="sim:"), hr.Ask("{text}", model="openai:m"), unsure="confidence < 0.7"),
        json.dumps,
        hr.Filter('label != "spam"'),
    )


def of(**fields: Any) -> dict[str, Any]:
    return {"stage": [fields]}


ASK = {"kind": "ask", "prompt": "{a}"}
WRONG: list[tuple[Any, str]] = [
    ({}, "There are no stages."),
    ({"stage": []}, "A pipeline needs a stage."),
    ({"stage": "ask"}, "There are no stages."),
    ({"stage": ["ask"]}, "There are no stages."),
    ({"stage": [ASK], "model": "m"}, "A pipeline has no 'model'."),
    (of(kind="aks"), "Stage 1 is of the kind 'aks'. Choose from ask, map, "),
    (of(kind=["ask"]), "Stage 1 is of the kind ['ask']."),
    (of(prompt="{a}"), "Stage 1 is of the kind None."),
    (of(kind="ask"), "Stage 1 (ask) lacks 'prompt'."),
    (of(**ASK, promt="{a}"), "Stage 1 has no 'promt'. It may have: prompt, system"),
    (of(kind="ask", prompt=5), "'prompt' of Stage 1 (ask) is 5. Give text."),
    (of(**ASK, temperature="hot"), "'temperature' of Stage 1 (ask) is 'hot'. Give a number"),
    (of(**ASK, temperature=-1), "Stage 1 (ask): -1 is no temperature."),
    (of(**ASK, params=[]), "'params' of Stage 1 (ask) is []. Give a mapping."),
    (of(**ASK, images="photo"), "'images' of Stage 1 (ask) is 'photo'. Give a list of texts."),
    (of(**ASK, samples=True), "'samples' of Stage 1 (ask) is True. Give a whole number."),
    (of(**ASK, concurrency=0), "Stage 1 (ask): A concurrency of 0 cannot work."),
    (of(kind="map", function="json:dumps"), "'function' of Stage 1 (map) is 'json:dumps'. Give a function"),
    (of(kind="map", function={"import": "json:nothing"}), "'json:nothing' cannot be imported"),
    (of(kind="map", function={"import": "no_such_module:x"}), "'no_such_module:x' cannot be imported"),
    (of(kind="map", function={"import": ".x:y"}), "'.x:y' cannot be imported"),
    (of(kind="map", function={"import": "json"}), "'json' cannot be imported"),
    (of(kind="map", function={"import": 5}), "5 cannot be imported"),
    (of(kind="map", function={"import": "json:dumps"}, mode="fork"), "There is no mode 'fork'."),
    (of(kind="filter", keep=5), "'keep' of Stage 1 (filter) is 5."),
    (of(kind="filter", keep="x > "), "Stage 1 (filter): The condition 'x > ' cannot be read."),
    (of(kind="expand", into=["a"]), "'into' of Stage 1 (expand) is ['a']."),
    (of(kind="top", count="3", by="x"), "'count' of Stage 1 (top) is '3'. Give a whole number."),
    (of(kind="top", count=2.5, by="x"), "'count' of Stage 1 (top) is 2.5."),
    (of(kind="top", count=0, by="x"), "Stage 1 (top): The best 0 items are none."),
    (of(kind="top", count=1, by="x", within=0), "Stage 1 (top): Within 0 s nothing comes."),
    (of(kind="reduce", by="a", every=2), "Stage 1 (reduce): A Reduce goes by a column, by a number or by each item."),
    (of(kind="reduce", every=-1), "Stage 1 (reduce): Every -1 items are none."),
    (of(kind="fetch", url="https://a.example/"), "names no column"),
    (of(kind="fetch", by="host"), "Pages cannot be fetched by 'host'."),
    (of(kind="fetch", allow="10.0.0.1"), "'allow' of Stage 1 (fetch) is '10.0.0.1'."),
    (of(kind="extract", keep=["author"]), "A document has no columns"),
    (of(kind="cascade", stages=[ASK], unsure="x"), "A Cascade needs two stages or more."),
    (of(kind="cascade", stages=[ASK, ASK]), "A Cascade must know when it is unsure."),
    (of(kind="cascade", stages=[ASK, ASK], unsure=7), "unsure is 7."),
    (of(kind="cascade", stages=["ask"], unsure="x"), "Stage 1, part 1 is 'ask'."),
    (of(kind="cascade", stages=5, unsure="x"), "The stages of Stage 1 are 5."),
    (of(kind="cascade", stages=[ASK, {"kind": "filter", "keep": "x"}], unsure="x"), "A Cascade cannot ask Filter."),
    (of(kind="cascade", stages=[ASK, ASK], unsure="x", sure="y"), "Stage 1 has no 'sure'."),
]


@pytest.mark.parametrize(("data", "said"), WRONG, ids=lambda value: str(value)[:60])
def test_what_is_no_pipeline_is_told_where(data: Any, said: str) -> None:
    """Each fault is a sentence with the stage and the field, and what to do."""
    with pytest.raises(UsageError) as raised:
        hr.Pipeline.from_dict(data)
    assert said in str(raised.value)
    assert raised.value.hint


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "stage",
                        "kind",
                        "prompt",
                        "function",
                        "import",
                        "keep",
                        "into",
                        "count",
                        "by",
                        "spec",
                        "stages",
                        "unsure",
                    ]
                ),
                inner | st.sampled_from([*KINDS, "cascade"]),
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_no_file_breaks_the_reader(data: Any) -> None:
    """Whatever a file holds, it is a pipeline or a UsageError."""
    assume(isinstance(data, dict))
    try:
        assert len(hr.Pipeline.from_dict(data)) > 0
        hr.Pipeline.from_dict({"stage": [data]})
    except UsageError:
        pass


def test_stages_check_what_they_are_given() -> None:
    """From Python too: wrong types, and async functions where a quick plain one is needed."""
    wrong: list[Any] = [
        lambda: hr.Top("3", "x"),  # type: ignore[arg-type]
        lambda: hr.Filter(5),  # type: ignore[arg-type]
        lambda: hr.Expand(None),  # type: ignore[arg-type]
        lambda: hr.Reduce(by=3),  # type: ignore[arg-type]
        lambda: hr.Top(3, asked),
        lambda: hr.Reduce(fold=asked),  # type: ignore[arg-type]
        lambda: hr.Cascade(hr.Map(grade), hr.Map(grade), unsure=asked),
        lambda: hr.Pipeline(5),  # type: ignore[arg-type]
        hr.Pipeline,
    ]
    for make in wrong:
        with pytest.raises(UsageError):
            make()


# Conditions


NAMES = ["a", "b", "score"]
VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.5, -1.5, "x", "y", "", "2", "0.5", "x y", "10", "2.0", " "])
)
ORDER = {"<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b}

Tree = Any


def leaves() -> st.SearchStrategy[Tree]:
    side = st.sampled_from(NAMES).map(lambda name: ("name", name)) | VALUES.map(lambda value: ("value", value))
    name = st.sampled_from(NAMES).map(lambda name: ("name", name))
    compare = st.tuples(st.just("compare"), name, st.sampled_from(["==", "!=", *ORDER]), side)
    among = st.tuples(st.just("in"), name, st.lists(VALUES, max_size=3), st.booleans())
    return compare | among | st.tuples(st.just("true"), name)


def trees() -> st.SearchStrategy[Tree]:
    return st.recursive(
        leaves(),
        lambda inner: st.tuples(st.sampled_from(["and", "or"]), inner, inner) | st.tuples(st.just("not"), inner),
        max_leaves=6,
    )


def text_of(tree: Tree) -> str:
    kind = tree[0]
    if kind == "name":
        return str(tree[1])
    if kind == "value":
        return "null" if tree[1] is None else str(tree[1]).lower() if isinstance(tree[1], bool) else repr(tree[1])
    if kind == "compare":
        return f"{text_of(tree[1])} {tree[2]} {text_of(tree[3])}"
    if kind == "in":
        listed = ", ".join(text_of(("value", value)) for value in tree[2])
        return f"{text_of(tree[1])} {'in' if tree[3] else 'not in'} [{listed}]"
    if kind == "true":
        return text_of(tree[1])
    return f"(not {text_of(tree[1])})" if kind == "not" else f"({text_of(tree[1])} {kind} {text_of(tree[2])})"


class Incomparable(Exception):
    """The plain evaluator's word for what cannot be ordered."""


def plainly(tree: Tree, row: Mapping[str, Any]) -> Any:
    kind = tree[0]
    if kind in ("name", "true"):
        return row.get(tree[1]) if kind == "name" else bool(plainly(tree[1], row))
    if kind == "value":
        return tree[1]
    if kind == "compare":
        return compared(tree[2], plainly(tree[1], row), plainly(tree[3], row))
    if kind == "in":
        return any(compared("==", plainly(tree[1], row), value) for value in tree[2]) is tree[3]
    if kind == "not":
        return not plainly(tree[1], row)
    if kind == "and":
        return plainly(tree[1], row) and plainly(tree[2], row)
    return plainly(tree[1], row) or plainly(tree[2], row)


def numeric(value: Any) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def compared(sign: str, left: Any, right: Any) -> bool:
    if sign in ("==", "!="):
        if isinstance(left, bool) or isinstance(right, bool):
            same = left is right
        elif None not in (left, right) and isinstance(left, str) != isinstance(right, str):
            same = numeric(left) == numeric(right)
        else:
            same = left == right
        return same is (sign == "==")
    if any(side is None or str(side).strip() == "" for side in (left, right)):
        return False
    if None not in (numeric(left), numeric(right)):
        left, right = numeric(left), numeric(right)
    elif not (isinstance(left, str) and isinstance(right, str)):
        raise Incomparable
    return bool(ORDER[sign](left, right))


@given(trees(), st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_conditions_say_what_a_plain_evaluator_says(tree: Tree, row: dict[str, Any]) -> None:
    """Over rows with missing columns, nulls, booleans, numbers and numbers as text."""
    condition = Condition(text_of(tree))
    try:
        expected = bool(plainly(tree, row))
    except Incomparable:
        with pytest.raises(ItemError, match="cannot compare"):
            condition.holds(row)
    else:
        assert condition.holds(row) is expected
    assert set(condition.fields) <= set(NAMES)


@pytest.mark.parametrize(
    ("text", "row", "holds"),
    [
        ("score >= 0.5", {"score": "0.7"}, True),
        ("score >= 0.5", {"score": None}, False),
        ("score >= 0.5", {}, False),
        ("not score >= 0.5", {}, True),
        ("score == null", {}, True),
        ("a > b", {"a": "10", "b": "9"}, True),
        ("a > b", {"a": " 10", "b": "9.5 "}, True),
        ("a > b", {"a": "1e3", "b": "-.5"}, True),
        ("a > b", {"a": "10", "b": "9 kg"}, False),
        ("a > b", {"a": "nan", "b": "1_000"}, True),
        ("a < b", {"a": "2024-01-09", "b": "2024-01-10"}, True),
        ("a > '5'", {"a": "10"}, True),
        ("a < b", {"a": "90071992547409921", "b": "90071992547409922"}, True),
        ("a == 1", {"a": "1.0"}, True),
        ("a == 1", {"a": "01"}, True),
        ("a == 1.5", {"a": " 1.50"}, True),
        ("a == 1", {"a": "one"}, False),
        ("a == 1", {"a": ""}, False),
        ("a != 1", {"a": ""}, True),
        ("a == 90071992547409921", {"a": "90071992547409922"}, False),
        ("a == '1'", {"a": 1.0}, True),
        ("a == '7'", {"a": "007"}, False),
        ("a == b", {"a": "1", "b": "1.0"}, False),
        ("a in [1, 2]", {"a": "2.0"}, True),
        ("a not in [1, 2]", {"a": "x"}, True),
        ("a == '2024-01-09'", {"a": date(2024, 1, 9)}, True),
        ("a > 5", {"a": ""}, False),
        ("a <= 5", {"a": " "}, False),
        ("not a > 5", {"a": ""}, True),
        ("a > b", {"a": "", "b": "3"}, False),
        ("a < b", {"a": "", "b": "3"}, False),
        ("a < b", {"a": None, "b": "3"}, False),
        ("score is not None", {"score": 0}, True),
        ("0 < score <= 1", {"score": 1}, True),
        ("0 < score <= 1", {"score": 0}, False),
        ("score == -1.5", {"score": -1.5}, True),
        ("label in ('a', 'b')", {"label": "b"}, True),
        ("label not in ['a']", {}, True),
        ("'kettle' in text", {"text": "two kettles"}, True),
        ("'kettle' in text", {"text": None}, False),
        ("'a' in tags", {"tags": ["a", "b"]}, True),
        ("done == true", {"done": True}, True),
        ("done == true", {"done": 1}, False),
        ("done", {"done": ""}, False),
        ("item == 'x'", "x", True),
        ("größe > 1", {"größe": 2}, True),
        ("x == '\\d'", {"x": "\\d"}, True),
        (" x == 1\n", {"x": 1}, True),
        ("print", {"print": 1}, True),
    ],
)
def test_conditions_by_example(text: str, row: Any, holds: bool) -> None:
    """As the guide tells them."""
    assert Condition(text).holds(row) is holds


@pytest.mark.parametrize("cell", ["n/a", "1,5", "1_000", "inf", "x"])
def test_a_text_that_is_no_number_fails_its_item_beside_one(cell: str) -> None:
    """It says what could not be compared with what."""
    with pytest.raises(ItemError, match="cannot compare"):
        Condition("a > 5").holds({"a": cell})


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "x.__class__", "x.y > 1", "x()", "f(x) > 1", "(lambda: x)()", "lambda: x",
        "[y for y in x]", "{y for y in x}", "(y for y in x)", "{'a': x}", "x[0] == 1", "x[0:1]", "x + 1 > 2", "x * 10 ** 9",
        "x if y else z", "f'{x}'", "f'{x.y}' == 'a'", "(x := 1)", "await x", "yield x", "*x", "x, y > 1 for x in y",
        "x == ~1", "x == +1", "x == 1j", "x == b'a'", "x == ...", "x; y", "x = 1", "import os", "x\ny", "", " ", "1", "true",
        "'a' == 'a'", "x == [y]", "x in [[y.z]]", "x == 'a", "x ==", "\0", "x == '\0", "x == -'a'", "x == -[1]",
        "x @ y", "x and y.z", "not x.y", "\ud800 > 1",
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_condition_is_refused(text: str) -> None:
    """Code of any kind, and what names no column: a UsageError with an example, before anything runs."""
    with pytest.raises(UsageError, match="The condition") as raised:
        Condition(text)
    assert "there is no other code" in raised.value.hint


@pytest.mark.parametrize("count", [10, 99, 200, 1000, 3000, 100_000])
@pytest.mark.parametrize(
    ("before", "middle", "after"),
    [
        ("not ", "x", ""), ("(", "x", ")"), ("x == ", "-1", ""), ("-", "x", ""), ("[", "x", "]"), ("", "x", ".a"),
        ("", "x", "[0]"), ("", "x", " + x"), ("", "x", " and x"), ("", "x", " == x"), ("x if ", "x", " else x"),
        ("lambda: ", "x", ""), ("f(", "x", ")"), ("(x and ", "x", ")"),
    ],
)  # fmt: skip
def test_nesting_breaks_nothing(count: int, before: str, middle: str, after: str) -> None:
    """However deep or long: a condition that works, or a UsageError that does not repeat it all."""
    try:
        condition = Condition(before * count + middle + after * count)
    except UsageError as error:
        assert len(str(error)) < 400
    else:
        condition.holds({"x": 1})
