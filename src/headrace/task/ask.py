"""A question to a model about every item. Enters items and replies, leaves requests and values."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from headrace.core.call import Image, Message, Reply, Request
from headrace.core.digest import Digest, digest_of
from headrace.core.errors import AnswerError, Filtered, ItemError, Refusal, Truncated, UsageError
from headrace.core.item import Item, extended
from headrace.task.agree import agreed
from headrace.task.prompt import Template, columns_of
from headrace.task.schema import Returns, checked

REQUEST_FORM = 1
"""Version of the bytes a digest is taken over; a change makes every stored answer a stranger."""
ANSWER = "answer"
"""The column of an answer without fields."""

_SHOWN_AGAIN = 20_000
"""Characters of a wrong answer that are shown to the model again."""


class AskTask:
    """One prompt template, asked of one model at one endpoint.

    A request's digest is SHA-256 over two parts: the digest of all that is the same for every item, and the item's
    text. The template is no part of it, only what it makes: a prompt reworded for some items pays only for those.
    """

    reusable = True

    def __init__(
        self,
        template: Template,
        *,
        endpoint: tuple[str, str],
        model: str,
        system: str | None = None,
        returns: Returns | None = None,
        params: Mapping[str, Any] | None = None,
        images: tuple[str, ...] = (),
        samples: int = 1,
        cap: Mapping[str, int] | None = None,
    ) -> None:
        """`endpoint` is the provider's name and its base URL; `images` the columns whose pictures go with the prompt.
        `cap` is a maximum output that nobody asked for: it is sent, and is no part of a request's identity."""
        self._template = template
        self._system = (Message("system", system),) if system else ()
        self._returns = returns
        self._model = model
        self._params = dict(params or {})
        self._cap = dict(cap or {})
        self._sent = {**self._params, **self._cap}
        self._schema = returns.schema if returns else None
        self._images = images
        same = {
            "form": REQUEST_FORM, "endpoint": endpoint, "model": model, "system": system, "params": self._params,
            "schema": self._schema, "sample": 0,
        }  # fmt: skip
        self.samples = samples
        self.same = len(system or "") + template.same
        """Characters that stand first and are the same for every item."""
        try:
            self._prefixes = [digest_of({**same, "sample": sample}) for sample in range(samples)]
        except TypeError as error:
            raise UsageError(
                f"The parameters cannot be sent ({error}).", hint="Give values that JSON can hold."
            ) from None
        self._checked = False
        more = {**({"images": images} if images else {}), **({"samples": samples} if samples > 1 else {})}
        self.digest: Digest = digest_of(
            {"task": "ask", "prefix": self._prefixes[0].hex(), "template": template.text, **more}
        )

    @property
    def is_text(self) -> bool:
        """Whether its answers are text, of no other type."""
        return self._returns is None

    def request(self, item: Item, sample: int = 0) -> Request:
        if not self._checked:  # before any call: a name wrong for the first item is a mistake in the template
            self._template.check(columns_of(item.data), needed=not self._images)
            self._checked = True
        images = item.images if self._images else ()
        for image in images:
            if image.wrong:
                raise ItemError(image.wrong, hint="The other items go on without it.")
        if self._template.is_empty(item.data) and not images:
            raise ItemError("Every column that the prompt names is empty.", hint="There is nothing to ask about here.")
        text = self._template.fill(item.data)
        try:
            identity = Digest(sha256(self._prefixes[sample] + text.encode() + _identity(images)).digest())
        except UnicodeEncodeError:
            raise ItemError("The item holds text that is no Unicode.", hint="Mend the input's encoding.") from None
        return Request(
            identity,
            model=self._model,
            messages=(*self._system, Message("user", text, images)),
            params=self._sent,
            schema=self._schema,
            strict=self._returns is not None and self._returns.strict,
            same=self._template.same,
        )

    def failed(self, value: Any) -> None:
        """What failed is no value."""

    def onward(self, item: Item, value: Any) -> Item:
        return extended(item, value, ANSWER)

    def value(self, reply: Reply) -> Any:
        if reply.finish == "filter":
            raise Filtered("The provider's content filter stopped the answer.", hint="Asking again will not help.")
        if reply.finish == "refusal":
            raise Refusal("The model refused to answer.", hint="What it said is kept with the item.", raw=reply.text)
        capped = reply.finish == "length" and self._cap and not reply.cached  # what is stored was made without it
        if self._returns is None:
            if capped:
                raise self._cut_by_cap(reply)
            if not reply.text.strip() and reply.finish == "length":
                raise Truncated(
                    "The maximum output was used up before the answer began.", hint="Allow more with --max-tokens."
                )
            if not reply.text.strip():
                raise AnswerError("The answer is empty.", hint="Ask for a longer answer, or use another model.")
            return reply.text
        cut = reply.finish == "length"
        try:
            return checked(self._returns, reply.text, mend=not cut)  # what is cut off could be mended into less
        except AnswerError:
            if not cut:
                raise
            if capped:
                raise self._cut_by_cap(reply) from None
            raise Truncated(
                "The answer was cut off at the maximum output.", hint="Allow more with --max-tokens.", raw=reply.text
            ) from None

    def _cut_by_cap(self, reply: Reply) -> Truncated:
        return Truncated(
            f"The answer was cut off at {max(self._cap.values()):,} tokens, which headrace set because there is a budget.",
            hint="Say yourself how long it may be, with --max-tokens (max_tokens=).", raw=reply.text,
        )  # fmt: skip

    def again(self, request: Request, reply: Reply, error: AnswerError) -> Request | None:
        """With what came and what is wrong with it; not where the model declined, or was cut off."""
        if self._returns is None or isinstance(error, Truncated | Refusal):
            return None
        correction = (
            f"{error.message} Answer again, with one JSON object that satisfies the schema, and with nothing else."
        )
        said = (Message("assistant", reply.text.strip()[:_SHOWN_AGAIN] or "(nothing)"), Message("user", correction))
        return msgspec.structs.replace(request, messages=(*request.messages, *said), same=0)

    def agreed(self, values: Sequence[Any]) -> tuple[int, float]:
        return agreed(values)


def _identity(images: tuple[Image, ...]) -> bytes:
    """What is known of pictures without their names: a file by its content, an address by its letters."""
    known = [image.digest or sha256(image.source.encode()).digest() for image in images]
    return b"".join([b"\0image\0" + each for each in known])
