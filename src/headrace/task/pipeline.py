"""A pipeline: stages in order, as a value. It can be composed, compared, printed, and written as JSON or TOML and read
again; functions are written by the name they are imported by, never as code."""

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from importlib import import_module
from itertools import count
from typing import Any, Generic, TypeAlias, cast

import msgspec

from headrace.core.errors import UsageError
from headrace.core.item import T_co
from headrace.core.model import Model
from headrace.task.condition import Condition
from headrace.task.extract import Extract
from headrace.task.fetch import Fetch
from headrace.task.fields import check_fields
from headrace.task.mode import mode_of
from headrace.task.stages import Expand, Filter, Reduce, Top
from headrace.task.work import Ask, Map, Runnable

KINDS: dict[str, type[msgspec.Struct]] = {
    "ask": Ask, "map": Map, "filter": Filter, "expand": Expand, "top": Top, "reduce": Reduce, "fetch": Fetch,
    "extract": Extract,
}  # fmt: skip
_KIND_OF = {made: kind for kind, made in KINDS.items()}
CASCADE = "cascade"
_LISTS = ("images", "allow", "keep")
"""Fields that are tuples, and lists in a file."""


class Cascade:
    """Cheap first: each of the stages is asked only about those items of which the one before was unsure.

    `unsure` is a condition over the columns that the stages give (`confidence < 0.7`), or a quick function of the row.
    The later answer replaces the earlier one's columns.
    """

    __slots__ = ("name", "stages", "unsure")

    def __init__(self, *stages: "Ask[Any] | Map[Any]", unsure: str | Callable[[Any], Any], name: str = "") -> None:
        if len(stages) < 2:
            raise UsageError("A Cascade needs two stages or more.", hint="Give the cheap one first.")
        for stage in stages:
            given: object = stage
            if not isinstance(given, Ask | Map):
                raise UsageError(
                    f"A Cascade cannot ask {type(given).__name__}.", hint="Give it Ask and Map: the cheap one first."
                )
        if isinstance(unsure, str):
            if not unsure:
                raise UsageError("A Cascade must know when it is unsure.", hint='Give unsure="confidence < 0.7".')
            Condition(unsure)
        elif not callable(sure := cast("object", unsure)) or mode_of(sure) == "async":
            raise UsageError(
                f"unsure is {unsure!r:.80}.",
                hint="Give a condition over columns, or a plain quick function of the row.",
            )
        self.stages, self.unsure, self.name = tuple(stages), unsure, name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cascade) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        unsure = self.unsure if isinstance(self.unsure, str) else getattr(self.unsure, "__name__", "function")
        return f"Cascade({', '.join(map(repr, self.stages))}, unsure={unsure!r})"

    def _parts(self) -> tuple[Any, ...]:
        return self.stages, self.unsure, self.name


Stage: TypeAlias = Ask[Any] | Map[Any] | Filter | Expand | Top | Reduce | Cascade | Fetch | Extract
_STAGES = (*KINDS.values(), Cascade)


