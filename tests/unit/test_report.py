"""The report: what a page says, what it never lets through, and what it costs."""

import base64
import math
import re
import time
import tracemalloc
from collections.abc import Iterable, Iterator
from functools import partial
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.errors import OutputError
from headrace.core.item import Failure, Outcome
from headrace.core.ports import Counts, RunInfo
from headrace.data.source import open_source
from headrace.engine.snapshot import CallErrors, LimitChange, LimitUse, Snapshot, Stretch, figures_of
from headrace.report.dates import place_of, stretches, words_of
from headrace.report.fields import FIELDS_MAX, Distribution, Fields
from headrace.report.items import TABLE_MAX
from headrace.report.measure import Numbers, Spread
from headrace.report.page import check_writable, render, report, write
from headrace.report.sample import Drawn
from headrace.report.scale import clock, clock_ticks, label, round_step, ticks
from headrace.report.schema import declared_type, paths_of, resolve
from headrace.report.survey import FAILED_ROWS_MAX, ROWS_MAX, SLOWEST, survey
from headrace.report.text import (
    allowance,
    clean,
    duration,
    key_told,
    keys_told,
    limit_of,
    number,
    percent,
    rate,
    shown,
    size,
    visible,
)
from headrace.store.memory import MemoryStore
from unit.reading import read

SCHEMA = {
    "type": "object",
    "$defs": {"Mood": {"type": "string", "enum": ["calm", "angry", "bored"]}},
    "properties": {
        "mood": {"$ref": "#/$defs/Mood", "description": "How it sounds."},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "urgent": {"type": "boolean"},
        "why": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
}
NASTY = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' onclick='alert(1)",
    "--><svg onload=alert(1)>",
    "{{style}} {{script}} {{body}} {{nothing}} \\g<0> \\1",
    "&lt;b&gt; &amp;amp; &#x3C;script&#x3E;",
    "\u202egnp.exe\u202c \u2066x\u2069 \x1b[31mred\x1b]0;title\x07 \x9b1m \x00",
    "\ud800 lone surrogate",
    "<!-- <base href=//evil> <meta http-equiv=refresh content=0>",
]
VOID = {"meta", "input", "br", "col"}
ALLOWED_TAGS = {
    "html", "head", "meta", "title", "style", "body", "main", "script", "header", "h1", "h2", "h3", "p", "time", "div",
    "section", "dl", "dt", "dd", "pre", "span", "table", "thead", "tbody", "tr", "th", "td", "svg", "rect", "line",
    "details", "summary", "ul", "li", "br", "label", "input", "footer", "path", "nav", "a", "article", "figure", "text",
    "g", "circle", "mark", "colgroup", "col",
}  # fmt: skip
ALLOWED_ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "class", "id", "dir", "title", "datetime", "scope",
    "aria-hidden", "x", "y", "x1", "x2", "y1", "y2", "width", "height", "viewbox", "preserveaspectratio", "data-n",
    "data-name", "data-none", "colspan", "hidden", "for", "type", "placeholder", "autocomplete", "role", "tabindex",
    "aria-label", "d", "href", "dy", "cx", "cy", "r", "data-pick", "data-value", "data-low", "data-high", "data-kind",
    "data-kind-of", "data-script",
}  # fmt: skip


class Strict(HTMLParser):
    """Reads a page, refuses tags and attributes the report does not use, and checks that tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts = 0
        self.text: list[str] = []
        self.code: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Only what the report itself writes."""
        assert tag in ALLOWED_TAGS, tag
        assert {name for name, _ in attrs} <= ALLOWED_ATTRIBUTES, attrs
        assert all(re.fullmatch("#[a-z]+", value or "") for name, value in attrs if name == "href"), attrs
        self.scripts += tag == "script"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """As any tag, but it is closed already."""
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        """Ends what was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collects what a reader sees, and the code apart."""
        if self.open and self.open[-1] in {"script", "style"}:
            self.code[self.open[-1]] = self.code.get(self.open[-1], "") + data
        else:
            self.text.append(data)


def parse(page: str) -> Strict:
    """The page read strictly."""
    parser = Strict()
    parser.feed(page)
    parser.close()
    assert not parser.open
    assert parser.scripts == 1
    return parser


def words(page: str) -> str:
    """What a reader sees, on one line."""
    return " ".join(" ".join(parse(page).text).split())


def good(position: int, value: Any, item: Any = None, **more: Any) -> Outcome:
    """An item that was answered."""
    item = {"id": position, "text": f"text {position}"} if item is None else item
    return Outcome(key=f"k{position}", position=position, item=item, value=value, attempts=1, seconds=1.5, **more)


def bad(
    position: int, kind: str = "timeout", message: str = "No answer within 30 s.", hint: str = "", raw: str = ""
) -> Outcome:
    """An item that failed."""
    error = Failure(kind, message, hint, raw)
    return Outcome(key=f"k{position}", position=position, item={"text": "t"}, error=error, attempts=4, seconds=30.0)


def info(**more: Any) -> RunInfo:
    """A finished run."""
    spec = {"model": "openai:gpt-5-nano", "ask": "How does it sound?\n\n{text}", "returns": "mood: calm|angry|bored"}
    base = {
        "id": "9f31c2ab77d0",
        "name": "calls",
        "source": "calls.csv",
        "spec": spec,
        "status": "finished",
        "started_at": 1763820180.0,
        "ended_at": 1763820221.0,
    }
    return RunInfo(**{**base, **more})


def page_of(outcomes: Iterable[Outcome], schema: Any = SCHEMA, **more: Any) -> str:
    """A page of these outcomes, with counts that fit."""
    found = list(outcomes)
    ok = sum(outcome.ok for outcome in found)
    counts = more.pop("counts", Counts(ok, len(found) - ok, 0, len(found), 1_234, 567))
    snapshot = more.pop("snapshot", None)
    run = info(**{"figures": figures_of(snapshot) if snapshot else None, **more})
    return render(msgspec.structs.replace(run, spec={**run.spec, "schema": schema}), counts, lambda: iter(found))


