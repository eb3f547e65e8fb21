"""What goes from stage to stage: an item, what the last stage made of it, and what it took so far. Values only."""

from typing import Any, NamedTuple, TypeVar

from headrace.core.call import Reply
from headrace.core.errors import HeadraceError
from headrace.core.item import Item, Outcome, failure_of

N = TypeVar("N", int, float)


class Took(NamedTuple):
    """What the stages took for one item."""

    attempts: int = 0
    seconds: float = 0.0
    input_tokens: int | None = None
    output_tokens: int | None = None
    usd: float | None = None
    cached: bool = True
    """Whether nothing was asked: all of it came from the store."""

    def and_then(self, later: "Took") -> "Took":
        return Took(
            self.attempts + later.attempts, self.seconds + later.seconds, total(self.input_tokens, later.input_tokens),
            total(self.output_tokens, later.output_tokens), total(self.usd, later.usd), self.cached and later.cached,
        )  # fmt: skip


NOTHING = Took()


class Passage(NamedTuple):
    item: Item
    """As the next stage gets it."""
    source: Item
    """The source's item that it was made of."""
    took: Took | None = None
    """None where no stage was asked anything for it yet."""
    before: Item | None = None
    """As the last stage got it that made a value; None where none did."""
    value: Any = None
    """That value."""
    samples: tuple[Any, ...] = ()
    agreement: float | None = None


def total(first: N | None, second: N | None) -> N | None:
    """Their sum, as far as they are known."""
    return second if first is None else first if second is None else first + second


def took_of(reply: Reply) -> Took:
    return Took(
        reply.attempts, reply.seconds, reply.input_tokens, reply.output_tokens, reply.usd, reply.cached
    )  # fmt: skip


def took_of_failure(error: HeadraceError) -> Took:
    paid = error.reply
    return Took(
        error.attempts, paid.seconds if paid else 0.0, paid.input_tokens if paid else None,
        paid.output_tokens if paid else None, paid.usd if paid else None, cached=paid.cached if paid else False,
    )  # fmt: skip


def finished(passage: Passage, stage: str) -> Outcome:
    """The outcome of what has passed the last stage."""
    took, item = passage.took or NOTHING, passage.before or passage.item
    return Outcome(
        key=item.key, position=item.position, item=item.data, value=passage.value, attempts=took.attempts,
        seconds=round(took.seconds, 4), usd=_cents(took.usd), cached=_is_served(passage), stage=stage,
        input_tokens=took.input_tokens, output_tokens=took.output_tokens, samples=passage.samples, agreement=passage.agreement,
    )  # fmt: skip


def _is_served(passage: Passage) -> bool:
    """Whether all that was asked for it came from the store."""
    return passage.took is not None and passage.took.cached


def _cents(usd: float | None) -> float | None:
    """Without what adding up fractions leaves behind."""
    return None if usd is None else round(usd, 10)


def failed(passage: Passage, error: HeadraceError, stage: str) -> Outcome:
    """The outcome of what failed at a stage; what the earlier ones took is part of it."""
    took = took_of_failure(error)
    took = took if passage.took is None else passage.took.and_then(took)
    item = passage.item
    return Outcome(
        key=item.key, position=item.position, item=item.data, error=failure_of(error), stage=stage,
        attempts=took.attempts, seconds=took.seconds, usd=_cents(took.usd), input_tokens=took.input_tokens,
        output_tokens=took.output_tokens,
    )  # fmt: skip


def dropped(passage: Passage, reason: str, stage: str) -> Outcome:
    """The outcome of what a stage took out, though nothing failed."""
    took, item = passage.took or NOTHING, passage.item
    return Outcome(
        key=item.key, position=item.position, item=item.data, dropped=reason, stage=stage, attempts=took.attempts,
        seconds=took.seconds, usd=_cents(took.usd), cached=_is_served(passage), input_tokens=took.input_tokens,
        output_tokens=took.output_tokens,
    )  # fmt: skip
