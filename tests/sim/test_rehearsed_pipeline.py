"""Rehearsals of pipelines: what the store leads past, what chance stands for, and whether it comes true."""

import asyncio
from typing import Any

import msgspec
import pytest

from headrace.core.event import StageInfo
from headrace.core.limits import Unit
from headrace.core.ports import RunInfo
from headrace.engine.runner import Runner, RunSettings
from headrace.engine.stage import After
from headrace.flow.quantiles import Quantiles
from headrace.provider.quota import Quota
from headrace.settings import Limits, Settings
from headrace.sim.forecast import calls_each, forecast
from headrace.sim.likeness import Known
from headrace.sim.loop import run
from headrace.sim.outlook import Outlook
from headrace.sim.part import Part
from headrace.sim.parts import Earlier, staged
from headrace.sim.rehearsal import Course, Work, rehearse
from headrace.sim.trail import Trail, stops_of
from headrace.staging import staged as run_stages
from headrace.store.memory import Memory, MemoryStore
from headrace.task.pipeline import Cascade, Pipeline
from headrace.task.stages import Expand, Filter, Reduce, Top
from headrace.task.work import Ask, Map
from sim.world import Rows


def always(seconds: float) -> dict[int, int]:
    sketch = Quantiles()
    sketch.add(seconds)
    return sketch.bins()


def asking(name: str, seconds: float, **more: Any) -> Part:
    """A stage that asks a model, ten at once."""
    known = Known(
        seconds=always(seconds), output_tokens=always(20.0), stated={Unit.CONCURRENCY: 10.0},
        limits=more.pop("limits", ()),
    )  # fmt: skip
    account = more.pop("account", name)
    return Part(info=StageInfo(name, "ask", "sim:"), known=known, account=account, tokens=(30,), **more)


def local(name: str, kind: str, **more: Any) -> Part:
    return Part(info=StageInfo(name, kind), **more)


def course_of(parts: list[Part], items: int, **more: Any) -> Course:
    work = Work(tokens=[10] * items, begins=more.pop("begins", [0] * items), parts=tuple(parts), **more)
    return rehearse(work, Known(seconds={}), 1, certain=True)


def counts(course: Course) -> dict[str, tuple[int, int]]:
    return {part.name: (part.items, part.calls) for part in course.parts}


def test_stages_overlap_in_a_rehearsal_as_they_do_in_a_run() -> None:
    """Two stages of one second and two, ten at once: what the slower takes, and not both."""
    course = course_of([asking("a", 1.0), asking("b", 2.0)], 200)
    assert course.seconds == pytest.approx(200 / 10 * 2.0, rel=0.06)
    assert counts(course) == {"a": (200, 200), "b": (200, 200)}
    assert course.parts[1].input_tokens == 200 * 30
    assert course.parts[0].input_tokens == 200 * 10
    assert course.parts[1].waited_s["concurrency"] > course.parts[0].waited_s.get("concurrency", 0.0)


def test_stages_of_one_account_share_its_limit() -> None:
    """One limit of requests for both, so that it takes twice as long as for one of them."""
    limits = (Quota(unit=Unit.REQUESTS, limit=600),)
    one = course_of([asking("a", 0.5, limits=limits), local("f", "filter")], 300)
    both = course_of([asking(name, 0.5, limits=limits, account="same") for name in "ab"], 300)
    assert both.calls >= 600
    assert both.seconds > 1.6 * one.seconds


def test_chance_stands_for_what_stages_make_of_items() -> None:
    """Filters, functions that filter or make several, the best few and groups: each lets go on what it did before."""
    count = 1000
    parts = [
        asking("ask", 0.1), local("half", "filter", passes=0.5), asking("three", 0.1, after=After.SPREAD, makes=3.0),
        asking("keep", 0.1, after=After.KEEP, passes=0.2), local("twice", "expand", makes=2.5),
        asking("some", 0.1, asked=0.3), local("best", "top", stage=Top(40, by="x")), asking("last", 0.1),
    ]  # fmt: skip
    found = counts(course_of(parts, count))
    assert found["half"][0] == count
    assert found["three"][0] == pytest.approx(500, rel=0.15)
    assert found["keep"][0] == 3 * found["three"][0]
    assert found["twice"][0] == pytest.approx(0.2 * found["keep"][0], rel=0.2)
    assert found["some"][0] == pytest.approx(2.5 * found["twice"][0], rel=0.1)
    assert found["some"][1] == pytest.approx(0.3 * found["some"][0], rel=0.2)
    assert found["last"] == (40, 40)