def field_of(values: Iterable[Any], schema: Any = None, name: str = "answer") -> Distribution:
    """The distribution of one field of these answers."""
    fields = Fields(schema)
    for value in values:
        fields.add(value)
    return next(field for field in fields.distributions() if field.name == name)


def test_page_says_what_was_asked_and_what_came() -> None:
    """Source, model, prompt, date, totals, failures with hint, and each answer beside its item are on the page."""
    outcomes = [good(i, {"mood": "calm", "score": 0.5, "urgent": True, "why": None}) for i in range(3)]
    outcomes += [bad(3, hint="Raise --timeout."), bad(4, "answer", "No JSON.", raw="Sure! Here is")]
    snapshot = Snapshot(state="ended", seconds=41.2, rate=24.3, p50_s=1.9, p95_s=4.1, most_in_flight=10, calls=9)
    said = words(page_of(outcomes, snapshot=snapshot))
    for sought in (
        "calls.csv",
        "openai:gpt-5-nano",
        "How does it sound? {text}",
        "22 November 2025, 14:03 UTC",
        "1,234",
        "41 s",
        "24.3",
        "How it sounds.",
        "Raise --timeout.",
        "Sure! Here is",
        "text 2",
        "All 5 items with an outcome.",
    ):
        assert sought in said, sought


def history(seconds: int, limit: float | None = 40.0, cause: str = "requests") -> tuple[Stretch, ...]:
    """A second each: the first half idle, the second one busy and waiting."""
    return tuple(
        Stretch(
            at, at + 1, 10 if at >= seconds / 2 else 0, 37.0 if at >= seconds / 2 else 3.0, limit, {cause: at % 2},
            {"429": 2 if at < seconds / 2 else 0},
        )
        for at in range(seconds)
    )  # fmt: skip


def flow_of(**more: Any) -> Snapshot:
    """A session that ended, with its gauges."""
    base: dict[str, Any] = {
        "state": "ended",
        "seconds": 300.0,
        "rate": 5.0,
        "calls": 1_600,
        "backups": 7,
        "call_errors": (CallErrors("throttled", 429, 14), CallErrors("timeout", None, 13)),
        "paid_again": {"backup": 5, "timeout": 2},
        "p99_s": 6.0,
        "uses": (
            LimitUse(unit="concurrency", used=0, allowed=40, most=37, most_allowed=40, mean_pace=55.0),
            LimitUse(
                unit="requests", used=0, allowed=598.3, window_s=60.0, learnt=True, most=590, most_allowed=598.3,
                mean_pace=81.0,
            ),
            LimitUse(unit="tokens", used=0, allowed=90_000, window_s=60.0, most=9, most_allowed=90_000),
        ),
        "waited_s": {"requests": 150.0, "breaker": 12.0},
        "cpu_s": 38.0,
        "cpu_share": 0.13,
        "memory_bytes": 121_000_000,
        "changes": (LimitChange(58.0, "requests", 598.3, 60.0, "found by refusals"),),
        "history": history(300),
    }  # fmt: skip
    return Snapshot(**{**base, **more})


def test_page_tells_what_bound_the_run() -> None:
    """In words, and in charts with their axes: waits by cause, each limit and its use, errors, what was paid twice."""
    page = page_of([good(0, {"mood": "calm"})], snapshot=flow_of())
    said = words(page)
    for sought in (
        "Most of the time the next call waited for the limit of requests.",
        "A higher limit than about 598 requests a minute would make such a run faster.",
        "the limit of requests: 2:30 min, 50 %",
        "nothing in the way: 2:18 min, 46 %",
        "37 at most, 40 allowed at the end",
        "5.0 items/s on average, 10.0 items/s at most",
        "54 % of the time something was in the way",
        "the endpoint to come back: 12 s, 4 %",
        "items per second",
        "time into the session",
        "5 min",
        "40 calls in flight",
        "37 of 40 (92 %)",
        "about 598 requests a minute",
        "found by refusals",
        "590 of 598 (99 %)",
        "90,000 tokens a minute",
        "1 change of a limit",
        "429: 300",
        "429 throttled",
        "Perhaps paid twice",
        "7 backups sent",
        "121 MB",
        "P99 of calls",
    ):
        assert sought in said, sought
    assert page.count("<path") == 6
    assert page.count('<g class="mark">') == 1


@pytest.mark.parametrize(
    "more, sought",
    [
        ({"waited_s": {}, "p50_s": 1.5}, "Hardly anything held calls back: the time is that of the calls themselves"),
        ({"waited_s": {}, "cpu_share": 0.97}, "This process was busy: 97 % of one core."),
        ({"waited_s": {"concurrency": 290.0}, "concurrency": 40}, "More calls at once than the stated 40"),
        ({"waited_s": {"concurrency": 290.0}}, "How many calls are worth having in flight was found by trying."),
        ({"waited_s": {"backoff": 60.0}}, "20 % of the time the next call waited for the end of a pause"),
        ({"waited_s": {"breaker": 200.0}}, "Calls were held back while the endpoint failed."),
        ({"waited_s": {"gremlins": 200.0}}, "Most of the time the next call waited for gremlins."),
    ],
)
def test_page_says_where_the_time_went(more: dict[str, Any], sought: str) -> None:
    """Whatever it was that set the pace, there is a sentence for it."""
    assert sought in words(page_of([], snapshot=flow_of(**more)))


