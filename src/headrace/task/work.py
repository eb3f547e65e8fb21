"""What a person asks for: values that say what to do with every item, and nothing of how or where."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Protocol, overload

import msgspec

from headrace.core.errors import UsageError
from headrace.core.item import T, T_co
from headrace.core.model import Model
from headrace.core.outline import outline
from headrace.task.condition import Condition
from headrace.task.mode import MODES, Mode, mode_of

MOST_SAMPLES = 100


class Ask(msgspec.Struct, Generic[T_co], frozen=True):
    """Ask a model about every item.

    `prompt` is a template over the item's columns: `{column}`, with `{{` for a brace; `{item}` is an item without
    columns. `returns` is the type of the answer: a shorthand line (`label: positive|negative, score: float 0..1`), a
    JSON schema, a Pydantic model, dataclass or TypedDict; without it the answer is text. `model` is `openai:NAME`,
    `local`, `sim:` or a Model. `params` go into the request as they are. `images` names columns that hold pictures: a
    path, an http(s) or data: address, or a list of them; they follow the prompt, for models that see. With `samples=n`
    each item is asked about n times: the outcome's value is the one that is nearest to the others, and its `agreement`
    says how far they agree. `name` is what its stage is called in a pipeline, `concurrency` how many of its calls are in
    flight at most, whatever the run's limits are. Items for which the condition `when` (`kind == "long"`, or a quick
    function of the row) does not hold pass by; with `failure`, the name of a column, one that fails here goes on, with why
    in that column.
    """

    prompt: str
    system: str | None = None
    returns: Any = None
    model: str | Model = "local"
    temperature: float | None = None
    max_tokens: int | None = None
    params: Mapping[str, Any] = {}
    images: tuple[str, ...] = ()
    samples: int = 1
    name: str = ""
    concurrency: int | None = None
    when: str | Callable[[Any], Any] = ""
    failure: str = ""

    def __post_init__(self) -> None:
        _check_concurrency(self.concurrency)
        check_when(self.when)
        if not 1 <= self.samples <= MOST_SAMPLES:
            raise UsageError(
                f"{self.samples} samples cannot be taken.", hint=f"Give a number from 1 to {MOST_SAMPLES}."
            )
        given: object = self.images  # a Struct does not look at what it is given
        if not isinstance(given, tuple | list) or not all(isinstance(name, str) for name in given):
            raise UsageError(f"The images are {given!r}.", hint='Name columns, for example images=("photo",).')
        if self.max_tokens is not None and self.max_tokens < 1:
            raise UsageError(
                f"A maximum of {self.max_tokens} tokens leaves no room for an answer.", hint="Give 1 or more."
            )
        if self.temperature is not None and not 0 <= self.temperature <= 100:
            raise UsageError(
                f"{self.temperature} is no temperature.", hint="Give a number from 0 up, usually at most 2."
            )

    def __repr__(self) -> str:
        return outline(self, named=False)

    if TYPE_CHECKING:  # the type of the answers follows from `returns`; the real one is made of the fields above

        @overload
        def __init__(
            self: "Ask[str]", prompt: str, system: str | None = None, returns: None = None, model: str | Model = "local",
            temperature: float | None = None, max_tokens: int | None = None, params: Mapping[str, Any] = ...,
            images: tuple[str, ...] = (), samples: int = 1, name: str = "", concurrency: int | None = None,
            when: str | Callable[[Any], Any] = "", failure: str = "",
        ) -> None: ...  # fmt: skip
        @overload
        def __init__(
            self: "Ask[dict[str, Any]]", prompt: str, system: str | None = None, *, returns: str | Mapping[str, Any], model: str | Model = "local",
            temperature: float | None = None, max_tokens: int | None = None, params: Mapping[str, Any] = ...,
            images: tuple[str, ...] = (), samples: int = 1, name: str = "", concurrency: int | None = None,
            when: str | Callable[[Any], Any] = "", failure: str = "",
        ) -> None: ...  # fmt: skip
        @overload
        def __init__(
            self: "Ask[T]", prompt: str, system: str | None = None, *, returns: type[T], model: str | Model = "local",
            temperature: float | None = None, max_tokens: int | None = None, params: Mapping[str, Any] = ...,
            images: tuple[str, ...] = (), samples: int = 1, name: str = "", concurrency: int | None = None,
            when: str | Callable[[Any], Any] = "", failure: str = "",
        ) -> None: ...  # fmt: skip
        @overload
        def __init__(
            self: "Ask[Any]", prompt: str, system: str | None = None, *, returns: object, model: str | Model = "local",
            temperature: float | None = None, max_tokens: int | None = None, params: Mapping[str, Any] = ...,
            images: tuple[str, ...] = (), samples: int = 1, name: str = "", concurrency: int | None = None,
            when: str | Callable[[Any], Any] = "", failure: str = "",
        ) -> None: ...  # fmt: skip
        def __init__(self, *_given: Any, **_named: Any) -> None: ...


class Runnable(Protocol[T_co]):
    """A LangChain runnable, a LangGraph graph: anything with `invoke` and `ainvoke`."""

    def invoke(self, given: Any, /) -> Any: ...
    def ainvoke(self, given: Any, /) -> Awaitable[T_co]: ...


class Map(msgspec.Struct, Generic[T_co], frozen=True):
    """Call a function with every item.

    `mode` is where it runs: `async` on the event loop; `thread`; `process`, for what is bound by the CPU (the function
    must be importable, its items and results are copied); `sync`, one item after another in one thread; `hybrid`, the
    default, follows the function: async ones on the loop, those marked with `cpu_bound` in processes, others in threads.

    With a `name` and a `version`, what it returned for an equal item is not computed again; change the version when
    the function changes. Its results must have a JSON form. `endpoint` names whose limits it shares: a model
    (`openai:gpt-5-nano`) or any name that several functions have in common. `concurrency` is how many items it works
    on at once at most, whatever the run's limits are. `when` and `failure` are as an Ask's.
    """

    function: Callable[[Any], Awaitable[T_co] | T_co] | Runnable[T_co]
    name: str = ""
    version: str = ""
    endpoint: str = ""
    mode: Mode = "hybrid"
    concurrency: int | None = None
    when: str | Callable[[Any], Any] = ""
    failure: str = ""

    def __post_init__(self) -> None:
        _check_concurrency(self.concurrency)
        check_when(self.when)
        if self.mode not in MODES:
            raise UsageError(f"There is no mode {self.mode!r}.", hint=f"Choose from {', '.join(MODES)}.")

    def __repr__(self) -> str:
        return outline(self, named=False)

    if TYPE_CHECKING:  # what is awaited is no part of the value's type

        @overload
        def __init__(
            self: "Map[T]",
            function: Callable[[Any], Awaitable[T]] | Runnable[T],
            name: str = "",
            version: str = "",
            endpoint: str = "",
            mode: Mode = "hybrid",
            concurrency: int | None = None,
            when: str | Callable[[Any], Any] = "",
            failure: str = "",
        ) -> None: ...
        @overload
        def __init__(
            self: "Map[T]", function: Callable[[Any], T], name: str = "", version: str = "", endpoint: str = "",
            mode: Mode = "hybrid", concurrency: int | None = None, when: str | Callable[[Any], Any] = "",
            failure: str = "",
        ) -> None: ...  # fmt: skip
        def __init__(self, *_given: Any, **_named: Any) -> None: ...


def _check_concurrency(number: object) -> None:
    if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
        raise UsageError(f"A concurrency of {number!r} cannot work.", hint="Give a number from 1 up.")


def check_when(when: object) -> None:
    """Raises UsageError for what is no condition."""
    if isinstance(when, str):
        if when:
            Condition(when)
    elif not callable(when) or mode_of(when) == "async":
        raise UsageError(
            f"when is {when!r:.80}.", hint="Give a condition over columns, or a plain quick function of the row."
        )
