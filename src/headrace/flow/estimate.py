"""What a call costs, before it is sent. Enters sizes of requests and what replies said they took, leaves costs.

Rules of this file:

1. Tokens in are a constant (what the provider adds to a message, a schema), and so many a character. Both are
   fitted to the replies by least squares of the relative error, each reply counting for 2 % at least, so that old ones
   fade; text that is mostly ASCII and other text are fitted apart. To begin with: 4 a message, 0.30 tokens a character,
   or 0.75 (English takes 0.20 to 0.30, Cyrillic 0.3 to 0.5, Chinese and Japanese 0.6 to 1.2).
   A picture takes what is left of the tokens of calls with pictures, in the mean of as many; 800 to begin with.
2. Tokens out are 512 until 20 replies came, then the 90th percentile of the last 200; never more than the maximum output
   that the request asks for.
3. How a provider charges that is the `Charge`. OpenAI counts the larger of the maximum output and its own estimate when
   a call comes in, and gives nothing back; others count what was used.
"""

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from headrace.core.call import Request
from headrace.core.limits import Cost

A_MESSAGE = 4.0
AN_IMAGE = 800.0
"""OpenAI takes 85 to some 1,500 for a picture by its size, Anthropic up to 1,600, Gemini 258 a tile."""
A_CHARACTER = {True: 0.30, False: 0.75}
"""By whether the text is mostly ASCII."""
MOSTLY_BYTES = 1.25
"""UTF-8 bytes per character of text that is mostly ASCII, at most."""
LEAST_WEIGHT = 0.02
OUTPUT = 512.0
OUTPUT_SHARE = 0.9
OUTPUT_LEAST, OUTPUT_MEMORY = 20, 200
CERTAIN = 0.6
"""Of the tokens in that are estimated, so many are taken for certain: English takes two thirds of the estimate and more."""
CORRECTION = 0.3
"""How much of what one refusal shows is believed."""
MOST_TOKENS = 1e9
"""No reply took more; what says so is wrong."""
_MAXIMUM_OUTPUT = ("max_completion_tokens", "max_output_tokens", "max_tokens", "maxOutputTokens")


class Size(msgspec.Struct, frozen=True, gc=False):
    """What a request shows of its cost."""

    characters: int = 0
    messages: int = 0
    images: int = 0
    ascii: bool = True
    """Whether its text is mostly ASCII."""
    max_output: int | None = None

    @property
    def tokens(self) -> float:
        """Tokens in, as estimated before anything is learnt: equal sizes stay equal."""
        return A_MESSAGE * self.messages + AN_IMAGE * self.images + A_CHARACTER[self.ascii] * self.characters


def size_of(request: Request) -> Size:
    messages, params = request.messages, request.params
    most = max_output_of(params) if params else None
    if len(messages) == 1 and messages[0].content.isascii():
        return Size(len(messages[0].content), 1, len(messages[0].images), ascii=True, max_output=most)
    characters, mostly = _measure(message.content for message in messages)
    images = sum(len(message.images) for message in messages)
    return Size(characters, len(messages), images, mostly, most)


def _measure(texts: Iterable[str]) -> tuple[int, bool]:
    characters = others = 0
    for text in texts:
        characters += len(text)
        if not text.isascii():
            others += len(text.encode("utf-8", "surrogatepass")) - len(text)
    return characters, others <= (MOSTLY_BYTES - 1) * characters


def max_output_of(params: Mapping[str, Any]) -> int | None:
    """The most tokens out that these parameters of a request allow, whatever the provider calls that."""
    for name in _MAXIMUM_OUTPUT:
        most = params.get(name)
        if isinstance(most, int) and not isinstance(most, bool) and most > 0:
            return most
    return None


class Charge(msgspec.Struct, frozen=True, gc=False):
    """How a provider charges tokens against its limits.

    "admission": when a call comes in, the larger of its maximum output and all that it is expected to take; nothing is
    given back. "usage": what it used.
    """

    at: Literal["admission", "usage"] = "admission"
    cached_free: bool = False
    """Whether tokens in that were cached are not charged (Anthropic, Groq)."""

    def reserved(self, input_tokens: float, output_tokens: float, max_output: int | None) -> Cost:
        """What to hold before the call."""
        tokens = input_tokens + output_tokens
        if self.at == "admission" and max_output is not None:
            tokens = max(tokens, max_output)
        return Cost(tokens, input_tokens, output_tokens)

    def charged(
        self, reserved: Cost, input_tokens: int | None, output_tokens: int | None, cached_tokens: int | None = None
    ) -> Cost:
        """What it came to. What a reply does not tell, or cannot mean, is taken to be what was reserved."""
        into = _sound(input_tokens, reserved.input_tokens)
        if self.cached_free:
            into -= min(into, _sound(cached_tokens, 0.0))
        out = _sound(output_tokens, reserved.output_tokens)
        if self.at == "usage":
            return Cost(into + out, into, out, reserved.least)
        return Cost(
            max(reserved.tokens, into + out),
            max(reserved.input_tokens, into),
            max(reserved.output_tokens, out),
            reserved.least,
        )