@pytest.mark.parametrize(
    ("reduce", "makes", "items"),
    [(Reduce(), 1.0, 1), (Reduce(every=20), 1.0, 10), (Reduce(by="x"), 7.0, 7), (Reduce(each=True), 200.0, 200)],
)
def test_a_reduce_makes_as_many_as_it_would(reduce: Reduce, makes: float, items: int) -> None:
    """One of all, one of every twenty, one of each group, one of each item of the source; each is asked about."""
    parts = [
        asking("ask", 0.1), local("more", "expand", makes=2.0 if reduce.each else 1.0),
        local("reduce", "reduce", stage=reduce, makes=makes), asking("last", 0.1),
    ]  # fmt: skip
    course = course_of(parts, 200)
    assert counts(course)["last"] == (items, items)


def test_items_begin_where_the_store_leads_no_further() -> None:
    """Those that begin at the second stage cost nothing at the first, and pass no filter before it again."""
    parts = [asking("a", 1.0), local("none", "filter", passes=0.0), asking("b", 1.0)]
    course = course_of(parts, 50, begins=[2] * 50)
    assert counts(course) == {"a": (50, 0), "none": (50, 0), "b": (50, 50)}
    assert course.parts[2].input_tokens == 50 * 10


def test_what_fails_and_what_is_asked_again_is_rehearsed() -> None:
    """A tenth fails at the first and goes no further; of the second's answers a quarter are asked for once more."""
    course = course_of([asking("a", 0.1, fails=0.1), asking("b", 0.1, again=0.25)], 1000)
    found = counts(course)
    assert found["b"][0] == pytest.approx(900, rel=0.05)
    assert found["b"][1] == pytest.approx(1.25 * found["b"][0], rel=0.05)
    assert course.failed == 1000 - found["b"][0]


def test_a_single_question_is_asked_again_as_often_as_before() -> None:
    """One answer in five was no value: so many more calls are made."""
    known = Known(seconds=always(0.5), output_tokens=always(10.0), stated={Unit.CONCURRENCY: 20.0})
    course = rehearse(Work(tokens=[10] * 1000, again=0.2), known, 1)
    assert course.calls == pytest.approx(1200, rel=0.05)


def test_an_item_s_calls_are_counted_ahead() -> None:
    """How many calls an item will need decides how many are sampled."""
    parts = (asking("a", 1.0), local("f", "expand", makes=4.0), asking("b", 1.0, asked=0.5))
    assert calls_each(Work(tokens=[1] * 10, begins=[0] * 10, parts=parts)) == pytest.approx(3.0)
    assert calls_each(Work(tokens=[1] * 10, begins=[2] * 10, parts=parts)) == pytest.approx(0.5)
    assert calls_each(Work(tokens=[1] * 10)) == 1.0


def planned(parts: list[Part], items: int, **more: Any) -> Any:
    tokens = [10] * items
    outlook = Outlook(known=Known(seconds={}), tokens=tokens, guessed=0.0, found=0.0, assumed=(), notes=())
    work = Work(tokens=tokens, begins=[0] * items, parts=tuple(parts))
    return forecast(outlook, work, usd=lambda *_: None, times=4, **more)


def test_the_plan_names_the_stage_that_binds_and_what_each_costs() -> None:
    """The slow stage's limit binds, twice as much of it nearly halves the time, and each stage has its own price."""

    def usd(into: float, out: float, _calls: int) -> float:
        return (into + 4 * out) / 1e6

    plan = planned([asking("quick", 0.2, usd=usd), local("f", "filter", passes=0.5), asking("slow", 2.0, usd=usd)], 400)
    assert (plan.binding, plan.binding_stage) == ("concurrency", "slow")
    assert plan.what_ifs[0].stage == "slow"
    assert 0.4 < plan.what_ifs[0].of_now < 0.7
    quick, _, slow = plan.stages
    assert quick.calls.p50 == 400
    assert slow.calls.p50 == pytest.approx(200, rel=0.1)
    assert quick.usd.p50 == pytest.approx(usd(quick.input_tokens.p50, quick.output_tokens.p50, 0), rel=0.01)
    assert plan.usd.p50 == pytest.approx(quick.usd.p50 + slow.usd.p50)


def test_a_stage_without_a_price_leaves_the_whole_without_one() -> None:
    """What one stage costs is known, what all of them cost is not, and never taken for the sum of the known."""
    plan = planned([asking("a", 0.2, usd=lambda *_: 1.0), asking("b", 0.2)], 50)
    assert plan.stages[0].usd is not None
    assert plan.usd is None