def test_page_says_where_each_limit_is_from() -> None:
    """What was told or cut has its reason, what was found and moved on in small steps is found, the rest stated."""
    uses = (
        LimitUse(unit="concurrency", used=0, allowed=9, learnt=True, most=9, most_allowed=9),
        LimitUse(unit="requests", used=0, allowed=910, window_s=60.0, most=9, most_allowed=910),
        LimitUse(unit="tokens", used=0, allowed=5_000, window_s=60.0, most=9, most_allowed=5_000),
        LimitUse(unit="output tokens", used=0, window_s=60.0, learnt=True, most=9),
    )
    changes = (
        LimitChange(1.0, "concurrency", 8.0, 0.0, "cut for a refusal"),
        LimitChange(1.0, "requests", 900.0, 60.0, "told"),
        LimitChange(1.0, "output tokens", None, 60.0, "in nobody's way"),
    )
    page = page_of([], snapshot=flow_of(uses=uses, changes=changes))
    rows = re.findall(r'<tr><th scope="row">([^<]*)</th><td class="soft" dir="auto">([^<]*)</td>', page)
    assert rows == [
        ("9 calls in flight", "found"),
        ("910 requests a minute", "told"),
        ("5,000 tokens a minute", "stated"),
        ("no limit of output tokens", "in nobody&#x27;s way"),
    ]


def test_page_without_figures_says_so() -> None:
    """A run of an earlier headrace has no charts of its course and says so; one too short for a gauge has its errors."""
    outcomes = [good(0, {"mood": "calm"})]
    assert "How the run went over time was not kept" in words(page_of(outcomes))
    assert "How the run went over time was not kept" in words(page_of(outcomes, figures=b'{"seconds": "long"}'))
    assert "Calls in flight" not in words(page_of(outcomes, snapshot=Snapshot(state="ended")))
    short = words(page_of(outcomes, snapshot=Snapshot(calls=3, call_errors=(CallErrors("throttled", 429, 2),))))
    assert "429 throttled 2 67 %" in short


def test_page_of_several_sessions_says_which_one_it_tells_of() -> None:
    """Figures are of the session that made calls last; of one that was killed they end before it did."""
    said = words(page_of([good(0, {"mood": "calm"})], snapshot=flow_of(session=2), session=3))
    assert "session 2 of 3, the last one that made calls" in said
    killed = flow_of(session=1, state="running", seconds=61.0)
    said = words(
        page_of([], snapshot=killed, status="interrupted", reason="its process ended without a word", session=1)
    )
    assert "these figures are of 1:01 min into it" in said


def test_charts_stay_inside_their_frame() -> None:
    """Limits far above, none at all, waits of more than the time there was: every point is on the chart, none is NaN."""
    odd = (
        flow_of(history=history(5_000, 1e9)),
        flow_of(history=history(2, None)),
        flow_of(history=history(7, 0.0), waited_s={"requests": 1e9, "unheard of": 3.0}),
        flow_of(history=(Stretch(0.0, 0.0, 5, 1.0, 1.0, {"requests": 4.0}),)),
        flow_of(history=(Stretch(0.0, 1.0, 5, 1.0, 1.0, {"requests": 4.0}), Stretch(1.0, 1.0, 5, 9.0, None, {}))),
        flow_of(history=(Stretch(0.0, 1.0, 0, 0.0, None, {}),)),
    )
    for snapshot in odd:
        page = page_of([], snapshot=snapshot)
        parse(page)
        for drawn in re.findall(r'<path class="[a-z-]+" d="([^"]*)"', page):
            assert re.fullmatch(r"[MLHZ0-9. ]+", drawn), drawn
            assert all(float(number) <= 1000 for number in re.findall(r"[0-9.]+", drawn))
        for share in re.findall(r' (?:x|x1|x2|cx|width)="([0-9.-]+)%"', page):
            assert 0 <= float(share) <= 100.001
        assert len(page) < 250_000


@pytest.mark.parametrize("nasty", NASTY)
def test_foreign_text_is_inert_in_the_section_on_limits(nasty: str) -> None:
    """Kinds of errors, reasons of a provider, units and causes are text, also where they name a colour or a cause."""
    nasty = nasty.encode("utf-8", "replace").decode()  # JSON holds no lone surrogate
    snapshot = flow_of(
        call_errors=(CallErrors(nasty, 500, 3),),
        paid_again={nasty: 3},
        uses=(LimitUse(unit=nasty, used=1, allowed=2, window_s=60.0, most=2, most_allowed=2),),
        waited_s={nasty: 3.0},
        changes=(LimitChange(1.0, nasty, 3.0, 60.0, nasty),),
        history=history(10, cause=nasty),
    )
    page = page_of([], snapshot=snapshot)
    parser = parse(page)
    assert "alert" not in parser.code["script"]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", page)
    assert not re.search(r"\b(src|style)=", re.sub(r"&lt;.*?&gt;", "", page))


def test_page_of_nothing() -> None:
    """A run without a single outcome still has a page, with its prompt and the reason it stopped."""
    said = words(page_of([], status="stopped", reason="credentials refused", counts=Counts(pending=7)))
    assert "The run stopped early." in said
    assert "credentials refused" in said
    assert "7 items pending" in said
    assert "Items and answers" not in said


def test_page_of_failures_only() -> None:
    """Where nothing was answered and no schema is known, the table shows each failure beside its item."""
    said = words(page_of([bad(0), bad(1)], schema=None))
    assert said.count("No answer within 30 s.") >= 3