ADMISSION = Charge("admission")
"""The safe one, where nothing is known of a provider."""


def _sound(tokens: float | None, otherwise: float) -> float:
    return tokens if tokens is not None and 0 <= tokens <= MOST_TOKENS else otherwise


class Estimator:
    """For the calls of one task."""

    def __init__(self, charge: Charge = ADMISSION) -> None:
        self.charge = charge
        self._input = {kind: _Line(each) for kind, each in A_CHARACTER.items()}
        self._an_image = AN_IMAGE
        self._with_images = 0
        self._outputs: deque[float] = deque()
        self._sorted: list[float] = []
        self._scale = 1.0
        """What the provider counts, by its own word, for one token of ours."""

    def cost(self, size: Size) -> Cost:
        """What to reserve for a call."""
        into = self._text(size) + self._an_image * size.images
        cost = self.charge.reserved(into, self._output(size.max_output), size.max_output)
        return Cost(cost.tokens * self._scale, cost.input_tokens, cost.output_tokens, CERTAIN * into)

    def correct(self, reserved: Cost, tokens: float) -> None:
        """A refusal said what the provider counts for a call that these tokens were reserved for."""
        if reserved.tokens > 0 and 0 < tokens <= MOST_TOKENS:
            ratio = min(max(tokens / reserved.tokens, 0.5), 2.0)
            self._scale *= 1.0 + CORRECTION * (ratio - 1.0)

    def charged(
        self, reserved: Cost, input_tokens: int | None, output_tokens: int | None, cached_tokens: int | None = None
    ) -> Cost:
        """What to settle for a call that was answered."""
        return self.charge.charged(reserved, input_tokens, output_tokens, cached_tokens)

    def learn(self, size: Size, input_tokens: int | None, output_tokens: int | None) -> None:
        """A call was answered and said what it took."""
        if input_tokens is not None and 0 < input_tokens <= MOST_TOKENS:
            if size.images:
                self._with_images += 1
                each = max(0.0, input_tokens - self._text(size)) / size.images
                self._an_image += max(LEAST_WEIGHT, 1.0 / self._with_images) * (each - self._an_image)
            elif size.characters > 0:
                self._input[size.ascii].learn(size.characters, input_tokens)
        if output_tokens is not None and 0 <= output_tokens <= MOST_TOKENS:
            self._outputs.append(output_tokens)
            insort(self._sorted, output_tokens)
            if len(self._outputs) > OUTPUT_MEMORY:
                del self._sorted[bisect_left(self._sorted, self._outputs.popleft())]

    def _text(self, size: Size) -> float:
        line = self._input[size.ascii]
        return line.at(size.characters) + (0.0 if line.learnt else A_MESSAGE * size.messages)

    def _output(self, max_output: int | None) -> float:
        count = len(self._sorted)
        out = OUTPUT if count < OUTPUT_LEAST else self._sorted[math.ceil(OUTPUT_SHARE * count) - 1]
        return out if max_output is None else min(out, max_output)


class _Line:
    """y = constant + slope * x, fitted to y / x = slope + constant / x."""

    __slots__ = ("_constant", "_count", "_slope", "_u", "_uu", "_uv", "_v")

    def __init__(self, slope: float) -> None:
        self._slope = slope
        self._constant = 0.0
        self._count = 0
        self._u = self._v = self._uu = self._uv = 0.0
        """Means of u = 1 / x and v = y / x, and their sums of squares and products around them."""

    @property
    def learnt(self) -> bool:
        return self._count > 0

    def at(self, x: float) -> float:
        return self._constant + self._slope * x

    def learn(self, x: float, y: float) -> None:
        self._count += 1
        weight = max(LEAST_WEIGHT, 1.0 / self._count)
        u, v = 1.0 / x, y / x
        du, dv = u - self._u, v - self._v
        self._u += weight * du
        self._v += weight * dv
        self._uu = (1 - weight) * (self._uu + weight * du * du)
        self._uv = (1 - weight) * (self._uv + weight * du * dv)
        self._fit()

    def _fit(self) -> None:
        """Neither part is negative; where all sizes are about equal, it is all slope."""
        constant = 0.0
        if self._uu > 1e-3 * self._u * self._u:
            constant = min(max(0.0, self._uv / self._uu), self._v / self._u)
        self._constant = constant
        self._slope = max(0.0, self._v - constant * self._u)
