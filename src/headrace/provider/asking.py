"""A dialect over HTTP as a Call. What is the same for every provider: sending, secrets kept out of what comes back, limits
read from the answer, and the next best means where a provider refuses one."""

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec

from headrace.core.call import Call, Reply, Request
from headrace.core.errors import CallError, Rejected, Unsupported
from headrace.provider.dialect import Dialect, Means, encoder, lower
from headrace.provider.hints import hints_of
from headrace.provider.http import Http
from headrace.provider.picture import contents
from headrace.provider.secret import without_quotes
from headrace.provider.verdict import error_of

_LEAST_SECRET = 8
"""Characters of the shortest part of a header that is taken for a secret."""
_ABOUT_TYPE = re.compile(
    r"response_format|response format|json_schema|json schema|structured[ _]output|output_config|output_format|tool_choice"
    r"|\btools?\b|response_?(?:json_?)?schema|response_?mime_?type|json[ _]mode|json_object|text\.format|\bgrammar\b",
    re.IGNORECASE,
)


def call_of(
    dialect: Dialect,
    http: Http,
    *,
    base_url: str,
    api_key: str | None = None,
    headers: Mapping[str, str] = {},
    auth: Mapping[str, str] = {},
    means: Sequence[Means] = (Means.SCHEMA,),
) -> Call:
    """A Call that asks the provider at `base_url`.

    `auth` are the headers that carry `api_key`; `headers` are the user's own, and go before it. `means` are the ways to
    tell the answer's type, the best first: where one is refused, the next is taken for all calls that follow.
    """
    base = base_url.rstrip("/")
    sent = {"Content-Type": "application/json", "User-Agent": "headrace", **auth, **headers}
    secrets = _secrets(api_key, headers)
    best = 0

    async def call(request: Request) -> Reply:
        nonlocal best
        now = best
        path, body = dialect.encode(request, means[now], await contents(request))
        status, told, answer = await http.post(base + path, body, sent)
        with suppress(CallError):
            return reply_of(dialect, status, told, answer)
        try:  # some servers quote the key they refuse: the same again, without it
            return reply_of(dialect, status, told, _without(secrets, answer))
        except CallError as error:
            _unquote(error, request)
            of_type = isinstance(error, Rejected) and _ABOUT_TYPE.search(error.message)
            if request.schema is None or now + 1 == len(means) or not of_type:
                raise
            best = max(best, now + 1)
            raise Unsupported(error.message, hint=error.hint, status=error.status, hints=error.hints) from error

    return call


def reply_of(dialect: Dialect, status: int, headers: Mapping[str, str], body: bytes) -> Reply:
    """The reply in an answer, with what the answer says about limits; raises the CallError behind any other."""
    if status != 200:
        raise error_of(status, lower(headers), body, time.time())
    return msgspec.structs.replace(dialect.decode(headers, body), hints=hints_of(headers, None, time.time()))


def _unquote(error: CallError, request: Request) -> None:
    """Take out of the message what the provider repeats of the prompt: messages are shown, and end in logs."""
    error.message = without_quotes(error.message, [message.content for message in request.messages])
    error.args = (error.message,)


def _without(secrets: list[bytes], body: bytes) -> bytes:
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        body = encoder.encode(msgspec.json.decode(body))  # JSON can write the same text in many ways
    for secret in secrets:
        body = body.replace(secret, b"***")
    return body


def _secrets(api_key: str | None, headers: Mapping[str, str]) -> list[bytes]:
    """What must not be told again, the longest first: a header's value, and each of its words (`Bearer KEY`)."""
    values = [api_key or "", *headers.values()]
    words = {word for value in values for word in (value, *value.split()) if len(word) >= _LEAST_SECRET}
    forms = {form for word in words for form in (word, msgspec.json.encode(word).decode()[1:-1])}
    return sorted((form.encode() for form in forms), key=len, reverse=True)