def test_page_loads_nothing_and_runs_only_its_own_script() -> None:
    """The policy forbids all but one style and one script, named by hashes that are right; nothing is loaded."""
    page = page_of([good(0, {"mood": "calm"})])
    parser = parse(page)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src 'none';")
    for tag in ("style", "script"):
        digest = base64.b64encode(sha256(parser.code[tag].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy[1]
    assert not re.search(r"\b(src|srcset|action|style)=|href=\"(?!#)|url\(|@import|https?://(?!www\.w3)", page)


@pytest.mark.parametrize("nasty", NASTY)
def test_foreign_text_is_inert_everywhere(nasty: str) -> None:
    """Scripts, broken attributes, place holders and bidi tricks in any place that data reaches stay plain text."""
    schema = {
        "properties": {
            nasty: {"enum": [nasty], "type": nasty, "description": nasty},
            "n": {"minimum": nasty, "maximum": nasty},
        }
    }
    outcomes = [
        good(0, {nasty: nasty, "n": nasty * 50}, {nasty: nasty, "long": nasty * 100}, stage=nasty),
        good(1, nasty, nasty),
        good(2, {nasty: [nasty, {nasty: nasty}]}, [nasty]),
        good(5, {"deep": {nasty: {nasty: nasty}}, "list": [{nasty: nasty}] * 2}, {nasty: [nasty]}),
        bad(3, nasty, nasty, nasty, nasty),
        Outcome(key=nasty, position=4, item=nasty, value={nasty: 1}),
    ]
    spec = {"model": nasty, "ask": nasty * 200, nasty: nasty, "params": {nasty: nasty}}
    page = page_of(outcomes, schema, name=nasty, source=nasty, spec=spec, id=nasty, reason=nasty, status="stopped")
    parser = parse(page)
    assert "alert" not in parser.code["script"]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", page)
    page.encode("utf-8")
    if "lone" not in nasty and "gnp" not in nasty:
        assert nasty in "".join(parser.text)
    if "gnp" in nasty:
        assert "⟨U+202E⟩gnp.exe⟨U+202C⟩ ⟨U+2066⟩x⟨U+2069⟩ ⟨U+001B⟩[31mred" in "".join(parser.text)


@settings(deadline=None, max_examples=60)
@given(
    st.text(),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda v: st.lists(v) | st.dictionaries(st.text(), v),
    ),
)
def test_any_answer_gives_a_page(text: str, value: Any) -> None:
    """Whatever JSON an answer is and whatever an item says, the page is well formed."""
    parse(page_of([good(0, value, {text: text}), good(1, {text: value}, text), bad(2, text, text, text, text)], None))
    parse(page_of([good(0, {"mood": value, "score": value}, text)]))


def test_secrets_in_a_run_are_not_shown() -> None:
    """Keys, headers and the user of an address stay out of the page, also where they are nested."""
    spec = {
        "model": {"spec": "openai:m", "api_key": "sk-1", "headers": {"Authorization": "Bearer sk-2"}},
        "api_key": "sk-3",
        "base_url": "https://me:sk-4@example.com/v1",
        "settings": {"deep": [{"password": "sk-5", "token": "sk-6", "rpm": 3}]},
    }
    page = page_of([good(0, "x")], spec=spec)
    assert "sk-" not in page
    assert "https://example.com/v1" in page
    assert "openai:m" in page


def test_choices_keep_the_order_of_the_schema_and_their_zeros() -> None:
    """An enum shows each of its choices, also one that never came; a boolean both of its values."""
    values = [{"mood": "angry", "urgent": False}] * 3 + [{"mood": "calm", "urgent": False}, {"mood": "furious"}]
    mood = field_of(values, SCHEMA, "mood")
    assert (mood.kind, mood.declared) == ("choice", "choice")
    assert mood.counts == (("calm", 1), ("angry", 3), ("bored", 0), ("furious", 1))
    urgent = field_of(values, SCHEMA, "urgent")
    assert urgent.counts == (("true", 0), ("false", 4))
    assert (urgent.present, urgent.missing) == (4, 1)


def test_numbers_have_their_figures() -> None:
    """Least, median, mean and most are exact for few numbers, and the bins hold all of them."""
    field = field_of([0.1, 0.2, 0.4, 0.9])
    assert field.numbers is not None
    assert (field.numbers.least, field.numbers.most) == (0.1, 0.9)
    assert field.numbers.median == pytest.approx(0.3)
    assert field.numbers.mean == pytest.approx(0.4)
    assert sum(part.count for part in field.numbers.bins()) == 4
    assert field.numbers.sampled is None


def test_few_whole_numbers_have_a_bin_each() -> None:
    """Scores from 1 to 5 are five bins, also the one that no answer gave."""
    numbers = field_of([1, 5, 5, 3, 2]).numbers
    assert numbers is not None
    assert [(part.low, part.count) for part in numbers.bins()] == [(1, 1), (2, 1), (3, 1), (4, 0), (5, 2)]


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**30), 10**30), min_size=1, max_size=60)
)
def test_any_numbers_fit_in_their_bins(values: list[float]) -> None:
    """Whatever the numbers, every one is in a bin and median and mean lie between the least and the most."""
    numbers = field_of(values).numbers
    assert numbers is not None
    assert sum(part.count for part in numbers.bins()) == len(values)
    assert numbers.least <= numbers.median <= numbers.most
    assert numbers.least <= numbers.mean <= numbers.most


def test_numbers_that_are_none_are_set_aside() -> None:
    """NaN, infinities and integers beyond a float do not spoil the figures of the others."""
    field = field_of([1.0, math.nan, math.inf, 10**400, 3.0])
    assert field.numbers is not None
    assert (field.numbers.least, field.numbers.most, field.numbers.mean) == (1.0, 3.0, 2.0)


def test_texts_tell_how_many_differ() -> None:
    """Free text gives the number of different values and the most frequent, long ones told apart past their cut."""
    field = field_of([f"a longer text number {i % 40}" for i in range(200)] + ["often"] * 50)
    assert (field.kind, field.distinct) == ("text", 41)
    assert field.counts[0] == ("often", 50)
    assert field_of(["x" * 500 + "1", "x" * 500 + "2", "x" * 500 + "1"]).distinct == 2


def test_lists_count_the_answers_that_have_a_value() -> None:
    """A list of tags counts each tag once an answer, and the average number of them."""
    field = field_of([{"tags": ["a", "b", "a"]}, {"tags": ["a"]}, {"tags": []}, {"tags": None}], None, "tags")
    assert dict(field.counts) == {"a": 2, "b": 1}
    assert field.per_list is not None
    assert field.per_list.mean == pytest.approx(4 / 3)
    assert field.per_list.most == 3
    assert (field.present, field.missing) == (3, 1)


def test_a_field_that_turns_up_late_was_missing_before() -> None:
    """Without a schema a field first seen in the third answer is missing in the first two."""
    assert field_of([{"a": 1}, {"a": 1}, {"a": 1, "b": 2}], None, "b").missing == 2


