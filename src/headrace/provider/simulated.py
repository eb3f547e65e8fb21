"""The one fake that users and tests share: answers any request, with latency, faults, limits or a script. No sockets here.

Deterministic: an answer follows from its request alone; latency and faults from seed, prompt and attempt, never from
the order of arrival; refusals by limits from the order and times of arrival, overload from what is in flight then.
Attempts at a prompt are counted from its last good answer.
"""

import asyncio
import copy
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from headrace.core.call import Finish, Reply, Request
from headrace.core.errors import CallError, HeadraceError, Rejected, Transient, UsageError
from headrace.core.limits import Unit
from headrace.provider.chance import AT_ONCE, FAULT_WORDS, Fault, Faults, Latency, decide
from headrace.provider.door import Door
from headrace.provider.example import compiled
from headrace.provider.ledger import Ledger
from headrace.provider.notice import PARTS as NOTICE_PARTS
from headrace.provider.notice import Answer, Notice
from headrace.provider.quota import PARTS as QUOTA_PARTS
from headrace.provider.quota import Quota, Refusal
from headrace.provider.weather import Change, Knee, Outage
from headrace.provider.wording import pairs, whole

MODEL = "simulated"
_WORDS = ("latency", "seed", "max_concurrency", *FAULT_WORDS, "limit", "headers", "knee", "outage", "tail", "change")
_REPEATED = ("limit", "outage", "change")
_PARTS = {"limit": QUOTA_PARTS, "headers": NOTICE_PARTS}
_KEPT_SCHEMAS = 64
_CHARACTERS_PER_TOKEN = 4
_UNTOLD: dict[object, str] = {
    Fault.RESET: "The simulated provider reset the connection.",
    Fault.CUT: "The answer of the simulated provider was cut off.",
    Fault.HANG: "The simulated provider never answers this call.",
}
_NO_COMPLETION = "The simulated provider answered 200 with a body that is no chat completion."
_WALL_S = 1.7e9
"""What the calendar says in process as a run begins: any time will do, always the same."""


class After(msgspec.Struct, frozen=True):
    """A step of a script that takes `latency_s` before `step` happens."""

    latency_s: float
    step: "str | Reply | HeadraceError | Fault"


Step = str | Reply | HeadraceError | Fault | After
"""One answer of a script: a text, a whole reply, an error to raise, or a fault such as Fault.HANG."""

Script = Sequence[Step] | Callable[[Request], Step]
"""Steps that every prompt goes through from the first, the last one repeating; or a function of the request."""

_AN_IMAGE = 765
"""Tokens of a picture of 1024 x 1024, as OpenAI counts for gpt-4o."""


class Visit:
    """One call in flight: what will become of it, and when."""

    __slots__ = ("asked", "ending", "latency_s", "prompt", "request", "text")

    def __init__(self, request: Request) -> None:
        text = ""
        parts: list[str] = []
        pictures = 0
        for message in request.messages:
            parts.append(message.content)
            for image in message.images:
                pictures += 1
                parts.append(image.digest.hex() or image.source)
            if message.role == "user":
                text = message.content
        whole = "\x00".join(parts)
        self.request = request
        self.text = text
        """The last user message: what the ledger names the item by."""
        self.prompt = blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        characters = len(whole) - len(parts) + 1
        if pictures:
            characters = sum(len(message.content) for message in request.messages)
        self.asked = tokens(characters) + pictures * _AN_IMAGE
        self.latency_s = 0.0
        self.ending: Fault | HeadraceError | Reply | Refusal | None = None
        """How it ends; None means with a good answer made from the request."""


