"""The stages of a pipeline become the stages of a run: each with its task, what it calls, and what is known of the
columns behind it. Enters a pipeline and the columns of its source; raises UsageError where they do not fit."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from headrace.core.digest import Digest, digest_of
from headrace.core.errors import ItemError, UsageError
from headrace.core.event import StageInfo
from headrace.core.item import Item
from headrace.core.limits import Unit
from headrace.core.ports import Task
from headrace.endpoints import Close, Endpoint, endpoint_of, fetching, function_endpoint, process_endpoint
from headrace.engine.best import Best
from headrace.engine.leg import Calling
from headrace.engine.roll import Roll
from headrace.engine.runner import Local
from headrace.engine.stage import After, Next, Step
from headrace.engine.steps import Gather, Sieve, Spread
from headrace.flow.most import CAP
from headrace.functions import check_start, groups_at_once, label_of, map_of, quick, reducing
from headrace.funding import Funded
from headrace.provider.messages import LEAST_CACHED
from headrace.question import ask_spec, asked, model_of
from headrace.settings import Settings
from headrace.task.ask import ANSWER
from headrace.task.condition import Condition
from headrace.task.extract import NO_PAGE, NO_PAGE_HINT, Extract, ExtractTask
from headrace.task.fetch import Fetch, FetchTask
from headrace.task.function import FunctionTask, schema_told
from headrace.task.known import Columns
from headrace.task.pipeline import Cascade, Pipeline, Stage, named, unused
from headrace.task.prompt import Template
from headrace.task.stages import Expand, Filter, Reduce, Top
from headrace.task.work import Ask, Map

_GRACE_S = 60.0
"""A fetch ends by its own time; only one that does not is taken off."""
_PAGES = 16
"""Answers that are looked up together where each may be large: a page of ten megabytes, a list of many items."""


class Made(msgspec.Struct, frozen=True):
    """A stage, ready to run."""

    stage: Calling | Local
    identity: Any
    """What of it can change an answer."""
    spec: dict[str, Any]
    """What of it is shown, as JSON."""
    endpoint: Endpoint | None = None
    task: Task | None = None
    """None where it makes no value of its own."""
    schema: Mapping[str, Any] | None = None


class Staged(msgspec.Struct, frozen=True):
    made: tuple[Made, ...]
    funded: Funded

    @property
    def stages(self) -> list[Calling | Local]:
        return [each.stage for each in self.made]

    @property
    def closes(self) -> list[Close]:
        return [each.endpoint.close for each in self.made if each.endpoint is not None]

    @property
    def notices(self) -> tuple[str, ...]:
        """Why a price is not known, or not exactly, and what a budget brings with it: each once."""
        calling = [each.stage for each in self.made if isinstance(each.stage, Calling)]
        return tuple(dict.fromkeys([*self._reasons(late=False), *self.funded.notices(calling)]))

    def late_notices(self) -> tuple[str, ...]:
        """The same of prices that are looked up while the first call is on its way: to be asked when calls were made."""
        return tuple(dict.fromkeys(self._reasons(late=True)))

    def _reasons(self, *, late: bool) -> list[str]:
        told = [
            each.endpoint.priced().reason for each in self.made if each.endpoint is not None
            and (isinstance(each.stage, Calling) and each.stage.late_price is not None) is late
        ]  # fmt: skip
        return [reason for reason in told if reason]

    @property
    def digest(self) -> Digest:
        """Of one question or function its own; of more all of theirs."""
        first = self.made[0]
        if len(self.made) == 1 and first.task is not None:
            return first.task.digest
        return digest_of({"pipeline": [each.identity for each in self.made]})

    @property
    def last(self) -> Made | None:
        """The stage whose value an outcome has."""
        return next((each for each in reversed(self.made) if each.task is not None or each.schema), None)


def staged(
    pipeline: Pipeline[Any],
    fields: Iterable[str] | None,
    settings: Settings,
    environ: Mapping[str, str],
    folder: Path = Path(),
    *,
    to_call: bool = True,
) -> Staged:
    """Relative paths in the source's columns begin at `folder`. Where nothing is to be called, no key is needed. Raises
    UsageError where the stages cannot work, with each other or with the source's columns."""
    asks = any(isinstance(stage, Ask | Cascade) for stage in pipeline.stages)
    maker = _Maker(settings, environ, Columns(fields), folder, limits_of_functions=not asks, to_call=to_call)
    stages = named(pipeline.stages)
    maker.names.update(name for name, _ in stages)
    made = [each for name, stage in stages for each in maker.made(name, stage)]
    return Staged(tuple(made), maker.funded)