def test_schema_references_that_lead_nowhere_do_no_harm() -> None:
    """A circle of references, a missing one and a schema of the wrong form resolve to something harmless."""
    circle: dict[str, Any] = {"$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}}
    assert resolve({"$ref": "#/$defs/A"}, circle) == {}
    assert resolve({"$ref": "#/$defs/C"}, circle) == {}
    assert resolve(True, circle) == {}
    assert declared_type({"type": ["integer", "null"]}) == "whole number"
    assert declared_type({"type": "number", "minimum": 0.0, "maximum": 1.0}) == "number, 0 to 1"
    assert declared_type({"minimum": 10**400, "maximum": float("inf")}) == ", a very large number to inf"
    parse(page_of([good(0, {"a": 1})], {"properties": {"a": True, "b": None}}))
    parse(page_of([good(0, {"a": 1})], {"properties": ["a"]}))


@given(st.integers(0, 5_000), st.integers(1, 50), st.integers(1, 700))
def test_spread_is_even_and_bounded(count: int, limit: int, batch: int) -> None:
    """The selection never exceeds its limit, holds at least half of it, begins with the first, and is evenly spaced."""
    spread: Spread[int] = Spread(limit)
    for at in range(0, count, batch):
        spread.extend(range(at, min(count, at + batch)))
    assert len(spread.kept) <= limit
    assert len(spread.kept) >= min(count, limit // 2)
    assert len({b - a for a, b in zip(spread.kept, spread.kept[1:], strict=False)}) <= 1
    assert not count or spread.kept[0] == 0


def test_long_runs_show_a_sample_and_say_so() -> None:
    """Of many items the table has a sample, with what failed and the slowest; texts are cut and say by how much."""
    outcomes = [bad(i) if i % 50 == 7 else good(i, {"mood": "calm"}, "y" * 9_000) for i in range(3_000)]
    outcomes[2_999] = msgspec.structs.replace(outcomes[2_999], seconds=77.0)
    page = page_of(outcomes)
    said = words(page)
    assert (
        f"1,000 of the 3,000 items, chosen at random, and after them all 60 that failed and the {SLOWEST} slowest."
        in said
    )
    assert page.count('<td class="item"') == len(survey(outcomes, SCHEMA, seed="9f31c2ab77d0").rows)
    assert "more characters" in said
    assert page.count('data-kind="timeout"') == 60
    assert "k2999" in said


def test_the_sample_is_uniform_and_the_same_each_time() -> None:
    """Every item is as likely in it as any other, and the same run gives the same page again."""

    def drawn(seed: str) -> list[int]:
        sample: Drawn[int] = Drawn(100, seed)
        for value in range(1_000):
            if sample.wants():
                sample.add(value)
        return sample.kept

    assert drawn("a") == drawn("a") != drawn("b")
    tenths = [0] * 10
    for seed in range(200):
        for value in drawn(str(seed)):
            tenths[value // 100] += 1
    assert sum(tenths) == 20_000
    assert all(1_800 < count < 2_200 for count in tenths)
    sample: Drawn[int] = Drawn(100, "few")
    for value in range(60):
        assert sample.wants()
        sample.add(value)
    assert sample.kept == list(range(60))


def test_all_rows_of_a_sample_are_there_once() -> None:
    """What was drawn, what failed and what was slow overlap; each row stands once, the drawn ones first and in order."""
    outcomes = [bad(i) if i % 2 else good(i, "x") for i in range(2_500)]
    found = survey(outcomes, None, "seed")
    positions = [row.position for row in found.rows]
    assert len(positions) == len(set(positions))
    assert positions[:ROWS_MAX] == sorted(positions[:ROWS_MAX])
    assert sum(1 for row in found.rows if row.kind) >= FAILED_ROWS_MAX
    assert found.sampled == ROWS_MAX
    page = page_of(outcomes)
    assert f"and after them {FAILED_ROWS_MAX} of the 1,250 that failed and the {SLOWEST} slowest" in words(page)


@pytest.mark.parametrize(
    "columns, length, rows", [(50, 2_000, 1_500), (3, 50_000, 1_500), (400, 10, 120), (1, 1_000_000, 20)]
)
def test_a_page_keeps_to_its_size(columns: int, length: int, rows: int) -> None:
    """Very wide tables and very long values give a page of a few megabytes; it says what it leaves out."""
    answer = {f"column {c}": "<" * length for c in range(columns)}
    page = page_of((good(i, answer, {**answer, "id": i}) for i in range(rows)), None)
    parse(page)
    assert len(page) < 5_000_000
    assert page.count('<td class="item"') > 15
    if columns > FIELDS_MAX:
        assert f"There were more than {FIELDS_MAX} different fields" in words(page)


def many(count: int) -> Iterator[Outcome]:
    """A long run with long items, made as it is read."""
    for i in range(count):
        if i % 50 == 0:
            yield bad(i, f"kind{i % 7}", "m" * 5_000, "h" * 5_000, "r" * 5_000)
        else:
            value = {"mood": "calm", "score": i / count, "urgent": i % 3 == 0, "why": f"reason {i} " + "w" * 300}
            yield good(i, value, {"id": i, "text": f"{i} " + "t" * 3_000})


def test_twenty_thousand_outcomes_are_fast() -> None:
    """A page of 20,000 outcomes takes seconds, so one of 200,000 less than a minute, and is a few megabytes large."""
    begin = time.process_time()
    run = info()
    page = render(msgspec.structs.replace(run, spec={**run.spec, "schema": SCHEMA}), Counts(), lambda: many(20_000))
    assert time.process_time() - begin < 4
    assert len(page) < TABLE_MAX + 1_000_000


def test_memory_does_not_grow_with_the_run() -> None:
    """Ten times the outcomes need about the same memory."""

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            survey(many(count), SCHEMA)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(20_000) < 1.5 * peak(4_000) + 1_000_000


def test_failures_are_grouped_the_most_frequent_first() -> None:
    """Kinds come by frequency, with three examples each, and no more kinds than fit on a page."""
    found = survey(
        [bad(i, "often" if i % 3 else "rare") for i in range(30)] + [bad(i, f"k{i}") for i in range(200)], None
    )
    assert (found.failures[0].kind, found.failures[0].count) == ("other", 152)
    assert found.failures[1].kind == "often"
    assert len(found.failures[1].ranked[0].examples) == 3
    assert len(found.failures) == 51


def test_reasons_that_differ_in_numbers_and_quoted_words_are_one() -> None:
    """Messages of one kind are grouped by their wording; the rest, where there are too many, is one group."""
    outcomes = [bad(i, "answer", f"Field 'f{i}' is {i}.5, not 1,000.") for i in range(40)]
    outcomes += [bad(i, "answer", "No JSON.") for i in range(50)]
    outcomes += [bad(i, "answer", "word " + "x" * i) for i in range(60)]
    kind = survey(outcomes, None).failures[0]
    assert [(reason.message, reason.count) for reason in kind.ranked[:3]] == [
        ("No JSON.", 50), ("Field 'f0' is 0.5, not 1,000.", 40), ("Other messages.", 32),
    ]  # fmt: skip
    said = words(page_of(outcomes))
    assert "50 \u00d7 No JSON." in said
    assert "other messages" in said


def test_slowest_are_the_slowest_calls_that_were_made() -> None:
    """The slowest come in order; what came from the store took no time."""
    outcomes = [
        Outcome(key=str(i), position=i, item="x", value="y", attempts=1, seconds=float((i * 7) % 100), cached=i == 57)
        for i in range(100)
    ]
    assert [row.seconds for row in survey(outcomes, None).slowest] == [98, 97, 96, 95, 94, 93, 92, 91, 90, 89]


def test_written_in_one_step(tmp_path: Path) -> None:
    """The file is there whole, replaces an older one, and nothing else is left in the folder."""
    target = tmp_path / "r.html"
    target.write_text("old")
    write(target, "<p>\u2192 new</p>")
    assert target.read_text(encoding="utf-8") == "<p>\u2192 new</p>"
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
    check_writable(target)
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


@pytest.mark.parametrize("name", ["r.pdf", "r", "r.html.zip", ".html", "there/r.PDF"])
def test_a_page_is_named_as_one(name: str, tmp_path: Path) -> None:
    """Another ending is refused before and when it is written, with a name that would do; letters may be large."""
    (tmp_path / "there").mkdir()
    for check in (check_writable, lambda path: report(path, info(), MemoryStore())):
        with pytest.raises(OutputError, match="a report is a page of HTML") as caught:
            check(tmp_path / name)
        assert ".html; a browser prints it as PDF" in caught.value.hint
    check_writable(tmp_path / "R.HTM")
    assert list(tmp_path.iterdir()) == [tmp_path / "there"]


def test_a_page_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    """A missing folder, a folder in the file's place and a file as folder are one sentence with what to do."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.html").mkdir()
    for target in (tmp_path / "none" / "r.html", tmp_path / "folder.html", tmp_path / "file" / "r.html"):
        for attempt in (partial(write, target, "page"), partial(check_writable, target)):
            with pytest.raises(OutputError, match="cannot be written") as caught:
                attempt()
            assert caught.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.html"]


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("16-0123456789ab", "row 17"), ("16-0123456789ab::0", "row 17 part 1"), ("0-0123456789ab::09::1", "row 1 part 10.2"),
        ("16-0123456789aB", "16-0123456789aB"), ("16-0123456789", "16-0123456789"), ("a-0123456789ab", "a-0123456789ab"),
        ("16-0123456789ab::mood", "16-0123456789ab::mood"), ("7", "7"), ("", ""), ("x\n16-0123456789ab", "x\n16-0123456789ab"),
    ],
)  # fmt: skip
def test_keys_without_a_column_are_rows(key: str, told: str) -> None:
    """A key that is made of position and content is told as its row, a part of it too; any other as it is."""
    assert key_told(key) == told


def test_such_keys_are_told_as_rows_everywhere() -> None:
    """On the page, items, failures and slow items are rows, as a real source makes their keys; in a list they are few
    words."""
    keys = [item.key for item in read(open_source(["x", "y", "z"]))]
    assert keys_told(keys, 5) == "rows 1, 2, 3 and 2 more"
    assert keys_told(keys[2:], 1) == "row 3"
    assert keys_told([*keys[:1], "k"], 2) == "items row 1, k"
    outcomes = [
        msgspec.structs.replace(outcome, key=key)
        for outcome, key in zip([bad(0), good(1, {"mood": "calm"}), good(2, {"mood": "calm"})], keys, strict=True)
    ]
    page = page_of(outcomes)
    assert not any(key in page for key in keys)
    assert {page.count(f">row {number}<") for number in (1, 2, 3)} == {2, 3}  # the failure, slow ones, all


def test_figures_read_well() -> None:
    """Durations, rates, shares and numbers as a person writes them."""
    assert [duration(s) for s in (0, 0.0042, 0.012, 0.07, 0.45, 0.9996, 1.25, 9.97, 12.4, 65.2, 7_300, 200_000)] == [
        "0 s", "4.2 ms", "12 ms", "70 ms", "450 ms", "1.0 s", "1.2 s", "10 s", "12 s", "1:05 min", "2:01 h", "2.3 days",
    ]  # fmt: skip
    assert [rate(r) for r in (0, 0.01, 0.5, 24.31, 1204.6)] == [
        "0.0 items/s", "36.0 items/h", "30.0 items/min", "24.3 items/s", "1,205 items/s",
    ]  # fmt: skip
    assert [number(n) for n in (7, 1204, 3.5678, 0.71, 12345.6, 10**20, 2.0)] == [
        "7", "1,204", "3.57", "0.71", "12,346", "1e+20", "2",
    ]  # fmt: skip
    assert [size(n) for n in (0, 512_000, 118_400_000, 999_600_000, 2.4e12)] == [
        "0 kB", "512 kB", "118 MB", "1.0 GB", "2,400.0 GB",
    ]  # fmt: skip
    assert [allowance(*a, about=b) for a, b in (((40.9, 0), True), ((1200, 60), False), ((598.3, 60), True))] == [
        "40", "1,200/min", "about 598/min",
    ]  # fmt: skip
    assert [allowance(5, window_s) for window_s in (1, 3600, 86_400, 10, 0.5)] == [
        "5/s",
        "5/h",
        "5/day",
        "5/10 s",
        "5/0.5 s",
    ]
    assert [limit_of(*x) for x in (("requests", 1200, 60), ("tokens", None, 60), ("concurrency", 37.4, 0), ("x", 5, 10))] == [
        "1,200 requests a minute", "no limit of tokens", "37 calls in flight", "5 x in 10 s",
    ]  # fmt: skip
    assert [percent(*p) for p in ((0, 10), (1, 1000), (999, 1000), (10, 10), (1, 0))] == [
        "0 %", "< 1 %", "> 99 %", "100 %", "",
    ]  # fmt: skip


@given(st.text())
def test_clean_keeps_what_is_harmless(text: str) -> None:
    """Cleaning twice is cleaning once, the result can be encoded, and plain letters survive."""
    once = clean(text)
    assert clean(once) == once
    once.encode("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", once)
    assert clean(visible(text)) == visible(text)
    assert [c for c in once if c.isalnum()] == [c for c in text if c.isalnum()]


def test_shown_takes_any_value() -> None:
    """Values of every sort become text: words as they are, the rest as JSON, or as Python writes it."""
    circle: list[Any] = []
    circle.append(circle)
    assert [shown(v) for v in ("a", None, True, 3, 0.5, {"a": [1]}, 10**5000)] == [
        "a", "", "true", "3", "0.5", '{"a":[1]}', "a very large number",
    ]  # fmt: skip
    assert shown(object()).startswith("<object")
    assert shown(circle) == "[[...]]"


@given(st.floats(-1e12, 1e12), st.floats(1e-9, 1e12), st.integers(2, 30))
def test_ticks_are_round_and_few(low: float, span: float, most: int) -> None:
    """An axis has at most one tick more than asked for, each within its range, and no two of the same word."""
    found = ticks(low, low + span, most)
    assert 1 <= len(found) <= most + 1
    assert all(low - span * 1e-6 <= value <= low + span * (1 + 1e-6) for value, _ in found)
    if span > 1e-4 * abs(low):
        assert len({text for _, text in found}) == len(found)


def test_axes_read_well() -> None:
    """Steps of 1, 2 and 5, with the digits that they need; times as a clock has them."""
    assert [text for _, text in ticks(0, 1)] == ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert [text for _, text in ticks(-4, 4)] == ["-4", "-2", "0", "2", "4"]
    assert [text for _, text in ticks(0, 3_000_000, 3)] == ["0", "1 M", "2 M", "3 M"]
    assert [label(v, 500, 12_500) for v in (500, 9_500, 12_500)] == ["0.5k", "9.5k", "12.5k"]
    assert [text for _, text in ticks(0, 8_400)] == ["0", "2,000", "4,000", "6,000", "8,000"]
    assert [round_step(s, 5) for s in (1, 3, 11, 0, math.inf, -1)] == [0.2, 1, 5, 0, 0, 0]
    assert [text for _, text in clock_ticks(172)] == ["0", "1 min", "2 min"]
    assert [text for _, text in clock_ticks(3)] == ["0", "1 s", "2 s", "3 s"]
    assert [text for _, text in clock_ticks(40_000)] == ["0", "3 h", "6 h", "9 h"]
    assert [clock(s) for s in (0, 45, 90, 120, 150, 7_200, 9_000, 200_000, 864_000)] == [
        "0", "45 s", "90 s", "2 min", "2:30 min", "2 h", "2:30 h", "2.31 days", "10 days",
    ]  # fmt: skip


@given(st.floats(0.001, 1e9))
def test_an_axis_of_time_is_as_long_as_its_run(span_s: float) -> None:
    """It begins at 0 and ends within the run, with at most six ticks."""
    found = clock_ticks(span_s)
    assert found[0] == (0, "0")
    assert len(found) <= 6
    assert found[-1][0] <= span_s * (1 + 1e-6)


def test_one_far_value_does_not_flatten_the_others() -> None:
    """Beyond ten times the range of most values there is one bar for all of them, and it says so."""
    field = field_of([float(i % 50) for i in range(1_000)] + [1e9, -1e9])
    assert field.numbers is not None
    bins = field.numbers.bins()
    assert (bins[0].open, bins[-1].open) == ("low", "high")
    assert sum(part.count for part in bins) == 1_002
    assert len([part for part in bins if part.count > 20]) > 5
    page = page_of([good(i, float(i % 50)) for i in range(1_000)] + [good(1_000, 1e9)], None)
    assert "and more: 1 answers" in words(page)


def test_numbers_are_exact_while_few_differ() -> None:
    """Many values of which few are different need no sample; otherwise the sample says how large it is."""
    numbers, scattered = Numbers(), Numbers()
    for i in range(50_000):
        numbers.add(float(i % 100))
        scattered.add(i / 7)
    exact, sampled = numbers.summary(), scattered.summary()
    assert exact is not None
    assert sampled is not None
    assert (exact.sampled, exact.median, exact.p95, exact.p99) == (None, 49.5, 94, 98)
    assert sampled.sampled is not None
    assert 5_000 <= sampled.sampled <= 10_000
    assert sampled.median == pytest.approx(25_000 / 7, rel=0.01)
    assert sum(part.count for part in sampled.bins()) == pytest.approx(50_000, abs=30)
    assert sampled.total == pytest.approx(sum(i / 7 for i in range(50_000)))


def test_dates_are_told_from_texts() -> None:
    """Texts that are nearly all ISO dates are a field of dates, in stretches of the calendar."""
    field = field_of([f"2024-{1 + i % 12:02}-10" for i in range(60)] + ["unknown"])
    assert field.kind == "date"
    assert field.dates is not None
    found = stretches(field.dates.values)
    assert [each.name for each in found][:2] == ["Jan 2024", "Feb 2024"]
    assert [each.count for each in found] == [5] * 12
    assert field_of(["2024-01-10", "tomorrow", "soon"]).kind == "text"
    assert field_of([f"2024-03-{1 + i % 28:02}T14:05:00" for i in range(60)]).kind == "date"
    assert words_of(place_of("2024-03-02T14:05:00Z") or 0) == "2 Mar 2024, 14:05"
    said = words(page_of([good(i, {"when": f"2024-01-{1 + i % 28:02}"}) for i in range(60)], None))
    assert "1 Jan 2024 first" in said or "first 1 Jan 2024" in said


@pytest.mark.parametrize("text", ["2024-13-01", "2024-02-30", "1234567890", "2024-1-01", "2024-01-01 noon", "-" * 35])
def test_what_looks_like_a_date_and_is_none(text: str) -> None:
    """It stays text."""
    assert place_of(text) is None


@settings(deadline=None)
@given(st.lists(st.dates() | st.datetimes(), min_size=1, max_size=30))
def test_any_dates_fit_in_their_calendar(moments: list[Any]) -> None:
    """From the year 1 to 9999, every date is in one stretch, and there are not too many of them to draw."""
    values = sorted((place_of(moment.isoformat()) or 0.0, 1) for moment in moments)
    found = stretches(values)
    assert sum(each.count for each in found) == len(moments)
    assert len(found) <= 1_001
    assert all(before.high == after.low for before, after in pairwise(found))


def test_objects_and_lists_of_objects_are_told_by_their_paths() -> None:
    """Fields of an object have their own distribution; what is in a list is counted by element."""
    values = [
        {"who": {"name": "A", "age": 30}, "parts": [{"kind": "x"}, {"kind": "y"}]},
        {"who": {"name": "B", "age": None}, "parts": [{"kind": "x"}, {}]},
        {"who": None, "parts": []},
    ]
    assert dict(field_of(values, None, "who.name").counts) == {"A": 1, "B": 1}
    age, kind, parts = (field_of(values, None, name) for name in ("who.age", "parts[].kind", "parts"))
    assert (age.present, age.missing) == (1, 2)
    assert (dict(kind.counts), kind.present, kind.missing) == ({"x": 2, "y": 1}, 3, 1)
    assert parts.per_list is not None
    assert parts.per_list.mean == pytest.approx(4 / 3)
    page = page_of([good(i, value) for i, value in enumerate(values)], None)
    assert "kind: x; kind: y" in words(page)
    schema = {
        "properties": {"a": {"properties": {"b": {"type": "integer"}}}, "l": {"items": {"properties": {"c": {}}}}}
    }
    assert [path for path, _ in paths_of(schema)] == ["a.b", "l", "l[].c"]


def test_free_text_has_its_lengths_and_its_frequent_answers() -> None:
    """Without a schema, answers that are texts are told by how long they are and which of them come often."""
    outcomes = [good(i, "Yes." if i % 3 else "because " + "so " * (i % 40)) for i in range(300)]
    said = words(page_of(outcomes, None))
    assert "Length of the texts" not in said  # the label of the picture is not read as text
    assert "Yes. 200" in said
    assert "characters" in said


def test_how_far_samples_agree_is_a_field() -> None:
    """Where items were asked several times, agreement has its chart and its column."""
    outcomes = [good(i, {"mood": "calm"}, agreement=(i % 4) / 4, samples=({"mood": "calm"},) * 4) for i in range(40)]
    said = words(page_of(outcomes, spec={"samples": 4}))
    assert "Samples of each item 4" in said
    assert said.count("agreement of samples") == 2


def test_unicode_and_other_directions_are_text_like_any() -> None:
    """Texts that read from the right stand apart, so that they turn nothing around them; emoji and joiners stay."""
    page = page_of([good(0, {"سؤال": "مرحبا", "עברית": "שלום", "emoji": "👩‍👩‍👧 café"}, {"متن": "نص طويل"})], None)
    text = words(page)
    for sought in ("مرحبا", "שלום", "👩‍👩‍👧 café", "نص طويل"):
        assert sought in text
    assert page.count('dir="auto"') >= 8


def test_a_run_that_keeps_no_prompts_has_a_page() -> None:
    """Its items are their keys."""
    outcomes = [good(i, {"mood": "calm"}, {"key": f"k{i}"}) for i in range(3)]
    spec = {"model": "openai:m", "prompt": None, "keep_prompts": False, "fields": ["key"]}
    said = words(page_of(outcomes, spec=spec))
    assert "k2" in said
    assert "Prompt" not in said


def test_zero_tokens_and_one_item() -> None:
    """A run of one item whose model tells no tokens has a page that says so."""
    said = words(page_of([good(0, "x")], None, counts=Counts(1, 0, 0, 1)))
    assert "The model did not tell how many tokens it took." in said
    assert "1 item ·" in said


def test_report_needs_only_what_the_store_has(tmp_path: Path) -> None:
    """One function writes the page from a history, with the figures that are kept there."""

    class Kept(MemoryStore):
        def run(self, run: str) -> RunInfo | None:
            return info(id=run, figures=figures_of(flow_of()))

        def counts(self, run: str) -> Counts:
            return Counts(2, 0, 0, 2)

        def scan(self, run: str, **more: Any) -> Iterator[Outcome]:
            return iter([good(0, "yes"), good(1, "no")])

    report(tmp_path / "r.html", info(), Kept())
    said = words((tmp_path / "r.html").read_text("utf-8"))
    assert "Most of the time the next call waited for the limit of requests." in said
    assert "All 2 items with an outcome." in said