class Pipeline(Generic[T_co]):
    """Stages in order: each works on what the one before has handed on, while that goes on.

    A stage's value is added to its item's row: the fields of a mapping as columns, anything else as one column (`answer`
    of an Ask, `result` of a Map, `items` of a Reduce). The outcome has the row as the last stage got it, and that
    stage's value. A function stands for a Map of it; a Pipeline among the stages for its stages. With `in_flight` so
    many items of the source are worked on at once at most, with all that is made of them.
    """

    __slots__ = ("in_flight", "stages")

    def __init__(
        self, *stages: "Stage | Pipeline[Any] | Callable[[Any], Any] | Runnable[Any]", in_flight: int | None = None
    ) -> None:
        found: list[Stage] = []
        for stage in stages:
            if isinstance(stage, Pipeline):
                found += stage.stages
                in_flight = min(filter(None, (in_flight, stage.in_flight)), default=None)
            elif isinstance(stage, _STAGES):
                found.append(cast("Stage", stage))
            elif callable(stage) or hasattr(stage, "invoke"):
                found.append(Map(cast("Callable[[Any], Any]", stage)))
            else:
                raise UsageError(
                    f"{type(stage).__name__} is nothing that can be run over items.",
                    hint="Give an Ask, a Map, a function ...",
                )
        if not found:
            raise UsageError("A pipeline needs a stage.", hint="Give it an Ask, for example.")
        self.stages: tuple[Stage, ...] = tuple(found)
        self.in_flight: int | None = in_flight
        _check_in_flight(in_flight, found)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pipeline) and (self.stages, self.in_flight) == (other.stages, other.in_flight)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __len__(self) -> int:
        return len(self.stages)

    def __iter__(self) -> "Iterator[Stage]":
        return iter(self.stages)

    def __repr__(self) -> str:
        most = [] if self.in_flight is None else [f"in_flight={self.in_flight}"]
        return f"Pipeline({', '.join([*map(repr, self.stages), *most])})"

    def __str__(self) -> str:
        """One stage a line, by the names they have in reports."""
        return "\n".join(f"{number}. {name}: {stage!r}" for number, (name, stage) in enumerate(named(self.stages), 1))

    def to_dict(self) -> dict[str, Any]:
        """As JSON and TOML can hold it. Raises UsageError where a function or type cannot be imported by its name."""
        most = {} if self.in_flight is None else {"in_flight": self.in_flight}
        return {**most, "stage": [_written(stage) for stage in self.stages]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], model: str | Model | None = None) -> "Pipeline[Any]":
        """What `to_dict` gave, or a TOML file with `[[stage]]` tables. Stages that ask and name no model ask `model`.
        Raises UsageError where it is no pipeline.

        Functions are imported by their names: read only files that you would also run.
        """
        stages = data.get("stage")
        if not isinstance(stages, list) or not all(isinstance(stage, Mapping) for stage in stages):
            raise UsageError("There are no stages.", hint="Write a [[stage]] table for each, with its kind.")
        more = sorted(set(data) - {"stage", "in_flight"})
        if more:
            raise UsageError(
                f"A pipeline has no {more[0]!r}.", hint="It has [[stage]] tables, and in_flight before them."
            )
        made = [_read(stage, f"Stage {number}", model) for number, stage in enumerate(stages, 1)]
        return cls(*made, in_flight=data.get("in_flight"))


def _check_in_flight(given: object, stages: "list[Stage]") -> None:
    if given is None:
        return
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise UsageError(f"{given!r} items in flight cannot work.", hint="Give a whole number from 1 up.")
    if any(
        (isinstance(stage, Reduce) and not stage.each) or (isinstance(stage, Top) and not stage.so_far)
        for stage in stages
    ):
        raise UsageError(
            "A stage waits for more items than may be in flight.", hint="Leave in_flight out, or Reduce(each=True)."
        )


def named(stages: "tuple[Stage, ...]") -> "list[tuple[str, Stage]]":
    """Each stage with its name: its own, else its kind, with a number from the second of one name on. No two have one
    name."""
    taken: set[str] = set()
    found = []
    for stage in stages:
        name = unused(stage.name or kind_of(stage), taken)
        taken.add(name)
        found.append((name, stage))
    return found


def unused(name: str, taken: AbstractSet[str]) -> str:
    """The name, with the first number from 2 up that is not taken where it is."""
    numbered = (f"{name} {number}" for number in count(2))
    return name if name not in taken else next(each for each in numbered if each not in taken)


def kind_of(stage: "Stage") -> str:
    return CASCADE if isinstance(stage, Cascade) else _KIND_OF[type(stage)]