def test_a_large_pipeline_is_sampled_by_its_items() -> None:
    """Of 2,000 items 200 are rehearsed, the best few of all shrink with them, and the whole is foretold."""
    parts = [asking("a", 0.5), local("top", "top", stage=Top(500, by="x")), asking("b", 0.1)]
    plan = planned(parts, 2000, whole=1250, sample=500)
    whole = course_of(parts, 2000)
    assert plan.calls.p50 == pytest.approx(whole.calls, rel=0.05)
    assert plan.seconds.p50 == pytest.approx(whole.seconds, rel=0.1)
    assert len(plan.notes) == 2


# What is known before: the store, an earlier run, else what is said to be assumed.


def never(_row: Any) -> Any:
    """A user's function that a plan must not call."""
    pytest.fail("a plan called a function")


def of_world(memory: Memory, pipeline: Pipeline[Any], rows: Rows, *, runs: bool = False) -> tuple[Trail, Any]:
    """How far the store leads; with `runs` after a run of the pipeline over these rows."""

    async def main() -> tuple[Trail, Any]:
        stages = run_stages(pipeline, rows.fields, Settings(limits=Limits(concurrency=10)), {}).stages
        store = MemoryStore(memory)
        if runs:
            info = RunInfo(id="r", name="r", source="", spec={})
            made = Runner(stages, rows, store, info, RunSettings(), emit=lambda _event: None)
            async for _ in made.outcomes():
                pass
            await asyncio.sleep(1.0)
        trail = Trail(stops_of(stages, pipeline), store, fresh=False)
        await trail.walk(rows)
        return trail, await staged(trail, Earlier(), store, Work(tokens=()), {})

    return run(main())


def texts(count: int) -> list[str]:
    return [f"t{number:03}" for number in range(count)]


def test_the_store_leads_as_far_as_it_knows_and_no_function_is_called() -> None:
    """After a run of the first two stages their items begin at the third, which only a function can tell of."""
    memory = Memory()
    asks = (Ask("First {text}", model="sim:", name="first"), Ask("Then {answer}", model="sim:", name="then"))
    of_world(memory, Pipeline(*asks), Rows(texts(40)), runs=True)
    trail, ready = of_world(memory, Pipeline(*asks, Map(never)), Rows(texts(60)))
    assert trail.stored == 80
    assert sorted(begin.stage for begin in trail.begins) == [0] * 20 + [2] * 40
    course = rehearse(ready.work, ready.outlook.known, 1)
    assert [(part.calls, part.items) for part in course.parts] == [(20, 60), (20, 60), (60, 60)]


def test_conditions_are_read_and_equal_items_share_a_call() -> None:
    """A condition over columns that are there decides at once; of two equal items one asks, and both go on."""
    rows = Rows(["a", "a", "b", "c"])
    pipeline = Pipeline(Filter('text != "c"'), Ask("Say {text}", model="sim:", name="say"), Map(never))
    trail, _ = of_world(Memory(), pipeline, rows)
    assert sorted(begin.stage for begin in trail.begins) == [1, 1, 2]


def test_what_nobody_knows_is_assumed_and_said() -> None:
    """Functions, selectivity and prompts of later stages: each assumption has the stage's name and a sentence."""
    pipeline = Pipeline(
        Ask("Say {text}", model="sim:", name="say"), Filter(never, name="sieve"), Expand(never, name="apart"),
        Map(never, name="work"), Reduce(by="g", name="groups"),
        Cascade(Ask("Is {result}?", model="sim:"), Ask("Is {answer}?", model="sim:"), unsure="c < 1", name="judge"),
    )  # fmt: skip
    _, ready = of_world(Memory(), pipeline, Rows(texts(30)))
    assumed = {each.what: each.origin for each in ready.outlook.assumed}
    for what in (
        "sieve: let through", "apart: made of each", "work: seconds of a call", "groups: made of all",
        "judge 2: asked about",
    ):  # fmt: skip
        assert assumed[what] == "assumed"
    notes = " ".join(ready.outlook.notes)
    assert "sieve: It is taken to let all items through" in notes
    assert "judge 2: It is taken to be for 30 % of the items" in notes
    assert "How long its prompts are is not known" in notes
    course = rehearse(ready.work, ready.outlook.known, 1)
    found = counts(course)
    assert found["judge 1"] == (3, 3)
    assert found["work"] == (30, 30)


def test_a_plan_s_stages_survive_the_store() -> None:
    """What is remembered of a plan is read again, with its stages."""
    plan = planned([asking("a", 0.2), asking("b", 0.2)], 20)
    assert msgspec.json.decode(msgspec.json.encode(plan), type=type(plan)).stages == plan.stages