class _Maker:
    """Makes the stages one after another, and knows what columns each finds."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        columns: Columns,
        folder: Path,
        *,
        limits_of_functions: bool,
        to_call: bool,
    ) -> None:
        """What the user states of limits is of the models that are asked; of the functions where there are none."""
        self._settings, self._environ, self._columns = settings, environ, columns
        self._to_call = to_call
        self.funded = Funded(settings.budget)
        self._folder, self._limits_of_functions = folder, limits_of_functions
        self._has_page = False
        """Whether items may carry what was fetched for them."""
        self.names: set[str] = set()
        """Those that stages have: no two may have one."""

    def made(self, name: str, stage: Stage) -> list[Made]:
        """With what the stage itself says of which items it is for, and of those that fail at it."""
        if isinstance(stage, Filter | Expand | Top | Reduce | Cascade):
            return self._made(name, stage)
        holds = self._condition(name, stage.when) if stage.when else None
        made = self._made(name, stage)
        self._columns.add([stage.failure] if stage.failure else [])
        return [_aside(each, stage, holds) for each in made]

    def _made(self, name: str, stage: Stage) -> list[Made]:
        match stage:
            case Ask():
                return [self._ask(name, stage)]
            case Map():
                return [self._map(name, stage, kind="map")]
            case Filter():
                return [self._filter(name, stage)]
            case Expand():
                return [self._expand(name, stage)]
            case Top():
                return [self._top(name, stage)]
            case Reduce():
                return self._reduce(name, stage)
            case Cascade():
                return self._cascade(name, stage)
            case Fetch():
                return [self._fetch(name, stage)]
            case Extract():
                return [self._extract(name, stage)]

    def _ask(self, name: str, work: Ask[Any], when: Callable[[Item], bool] | None = None) -> Made:
        endpoint = endpoint_of(
            model_of(work.model), self._environ, to_call=self._to_call, prices=self._settings.prices,
            params=dict(work.params),
        )  # fmt: skip
        cap = {endpoint.max_tokens: CAP} if self.funded.needs_cap(name, work, endpoint) else None
        task, template, returns = asked(work, endpoint, cap, name if len(self.names) > 1 else "")
        if self._columns.names is not None:
            template.check(self._columns.names, needed=not work.images)
        schema = returns.schema if returns else None
        self._columns.add((schema or {}).get("properties") or [ANSWER], schema)
        late = endpoint.is_late and self._to_call and self._settings.budget is None
        calling = Calling(
            info=StageInfo(name, "ask", model_of(work.model).spec), task=task, call=endpoint.call,
            account=endpoint.account, charge=endpoint.charge, timeout_s=self._settings.timeout_s, when=when,
            stated=self._stated(endpoint, work.concurrency, is_limited=True),
            warm=endpoint.warms and task.same >= LEAST_CACHED, price=None if late else endpoint.price,
            late_price=(lambda: endpoint.price) if late else None,
        )  # fmt: skip
        return Made(calling, task.digest.hex(), ask_spec(work, returns, endpoint), endpoint, task, schema)

    def _map(
        self,
        name: str,
        work: Map[Any],
        *,
        kind: str,
        after: After = After.EXTEND,
        when: Callable[[Item], bool] | None = None,
    ) -> Made:
        if not callable(work.function) and not hasattr(work.function, "invoke"):
            raise UsageError(
                f"{type(work.function).__name__} is nothing that can be run over items.",
                hint="Give an Ask, a Map or a function.",
            )
        endpoint = function_endpoint(work, self._environ)
        task = FunctionTask(work.function, name=work.name, version=work.version)
        if after is not After.KEEP:
            self._columns.forget()
        calling = Calling(
            info=StageInfo(name, kind), task=task, call=endpoint.call, account=endpoint.account, charge=endpoint.charge,
            timeout_s=self._settings.timeout_s, after=after, when=when, batch=_PAGES if after is After.SPREAD else 256,
            stated=self._stated(endpoint, work.concurrency, is_limited=self._limits_of_functions),
        )  # fmt: skip
        spec = {"work": "function", "name": task.label, "version": work.version}
        return Made(calling, [kind, task.digest.hex()], spec, endpoint, task if after is After.EXTEND else None)

    def _filter(self, name: str, work: Filter) -> Made:
        if not isinstance(work.keep, str):
            return self._map(name, map_of(work.keep), kind="filter", after=After.KEEP)
        holds = self._condition(name, work.keep)
        local = Local(StageInfo(name, "filter"), lambda name, roll, onward: Sieve(name, roll, onward, holds))
        return Made(local, ["filter", work.keep], {"keep": work.keep})

    def _expand(self, name: str, work: Expand) -> Made:
        if not isinstance(work.into, str):
            return self._map(name, map_of(work.into), kind="expand", after=After.SPREAD)
        column = work.into
        self._columns.check(name, [column])
        self._columns.forget()
        local = Local(StageInfo(name, "expand"), lambda name, roll, onward: Spread(name, roll, onward, column))
        return Made(local, ["expand", column], {"into": column})

    def _top(self, name: str, work: Top) -> Made:
        score = self._score(name, work)
        if work.distinct:
            self._columns.check(name, [work.distinct])

        def make(name: str, roll: Roll, onward: Next | None) -> Step:
            return Best(
                name, roll, onward, most=work.count, score=score, so_far=work.so_far,
                within_s=work.within or work.window, again=work.window is not None, distinct=work.distinct,
            )  # fmt: skip

        by = work.by if isinstance(work.by, str) else label_of(work.by)
        spec = {"count": work.count, "by": by, "largest": work.largest, "within": work.within, "so_far": work.so_far}
        spec |= {"window": work.window, "distinct": work.distinct} if work.window or work.distinct else {}
        return Made(Local(StageInfo(name, "top"), make, holds=not work.so_far), ["top", spec], spec)

    def _score(self, name: str, work: Top) -> Callable[[Item], float]:
        by, sign = work.by, 1.0 if work.largest else -1.0
        if isinstance(by, str):
            self._columns.check(name, [by], numbers=[by])

        def score(item: Item) -> float:
            columns = item.data if isinstance(item.data, Mapping) else {"item": item.data}
            value: Any = columns.get(by) if isinstance(by, str) else quick(name, by, item.data)
            try:
                number = float(value)
            except (TypeError, ValueError, OverflowError):
                raise ItemError(
                    f"{name} goes by a number, and there is {value!r:.40} instead.", hint="The other items go on."
                ) from None
            if math.isnan(number):
                raise ItemError(f"{name} goes by a number, and there is none.", hint="The other items go on.")
            return sign * number

        return score

    def _reduce(self, name: str, work: Reduce) -> list[Made]:
        if work.by:
            self._columns.check(name, [work.by])
        self._columns.forget()
        check_start(name, work.start)
        endpoint, task = None, None
        if work.function is not None:
            given = map_of(work.function)
            endpoint = function_endpoint(given, self._environ)
            task = FunctionTask(given.function, name=given.name, version=given.version)

        def make(name: str, roll: Roll, onward: Next | None) -> Step:
            function = None
            if task is not None and endpoint is not None:
                call = roll.remembering(task).cache(endpoint.call) if task.reusable else endpoint.call
                function = reducing(task, call, self._settings.timeout_s)
            return Gather(
                name, roll, onward, by=work.by, every=work.every, by_source=work.each, fold=work.fold,
                start=work.start, function=function, at_once=groups_at_once(work),
            )  # fmt: skip

        spec = {"by": work.by, "every": work.every, "each": work.each, "start": work.start}
        functions = [label_of(work.fold)] if work.fold is not None else []
        functions += [task.digest.hex()] if task is not None else []
        local = Local(StageInfo(name, "reduce"), make, work.each, holds=not work.each)
        schema = {} if work.function is None else schema_told(given.function)
        return [Made(local, ["reduce", {**spec, "functions": functions}], spec, endpoint, schema=schema)]

    def _cascade(self, name: str, work: Cascade) -> list[Made]:
        found: list[Made] = []
        when: Callable[[Item], bool] | None = None
        for number, stage in enumerate(work.stages, 1):
            if stage.when or stage.failure:
                raise UsageError(
                    f"A stage of {name} says when or failure by itself.", hint="A Cascade says when: unsure=..."
                )
            called = unused(stage.name or f"{name} {number}", self.names)
            self.names.add(called)
            if isinstance(stage, Ask):
                found.append(self._ask(called, stage, when))
            else:
                found.append(self._map(called, stage, kind="map", when=when))
            when = self._condition(name, work.unsure) if when is None else when
        unsure = work.unsure if isinstance(work.unsure, str) else label_of(work.unsure)
        return [msgspec.structs.replace(each, identity=[each.identity, unsure]) for each in found]

    def _condition(self, name: str, given: str | Callable[[Any], Any]) -> Callable[[Item], bool]:
        if not isinstance(given, str):
            return lambda item: bool(quick(name, given, item.data))
        condition = Condition(given)
        self._columns.check(name, condition.fields, numbers=condition.ordered)
        unknown = self._columns.unknown(condition.fields)

        def holds(item: Item) -> bool:
            if unknown:  # a name nearly that of a column of the first item is a mistake in the condition
                Columns(item.data if isinstance(item.data, Mapping) else ["item"]).check_near(name, unknown)
                unknown.clear()
            return condition.holds(item.data)

        return holds

    def _fetch(self, name: str, work: Fetch) -> Made:
        template = Template(work.url)
        if self._columns.names is not None and len(self._columns.names) > 1:
            self._columns.check(name, template.fields)
        self._columns.add(["final_url", "status", "content_type"])
        self._has_page = True
        fetcher, account = fetching(work)
        task = FetchTask(work, now=time.time())
        endpoint = Endpoint(("fetch", ""), "", fetcher.call, fetcher.close, account)
        calling = Calling(
            info=StageInfo(name, "fetch"), task=task, call=fetcher.call, around=fetcher.around, account=account,
            timeout_s=work.timeout_s + _GRACE_S, steady=True, batch=_PAGES, since=task.since, stated={Unit.CONCURRENCY: float(work.concurrency)},
        )  # fmt: skip
        return Made(calling, ["fetch", task.digest.hex()], {"url": work.url, "by": work.by}, endpoint, task)

    def _extract(self, name: str, work: Extract) -> Made:
        from headrace.data.extract import NAME, VERSION, located, need_readers, read_document  # noqa: PLC0415 - an extra

        need_readers()
        if work.source:
            self._columns.check(name, [work.source])
        elif not self._has_page:
            raise UsageError(NO_PAGE, hint=NO_PAGE_HINT)
        self._has_page = self._has_page and bool(work.when)
        self._columns.add(work.keep)
        folder = self._folder
        task = ExtractTask(
            work, lambda path: located(path, folder, work.max_bytes), name=NAME, version=VERSION
        )  # fmt: skip
        endpoint = process_endpoint(read_document, work.concurrency or 0)
        calling = Calling(
            info=StageInfo(name, "extract"), task=task, call=endpoint.call, account=endpoint.account,
            timeout_s=self._settings.timeout_s, stated=self._stated(endpoint, work.concurrency, is_limited=False),
            steady=True,
        )  # fmt: skip
        spec = {"source": work.source, "max_chars": work.max_chars, "keep": list(work.keep),
            "max_pages": work.max_pages, "max_bytes": work.max_bytes,
        }  # fmt: skip
        return Made(calling, ["extract", task.digest.hex()], spec, endpoint, task)

    def _stated(self, endpoint: Endpoint, own: int | None, *, is_limited: bool) -> dict[Unit, float]:
        """The strictest of what the endpoint can do, what the stage says, and what the run says."""
        found = {} if endpoint.slots is None else {Unit.CONCURRENCY: float(endpoint.slots)}
        if is_limited:
            found |= self._settings.limits.stated
        if own is not None:
            found[Unit.CONCURRENCY] = min(own, found.get(Unit.CONCURRENCY, own))
        return found


def _aside(made: Made, stage: Ask[Any] | Map[Any] | Fetch | Extract, holds: Callable[[Item], bool] | None) -> Made:
    if holds is None and not stage.failure:
        return made
    when = stage.when if isinstance(stage.when, str) else label_of(stage.when)
    calling = msgspec.structs.replace(cast("Calling", made.stage), when=holds, failure=stage.failure)
    told = {name: word for name, word in (("when", when), ("failure", stage.failure)) if word}
    return msgspec.structs.replace(
        made, stage=calling, identity=[made.identity, told], spec={**made.spec, **told}
    )  # fmt: skip