def _written(stage: "Stage") -> dict[str, Any]:
    if isinstance(stage, Cascade):
        parts = {
            "stages": [_written(each) for each in stage.stages],
            "unsure": _plain(stage.unsure),
            "name": stage.name,
        }
        return {"kind": CASCADE, **{name: value for name, value in parts.items() if value != ""}}
    found: dict[str, Any] = {"kind": _KIND_OF[type(stage)]}
    for field in msgspec.structs.fields(stage):
        value = getattr(stage, field.name)
        default = field.default_factory() if callable(field.default_factory) else field.default
        if value != default:
            found[field.name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Model):
        if value.api_key or value.headers:
            raise UsageError(
                "A pipeline that is written holds no key and no header.", hint="Leave them to the environment."
            )
        return value.spec if value.base_url is None else {"spec": value.spec, "base_url": value.base_url}
    if isinstance(value, Map):
        return _written(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return {"import": import_name(value)}


def import_name(value: Any) -> str:
    """`module:name` where it can be imported from there. Raises UsageError where it cannot."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    if module in (None, "__main__") or not name or "<" in name:
        raise UsageError(
            f"{name or type(value).__name__} cannot be imported by its name.",
            hint="Put it into a module, under a name.",
        )
    return f"{module}:{name}"


def _imported(name: object) -> Any:
    try:
        module, _, path = str(name).partition(":")
        found: Any = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception as error:  # noqa: BLE001 - a module of somebody else's may raise anything
        raise UsageError(f"{name!r} cannot be imported: {error}.", hint="Write module:name.") from None
    return found


def _read(data: Any, where: str, model: str | Model | None = None) -> "Stage":
    if not isinstance(data, Mapping):
        raise UsageError(f"{where} is {data!r:.80}.", hint="A stage is a table with its kind.")
    given = dict(data)
    kind = given.pop("kind", None)
    if kind == CASCADE:
        return _cascade(given, where, model)
    if not isinstance(kind, str) or kind not in KINDS:
        raise UsageError(f"{where} is of the kind {kind!r:.80}.", hint=f"Choose from {', '.join([*KINDS, CASCADE])}.")
    fields = {field.name: field for field in msgspec.structs.fields(KINDS[kind])}
    values = {name: _value(given.pop(name)) for name in list(given) if name in fields}
    _nothing_left(given, where, tuple(fields))
    if kind == "ask" and model is not None:
        values.setdefault("model", model)
    missing = [n for n, f in fields.items() if f.required and n not in values]
    if missing:
        raise UsageError(f"{where} ({kind}) lacks {missing[0]!r}.", hint="Give it.")
    check_fields(KINDS[kind], values, f"{where} ({kind})")
    values |= {name: tuple(value) for name, value in values.items() if name in _LISTS and isinstance(value, list)}
    try:
        made: Stage = KINDS[kind](**values)  # type: ignore[assignment]
    except UsageError as error:
        raise UsageError(f"{where} ({kind}): {error.message}", hint=error.hint) from None
    return made


def _cascade(given: dict[str, Any], where: str, model: str | Model | None) -> Cascade:
    parts, unsure, name = given.pop("stages", ()), _value(given.pop("unsure", "")), given.pop("name", "")
    _nothing_left(given, where, ("stages", "unsure", "name"))
    if not isinstance(parts, list | tuple):
        raise UsageError(
            f"The stages of {where} are {parts!r:.80}.", hint="Give a list of tables, the cheap one first."
        )
    stages: list[Any] = [_read(each, f"{where}, part {number}", model) for number, each in enumerate(parts, 1)]
    try:
        return Cascade(*stages, unsure=unsure, name=name)
    except UsageError as error:
        raise UsageError(f"{where} ({CASCADE}): {error.message}", hint=error.hint) from None


def _nothing_left(given: Mapping[str, Any], where: str, known: tuple[str, ...]) -> None:
    if given:
        raise UsageError(f"{where} has no {next(iter(given))!r}.", hint=f"It may have: {', '.join(known)}.")


def _value(value: Any) -> Any:
    """What a table stands for; one that is a schema or has parameters stands for itself, as lists do."""
    if isinstance(value, Mapping):
        if set(value) == {"import"}:
            return _imported(value["import"])
        if isinstance(value.get("spec"), str) and set(value) <= {"spec", "base_url"}:
            return Model(value["spec"], base_url=value.get("base_url"))
        if value.get("kind") == "map":
            return _read(value, "A function")
    return value
