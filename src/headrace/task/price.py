"""What a model's calls cost: the prices that genai-prices brings along, or those of a person's own file.

Enters a model's name, leaves a Price, or None with the reason where none is known: an unknown price is never 0. Opens no
file and looks at no clock; looked up once a run, as loading all prices takes a moment.
"""

import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from headrace.core.errors import UsageError

A_MILLION = 1e6
BUNDLED = "genai-prices"
_CONTEXT = ("service_tier", "speed")
"""Parameters of a request that choose another price."""
_NO_DEARER = frozenset({"auto", "default", "standard", "standard_only", "on_demand", "flex"})
"""Values of these for which the usual price is enough where no other is known."""
_HINT = "Give its price in a file: --prices FILE (prices=)."


class Rate(msgspec.Struct, frozen=True, gc=False):
    """Dollars per million tokens, of calls with more than `above` tokens in."""

    above: int
    input: float
    cached: float
    """Tokens in that the provider had cached."""
    written: float
    """Tokens in that it puts into its cache."""
    output: float
    reasoning: float
    """Tokens out that the model thought with."""

    @property
    def dearest_input(self) -> float:
        return max(self.input, self.cached, self.written)

    @property
    def dearest_output(self) -> float:
        return max(self.output, self.reasoning)


class Price(msgspec.Struct, frozen=True):
    """Of one model. The rate is that of the highest tier that all tokens in together reach, and holds for all of them."""

    rates: tuple[Rate, ...]
    """By `above`, the lowest first: that one holds for any call."""
    call: float = 0.0
    """Dollars for each call besides."""
    source: str = ""
    """Who says so."""
    note: str = ""
    """What a person should know of it."""

    @property
    def is_free(self) -> bool:
        return not self.call and not any(rate.dearest_input or rate.dearest_output for rate in self.rates)

    def usd(
        self,
        input_tokens: int | None,
        output_tokens: int | None,
        cached_tokens: int | None = None,
        reasoning_tokens: int | None = None,
        written_tokens: int | None = None,
    ) -> float | None:
        """What a call came to. Cached and written tokens are a part of those in, reasoning ones of those out. None where
        the answer did not tell what it took."""
        if input_tokens is None or output_tokens is None or input_tokens < 0 or output_tokens < 0:
            return 0.0 if self.is_free else None
        rate = self.rates[0]
        for each in self.rates[1:]:
            if input_tokens <= each.above:
                break
            rate = each
        usd = input_tokens * rate.input + output_tokens * rate.output
        if cached_tokens:
            usd += _part(cached_tokens, input_tokens) * (rate.cached - rate.input)
            input_tokens -= _part(cached_tokens, input_tokens)
        if written_tokens:
            usd += _part(written_tokens, input_tokens) * (rate.written - rate.input)
        if reasoning_tokens:
            usd += _part(reasoning_tokens, output_tokens) * (rate.reasoning - rate.output)
        return self.call + usd / A_MILLION

    def worst(self, input_tokens: float, output_tokens: float) -> float:
        """The most that a call of at most so many tokens may cost: nothing cached, all written into the cache where that
        costs more, all output at its dearest, the dearest tier that it may reach."""
        reached = [rate for rate in self.rates[1:] if rate.above < input_tokens]
        usd = max(
            input_tokens * rate.dearest_input + output_tokens * rate.dearest_output
            for rate in (self.rates[0], *reached)
        )
        return self.call + usd / A_MILLION


FREE = Price((Rate(0, 0.0, 0.0, 0.0, 0.0, 0.0),), source="the local model")
"""What runs on this machine is not charged for."""


class Priced(msgspec.Struct, frozen=True):
    """A price, or why there is none."""

    price: Price | None = None
    reason: str = ""
    """A sentence to be told; empty where there is nothing to tell."""


def _part(tokens: int, of: int) -> int:
    return min(max(tokens, 0), of)


class _Tier(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    above: int
    input: float
    output: float
    cached_input: float | None = None
    cache_write: float | None = None


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """One model in a price file."""

    input: float
    output: float
    cached_input: float | None = None
    cache_write: float | None = None
    call: float = 0.0
    batch: float = 1.0
    """What a batch costs, as a share of all this."""
    tiers: tuple[_Tier, ...] = ()


class Prices:
    """A person's own prices, by model: PROVIDER:NAME, in which `*` stands for anything."""

    def __init__(self, entries: Mapping[str, _Entry], source: str) -> None:
        self._entries = entries
        self._source = source

    def find(self, spec: str, *, batch: bool = False) -> Price | None:
        """Of this model; the longest name that fits counts."""
        entry = self._entries.get(spec)
        if entry is None:
            fitting = [name for name in self._entries if "*" in name and _fits(name, spec)]
            if not fitting:
                return None
            entry = self._entries[max(fitting, key=len)]
        times = entry.batch if batch else 1.0
        base = _Tier(0, entry.input, entry.output, entry.cached_input, entry.cache_write)
        tiers = sorted(entry.tiers, key=lambda tier: tier.above)
        return Price(tuple(_rate(tier, times) for tier in (base, *tiers)), call=entry.call * times, source=self._source)


def _fits(pattern: str, spec: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), spec, re.DOTALL) is not None


