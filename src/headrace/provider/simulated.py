"""The one fake that users and tests share: answers any request, with latency, faults or a script. No sockets here.

Deterministic: an answer follows from its request alone; latency and faults from seed, prompt and attempt, never from
the order of arrival. Attempts at a prompt are counted from its last good answer.
"""

import asyncio
import copy
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from headrace.core.call import Finish, Reply, Request
from headrace.core.errors import CallError, HeadraceError, Rejected, Throttled, Transient, UsageError
from headrace.provider.chance import FAULT_WORDS, Fault, Faults, Latency, Plan, decide, words
from headrace.provider.example import compiled
from headrace.provider.ledger import Ledger

MODEL = "simulated"
_WORDS = {"latency": "latency", "seed": "seed", "max_concurrency": "max_concurrency", **FAULT_WORDS}
_KEPT_SCHEMAS = 64
_CHARACTERS_PER_TOKEN = 4


class After(msgspec.Struct, frozen=True):
    """A step of a script that takes `latency_s` before `step` happens."""

    latency_s: float
    step: "str | Reply | HeadraceError | Fault"


Step = str | Reply | HeadraceError | Fault | After
"""One answer of a script: a text, a whole reply, an error to raise, or a fault such as Fault.HANG."""

Script = Sequence[Step] | Callable[[Request], Step]
"""Steps that every prompt goes through from the first, the last one repeating; or a function of the request."""


class Visit:
    """One call in flight: what will become of it, and when."""

    __slots__ = ("asked", "ending", "latency_s", "prompt", "request", "text")

    def __init__(self, request: Request) -> None:
        text = ""
        parts: list[str] = []
        for message in request.messages:
            parts.append(message.content)
            if message.role == "user":
                text = message.content
        whole = "\x00".join(parts)
        self.request = request
        self.text = text
        """The last user message: what the ledger names the item by."""
        self.prompt = blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        self.asked = tokens(len(whole) - len(parts) + 1)
        self.latency_s = 0.0
        self.ending: Fault | HeadraceError | Reply | None = None
        """How it ends; None means with a good answer made from the request."""