class Simulated:
    """A provider in this process: a `Call` that sleeps with asyncio, so it also works in virtual time.

    Limits, outages, changes, headers and the knee may be given in their words (`limits=["requests=1200/60"]`), whose
    seconds are counted from the first call; `max_concurrency` is short for one limit. The three steps of a call
    (`arrive`, `outcome`, `leave`) are synchronous, so that a server can do them without a task per call. `script`
    replaces latency, faults and answers.
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
        limits: Sequence[Quota | str] = (),
        headers: Notice | str = "plain",
        outages: Sequence[Outage | str] = (),
        changes: Sequence[Change | str] = (),
        knee: Knee | str | None = None,
    ) -> None:
        if isinstance(script, str) or (isinstance(script, Sequence) and not script):
            raise UsageError("A script is a list of at least one step.", hint='Write for example script=["positive"].')
        self.faults = faults or Faults()
        self.seed = seed
        self.script = script
        self.ledger = ledger or Ledger()
        self.notice = Notice.parse(headers) if isinstance(headers, str) else headers
        quotas = [Quota.parse(each) if isinstance(each, str) else each for each in limits]
        if max_concurrency is not None:
            quotas.append(Quota(unit=Unit.CONCURRENCY, limit=max_concurrency))
        self.door = Door(
            latency=latency if isinstance(latency, Latency) else Latency(latency),
            limits=quotas,
            outages=[Outage.parse(each) if isinstance(each, str) else each for each in outages],
            changes=[Change.parse(each) if isinstance(each, str) else each for each in changes],
            knee=Knee.parse(knee) if isinstance(knee, str) else knee,
        )
        self.clock: Callable[[], float] = _loop_s
        """Seconds from anywhere; the running loop's, which may be virtual, unless a server has a better one."""
        self.tells = self.notice.manner.always and self.door.limits_anything
        """Whether good answers say something about limits."""
        self._chances = tuple((fault, chance) for fault, chance in self.faults.table() if chance)
        self._by_chance = self.door.latency.by_chance or bool(self._chances)
        self._attempts: dict[bytes, int] = {}
        self._told: dict[str, Mapping[str, Any] | None] = {}
        self._makers: dict[int, tuple[Mapping[str, Any], Callable[[int], Any]]] = {}

    @classmethod
    def parse(cls, name: str) -> "Simulated":
        """What follows `sim:` in a model's name: nothing, or `latency=0.2,500=0.02,limit=requests=600/60,kind=bucket`.

        Its ledger keeps counts only, so that a run of any length stays within bounded memory.
        """
        given: dict[str, str] = {}
        repeated: dict[str, list[str]] = {word: [] for word in _REPEATED}
        for word, value in pairs(name, _WORDS, "The simulated provider", _PARTS):
            if word in given:
                raise UsageError(f"{word} is given twice in {name!r}.", hint="Give it once.")
            if word in repeated:
                repeated[word].append(value)
            else:
                given[word] = value
        latency = Latency.parse(given.get("latency", "0"))
        slots = given.get("max_concurrency")
        return cls(
            latency=latency.with_tail(given["tail"]) if "tail" in given else latency,
            seed=whole("seed", given.get("seed", "0")),
            max_concurrency=None if slots is None else whole("max_concurrency", slots),
            faults=Faults.of({word: value for word, value in given.items() if word in FAULT_WORDS}),
            ledger=Ledger(per_item=False),
            limits=repeated["limit"],
            headers=given.get("headers", "plain"),
            outages=repeated["outage"],
            changes=repeated["change"],
            knee=given.get("knee"),
        )

    @property
    def latency(self) -> Latency:
        return self.door.latency

    async def __call__(self, request: Request) -> Reply:
        visit = self.arrive(request)
        try:
            if visit.ending is Fault.HANG:
                await asyncio.get_running_loop().create_future()
            if visit.latency_s or not _refused(visit):
                await asyncio.sleep(visit.latency_s)
            reply = self.outcome(visit)
        except BaseException as error:
            self.leave(visit, status_of(visit, error))
            raise
        if self.tells:
            clock_s = self.clock()
            hints = self.notice.hints(self.door.levels(clock_s), _WALL_S + self.door.now_s(clock_s))
            reply = msgspec.structs.replace(reply, hints=hints)
        self.leave(visit, "200", paid=reply)
        return reply

    def arrive(self, request: Request) -> Visit:
        """A call comes in: count it and decide what will become of it."""
        visit = Visit(request)
        door, in_flight = self.door, self.ledger.in_flight
        if door.watched:
            allowed = most_output(request) or 0
            visit.ending = door.stop(self.clock(), in_flight, visit.asked, allowed)
        if visit.ending is None:
            if self.script is not None:
                self._follow_script(visit)
            elif self._by_chance:
                attempt = self._attempt(visit.prompt)
                plan = decide(door.latency, self._chances, seed=self.seed, prompt=visit.prompt, attempt=attempt)
                visit.latency_s, visit.ending = plan.latency_s, plan.fault
            else:
                visit.latency_s = door.latency.median_s
            if door.knee is not None:
                visit.latency_s *= door.stretch(in_flight + 1)
        self.ledger.arrived()
        return visit

    def outcome(self, visit: Visit) -> Reply:
        """The reply of a visit whose time has come, or the error it ends in, raised."""
        ending = visit.ending
        if ending is None or isinstance(ending, Reply):
            reply = self._answer(visit) if ending is None else ending
            if self.door.charges_usage:
                self.door.produced(self.clock(), reply.output_tokens or 0)
            return reply
        if isinstance(ending, HeadraceError):
            raise copy.copy(ending)  # one instance raised again and again would gather tracebacks
        wall_s = _WALL_S + self.door.now_s(self.clock())
        if (told := self.told(visit, wall_s)) is not None:
            raise told.error(wall_s)
        raise Transient(_UNTOLD.get(ending, _NO_COMPLETION), hint="Run again: it may have been a passing fault.")

    def told(self, visit: Visit, wall_s: float, notice: Notice | None = None) -> Answer | None:
        """The answer of a visit that ends in a refusal or in a fault that is told, in the words of `notice` or its own;
        None for any other."""
        notice = notice or self.notice
        ending = visit.ending
        if ending is Fault.THROTTLED_429:
            ending = Refusal()
        if isinstance(ending, Refusal):
            levels, model = self.door.levels(self.clock()), visit.request.model or MODEL
            return notice.refuse(ending, levels, model=model, wall_s=wall_s, else_s=self.faults.retry_after_s)
        return notice.fault(ending) if isinstance(ending, Fault) else None

    def lines(self, wall_s: float, notice: Notice | None = None) -> str:
        """What the headers of a good answer say now about limits."""
        return (notice or self.notice).lines(self.door.levels(self.clock()), wall_s)

    def books(self, *, items: bool = True) -> dict[str, Any]:
        """The ledger, and what each limit saw."""
        return {"limits": self.door.quotas.as_json(), **self.ledger.as_json(items=items)}

    def reset(self) -> None:
        """Forget all but the calls in flight: attempts, counts and charges; time begins with the next call."""
        self.ledger.reset()
        self._attempts.clear()
        self.door.reset()

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
        schema = request.schema if request.schema is not None else self._told_schema(request)
        if schema is not None:
            value = self._maker(schema)(int.from_bytes(prompt[:8], "little"))
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

    def _told_schema(self, request: Request) -> Mapping[str, Any] | None:
        """The JSON schema that the first message asks an answer to satisfy, as a model would read it there."""
        text = request.messages[0].content if request.messages else ""
        _, found, rest = text.partition("satisfies this JSON schema")
        if not found:
            return None
        if rest not in self._told:
            if len(self._told) >= _KEPT_SCHEMAS:
                self._told.clear()
            try:
                schema = msgspec.json.decode(rest[rest.find("{") : rest.rfind("}") + 1])
            except msgspec.DecodeError:
                schema = None
            self._told[rest] = schema if isinstance(schema, dict) else None
        return self._told[rest]

    def _replied(self, visit: Visit, text: str) -> Reply:
        """A reply with this text, cut off where the request's maximum output is smaller."""
        request = visit.request
        finish: Finish = "stop"
        output_tokens = tokens(len(text))
        allowed = most_output(request)
        if allowed is not None and allowed < output_tokens:
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


def _refused(visit: Visit) -> bool:
    return isinstance(visit.ending, Refusal) or (isinstance(visit.ending, Fault) and visit.ending in AT_ONCE)


def _loop_s() -> float:
    return asyncio.get_running_loop().time()


def most_output(request: Request) -> int | None:
    """The maximum output that the request names."""
    params = request.params
    if not params:
        return None
    most = params.get("max_completion_tokens", params.get("max_tokens"))
    return most if isinstance(most, int) else None


def tokens(characters: int) -> int:
    """About four characters to a token, and at least one."""
    return max(1, -(-characters // _CHARACTERS_PER_TOKEN))


def status_of(visit: Visit, error: BaseException | None = None) -> str:
    """The ledger's word for a call that ended without an answer; `gone` where the client left."""
    ending = visit.ending
    if isinstance(ending, Fault | Refusal) and (error is None or ending is Fault.HANG or isinstance(error, CallError)):
        return ending.value if isinstance(ending, Fault) else "429"
    if isinstance(error, HeadraceError):
        return str(getattr(error, "status", None) or error.kind)
    return "gone"
