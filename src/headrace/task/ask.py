"""A question to a model about every item. Enters items and replies, leaves requests and values."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from headrace.core.call import Image, Message, Reply, Request
from headrace.core.digest import Digest, digest_of
from headrace.core.errors import AnswerError, Filtered, ItemError, Refusal, Truncated, UsageError
from headrace.core.item import Item
from headrace.task.prompt import Template, columns_of
from headrace.task.schema import Returns, checked

REQUEST_FORM = 1
"""Version of the bytes a digest is taken over; a change makes every stored answer a stranger."""


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
    ) -> None:
        """`endpoint` is the provider's name and its base URL; `images` the columns whose pictures go with the prompt."""
        self._template = template
        self._system = (Message("system", system),) if system else ()
        self._returns = returns
        self._model = model
        self._params = dict(params or {})
        self._schema = returns.schema if returns else None
        self._images = images
        same = {
            "form": REQUEST_FORM, "endpoint": endpoint, "model": model, "system": system, "params": self._params,
            "schema": self._schema, "sample": 0,
        }  # fmt: skip
        try:
            self._prefix = digest_of(same)
        except TypeError as error:
            raise UsageError(
                f"The parameters cannot be sent ({error}).", hint="Give values that JSON can hold."
            ) from None
        self._checked = False
        seen = {"images": images} if images else {}
        self.digest: Digest = digest_of(
            {"task": "ask", "prefix": self._prefix.hex(), "template": template.text, **seen}
        )

    def request(self, item: Item) -> Request:
        if not self._checked:  # before any call: a name wrong for the first item is a mistake in the template
            self._template.check(columns_of(item.data), needed=not self._images)
            self._checked = True
        for image in item.images:
            if image.wrong:
                raise ItemError(image.wrong, hint="The other items go on without it.")
        if self._template.is_empty(item.data) and not item.images:
            raise ItemError("Every column that the prompt names is empty.", hint="There is nothing to ask about here.")
        text = self._template.fill(item.data)
        try:
            identity = Digest(sha256(self._prefix + text.encode() + _identity(item.images)).digest())
        except UnicodeEncodeError:
            raise ItemError("The item holds text that is no Unicode.", hint="Mend the input's encoding.") from None
        return Request(
            identity,
            model=self._model,
            messages=(*self._system, Message("user", text, item.images)),
            params=self._params,
            schema=self._schema,
            strict=self._returns is not None and self._returns.strict,
        )

    def value(self, reply: Reply) -> Any:
        if reply.finish == "filter":
            raise Filtered("The provider's content filter stopped the answer.", hint="Asking again will not help.")
        if reply.finish == "refusal":
            raise Refusal("The model refused to answer.", hint="What it said is kept with the item.", raw=reply.text)
        if self._returns is None:
            if not reply.text.strip() and reply.finish == "length":
                raise Truncated(
                    "The maximum output was used up before the answer began.", hint="Allow more with --max-tokens."
                )
            if not reply.text.strip():
                raise AnswerError("The answer is empty.", hint="Ask for a longer answer, or use another model.")
            return reply.text
        try:
            return checked(self._returns, reply.text)
        except AnswerError:
            if reply.finish != "length":
                raise
            raise Truncated(
                "The answer was cut off at the maximum output.", hint="Allow more with --max-tokens.", raw=reply.text
            ) from None


def _identity(images: tuple[Image, ...]) -> bytes:
    """What is known of pictures without their names: a file by its content, an address by its letters."""
    known = [image.digest or sha256(image.source.encode()).digest() for image in images]
    return b"".join([b"\0image\0" + each for each in known])