def _rate(tier: _Tier, times: float) -> Rate:
    cached = tier.input if tier.cached_input is None else tier.cached_input
    written = tier.input if tier.cache_write is None else tier.cache_write
    return Rate(
        tier.above, tier.input * times, cached * times, written * times, tier.output * times, tier.output * times
    )


def prices_of(told: Mapping[str, Any], source: str) -> Prices:
    """From what a price file holds. Raises UsageError, which names the model."""
    entries: dict[str, _Entry] = {}
    for name, each in told.items():
        if not name.partition(":")[0] or (":" not in name and name not in ("local", "sim", "*")):
            raise UsageError(
                f"{source}: {name!r} is no model.", hint='Write a table for each: ["openai:gpt-5-nano"], and below it input = 0.05.'
            )  # fmt: skip
        try:
            entry = msgspec.convert(each, _Entry)
        except msgspec.ValidationError as error:
            raise UsageError(
                f"{source}, {name}: {error}.",
                hint="It takes input, output, cached-input and cache-write (dollars per million tokens), call (dollars a "
                "call), batch (a share) and tiers, each with above (tokens).",
            ) from None
        amounts = [entry.call, entry.batch, *(amount for tier in (entry, *entry.tiers) for amount in _amounts(tier))]
        if not all(math.isfinite(amount) and amount >= 0 for amount in amounts):
            raise UsageError(f"{source}, {name}: a price is below 0 or endless.", hint="Give numbers from 0 up.")
        if any(tier.above < 1 for tier in entry.tiers) or len({tier.above for tier in entry.tiers}) < len(entry.tiers):
            raise UsageError(
                f"{source}, {name}: its tiers do not begin above different numbers of tokens.",
                hint="Give each its own above, from 1 up.",
            )
        entries[name] = entry
    return Prices(entries, source)


def _amounts(tier: Any) -> Iterable[float]:
    each = (tier.input, tier.output, tier.cached_input, tier.cache_write)
    return (amount for amount in each if amount is not None)


def bundled(
    model: str, base_url: str, at: datetime, *, params: Mapping[str, Any] | None = None, batch: bool = False
) -> Priced:
    """The price that genai-prices knows for this model at this address and moment; `params` are those of the requests."""
    from genai_prices import Usage, calc_price  # noqa: PLC0415 - it is slow to import

    context = {name: value for name, value in (params or {}).items() if name in _CONTEXT and isinstance(value, str)}
    if batch:
        context["processing"] = "batch"
    try:
        found = calc_price(Usage(), model, provider_api_url=base_url, genai_request_timestamp=at, price_context=context)
    except LookupError:
        return Priced(None, f"No price is known for {model} at {base_url}: what it costs is not counted. {_HINT}")
    known = [variant.when for variant in found.model.price_variants or ()]
    for name, value in context.items():
        if value not in _NO_DEARER and {name: value} not in known:
            return Priced(
                None, f"No price is known for {model} with {name} {value}: what it costs is not counted. {_HINT}"
            )
    hours = _by_the_hour(found.model, at, context)
    made = [each for each in map(_price, hours or [found.model_price]) if each is not None]
    if not made:
        return Priced(None, f"No price of tokens is known for {model}: what it costs is not counted. {_HINT}")
    dearest = max(made, key=lambda price: price.worst(1.0, 1.0))
    if any(each != dearest for each in made):
        note = f"The price of {model} depends on the time of day: the dearest is counted."
        dearest = msgspec.structs.replace(dearest, note=note)
    return Priced(dearest, dearest.note)


def _by_the_hour(model: Any, at: datetime, context: Mapping[str, str]) -> list[Any]:
    """The prices of a whole day, where they depend on its time: each holds from where another begins or ends."""
    prices = model.prices if isinstance(model.prices, list) else []
    hours = [each.constraint for each in prices if hasattr(each.constraint, "start_time")]
    turns = {(time.hour, time.minute, time.second) for each in hours for time in (each.start_time, each.end_time)}
    return [
        model.get_prices(at.replace(hour=hour, minute=minute, second=second), context) for hour, minute, second in turns
    ]


def _price(told: Any) -> Price | None:
    """As we keep it; None where it has none for text in or none for text out."""
    if told.input_mtok is None or told.output_mtok is None:
        return None
    names = ("input_mtok", "cache_read_mtok", "cache_write_mtok", "output_mtok", "output_reasoning_mtok")
    amounts = [getattr(told, name) for name in names]
    starts = sorted({tier.start for amount in amounts for tier in getattr(amount, "tiers", ())})
    rates = []
    for above in (-1, *starts):
        into, cached, written, out, reasoning = (_at(amount, above) for amount in amounts)
        if into is None or out is None:
            return None
        rates.append(
            Rate(
                max(above, 0), into, into if cached is None else cached, into if written is None else written, out,
                out if reasoning is None else reasoning,
            )
        )  # fmt: skip
    calls = _at(told.requests_kcount, -1)
    return Price(tuple(rates), call=(calls or 0.0) / 1000, source=BUNDLED)


def _at(amount: Any, above: int) -> float | None:
    """What holds for calls with more than `above` tokens in."""
    if amount is None or isinstance(amount, Decimal):
        return None if amount is None else float(amount)
    reached = [tier.price for tier in amount.tiers if tier.start <= above]
    return float(reached[-1] if reached else amount.base)