class Simulated:
    """A provider in this process: a `Call` that sleeps with asyncio, so it also works in virtual time.

    `max_concurrency` answers 429 to calls above it. The three steps of a call (`arrive`, `reply`, `leave`) are
    synchronous, so that a server can do them without a task per call. `script` replaces latency, faults and answers.
    """

    def __init__(
        self,
        *,
        latency: Latency | float = 0.0,
        faults: Faults | None = None,
        seed: int = 0,
        script: Script | None = None,
        max_concurrency: int | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        if max_concurrency is not None and max_concurrency < 1:
            raise UsageError(f"max_concurrency={max_concurrency} allows no call.", hint="Give 1 or more.")
        if isinstance(script, str) or (isinstance(script, Sequence) and not script):
            raise UsageError("A script is a list of at least one step.", hint='Write for example script=["positive"].')
        self.latency = latency if isinstance(latency, Latency) else Latency(latency)
        self.faults = faults or Faults()
        self.seed = seed
        self.script = script
        self.max_concurrency = max_concurrency
        self.ledger = ledger or Ledger()
        self._by_chance = self.latency.sigma > 0 or self.faults.any > 0
        self._plan = Plan(self.latency.median_s)
        self._attempts: dict[bytes, int] = {}
        self._makers: dict[int, tuple[Mapping[str, Any], Callable[[int], Any]]] = {}

    @classmethod
    def parse(cls, name: str) -> "Simulated":
        """What follows `sim:` in a model's name: nothing, or `latency=0.2,500=0.02,seed=7`.

        Its ledger keeps counts only, so that a run of any length stays within bounded memory.
        """
        given = words(name, _WORDS)
        return cls(
            latency=Latency.parse(given.pop("latency", "0")),
            seed=whole("seed", given.pop("seed", "0")),
            max_concurrency=whole("max_concurrency", given.pop("max_concurrency"))
            if "max_concurrency" in given
            else None,
            faults=Faults.of(given),
            ledger=Ledger(per_item=False),
        )

    async def __call__(self, request: Request) -> Reply:
        visit = self.arrive(request)
        try:
            if visit.ending is Fault.HANG:
                await asyncio.get_running_loop().create_future()
            if visit.latency_s or visit.ending is not Fault.THROTTLED_429:
                await asyncio.sleep(visit.latency_s)
            reply = self.outcome(visit)
        except BaseException as error:
            self.leave(visit, status_of(visit, error))
            raise
        self.leave(visit, "200", paid=reply)
        return reply

    def arrive(self, request: Request) -> Visit:
        """A call comes in: count it and decide what will become of it."""
        visit = Visit(request)
        if self.max_concurrency is not None and self.ledger.in_flight >= self.max_concurrency:
            visit.ending = Fault.THROTTLED_429
        elif self.script is not None:
            self._follow_script(visit)
        elif self._by_chance:
            plan = decide(
                self.latency, self.faults, seed=self.seed, prompt=visit.prompt, attempt=self._attempt(visit.prompt)
            )
            visit.latency_s, visit.ending = plan.latency_s, plan.fault
        else:
            visit.latency_s = self.latency.median_s
        self.ledger.arrived()
        return visit

    def outcome(self, visit: Visit) -> Reply:
        """The reply of a visit whose time has come, or the error it ends in, raised."""
        ending = visit.ending
        if ending is None:
            return self._answer(visit)
        if isinstance(ending, Reply):
            return ending
        if isinstance(ending, HeadraceError):
            raise copy.copy(ending)  # one instance raised again and again would gather tracebacks
        raise _error_of(ending, self.faults.retry_after_s)

    def leave(self, visit: Visit, status: str, *, paid: Reply | None = None) -> None:
        """The call is over; `paid` is the good answer that went out."""
        self.ledger.left(status)
        if paid is not None:
            if self.script is None:
                self._attempts.pop(visit.prompt, None)
            self.ledger.pay(visit.text, paid.input_tokens or 0, paid.output_tokens or 0)

    def _attempt(self, prompt: bytes) -> int:
        attempt = self._attempts.get(prompt, 0)
        self._attempts[prompt] = attempt + 1
        return attempt

    def _follow_script(self, visit: Visit) -> None:
        script = self.script
        if callable(script):
            try:
                step = script(visit.request)
            except HeadraceError as error:
                step = error
        elif script:
            step = script[min(self._attempt(visit.prompt), len(script) - 1)]
        if isinstance(step, After):
            visit.latency_s, step = step.latency_s, step.step
        else:
            visit.latency_s = self.latency.median_s
        visit.ending = self._replied(visit, step) if isinstance(step, str) else step

    def _answer(self, visit: Visit) -> Reply:
        request, prompt = visit.request, visit.prompt
        if request.schema is not None:
            value = self._maker(request.schema)(int.from_bytes(prompt[:8], "little"))
            try:
                return self._replied(visit, msgspec.json.encode(value).decode())
            except (OverflowError, ValueError):
                raise Rejected(
                    "The JSON schema asks for a value that JSON cannot hold.",
                    hint="Change the schema of the answer.",
                    status=400,
                ) from None
        said = f"simulated answer {prompt.hex()[:8]}"
        if request.params.get("response_format") == {"type": "json_object"}:
            said = f'{{"answer":"{said}"}}'
        return self._replied(visit, said)

    def _replied(self, visit: Visit, text: str) -> Reply:
        """A reply with this text, cut off where the request's maximum output is smaller."""
        request = visit.request
        finish: Finish = "stop"
        output_tokens = tokens(len(text))
        if request.params:
            allowed = request.params.get("max_completion_tokens", request.params.get("max_tokens"))
            if isinstance(allowed, int) and allowed < output_tokens:
                finish, output_tokens = "length", max(0, allowed)
                text = text[: output_tokens * _CHARACTERS_PER_TOKEN]
        return Reply(text, finish, visit.asked, output_tokens, 0, request.model or MODEL)

    def _maker(self, schema: Mapping[str, Any]) -> Callable[[int], Any]:
        """Compiled once per schema object, which is kept so that its id stays its own."""
        kept = self._makers.get(id(schema))
        if kept is None:
            if len(self._makers) >= _KEPT_SCHEMAS:
                self._makers.clear()
            kept = self._makers[id(schema)] = (schema, compiled(schema))
        return kept[1]

    def __repr__(self) -> str:
        return f"Simulated(seed={self.seed}, {self.ledger!r})"


def whole(word: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise UsageError(f"{word}={value} is no whole number.", hint=f"Write for example {word}=7.") from None


def tokens(characters: int) -> int:
    """About four characters to a token, and at least one."""
    return max(1, -(-characters // _CHARACTERS_PER_TOKEN))


def status_of(visit: Visit, error: BaseException | None = None) -> str:
    """The ledger's word for a call that ended without an answer; `gone` where the client left."""
    if isinstance(visit.ending, Fault) and (
        error is None or visit.ending is Fault.HANG or isinstance(error, CallError)
    ):
        return visit.ending.value
    if isinstance(error, HeadraceError):
        return str(getattr(error, "status", None) or error.kind)
    return "gone"


def _error_of(fault: Fault, retry_after_s: float) -> CallError:
    """What a client makes of this fault."""
    again = "Run again: it may have been a passing fault."
    match fault:
        case Fault.THROTTLED_429:
            return Throttled(
                "The simulated provider answered 429: slow down.",
                hint="Run again later: the item was not answered.",
                status=429,
                retry_after_s=retry_after_s,
            )
        case Fault.ERROR_500:
            return Transient("The simulated provider answered 500.", hint=again, status=500)
        case Fault.RESET:
            return Transient("The simulated provider reset the connection.", hint=again)
        case Fault.CUT:
            return Transient("The answer of the simulated provider was cut off.", hint=again)
        case Fault.MALFORMED:
            return Transient("The simulated provider answered 200 with a body that is no chat completion.", hint=again)
        case Fault.HANG:
            return Transient("The simulated provider never answers this call.", hint="Set a timeout.")
