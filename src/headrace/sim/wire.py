"""The OpenAI chat dialect as its server sees it: a body becomes a Request, a Reply or an error a body. Pure."""

import binascii
import time
from base64 import b64decode
from hashlib import sha256
from typing import Any

import msgspec

from headrace.core.call import Finish, Image, Message, Reply, Request, Role
from headrace.core.digest import Digest
from headrace.core.errors import (
    CallError,
    ContextTooLong,
    Credentials,
    Filtered,
    HeadraceError,
    ModelNotFound,
    Overloaded,
    QuotaExhausted,
    Rejected,
    Throttled,
    Transient,
)

ROLES: dict[str, Role] = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "assistant",
    "function": "assistant",
}  # fmt: skip
_FINISH: dict[Finish, str] = {
    "stop": "stop", "length": "length", "filter": "content_filter", "refusal": "stop", "tool": "tool_calls",
    "error": "error",
}  # fmt: skip
_KEPT_FORMATS = 64
_ONE = (None, 1)
NO_DIGEST = Digest(b"")


class NotServed(HeadraceError):
    """An HTTP error in OpenAI's shape."""

    def __init__(
        self, status: int, message: str, *, kind: str = "", param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = kind or ("server_error" if status >= 500 else "invalid_request_error")
        self.param = param
        self.code = code
        self.retry_after_s: float | None = None


class _Address(msgspec.Struct, gc=False):
    url: str


class _Part(msgspec.Struct, gc=False):
    text: str = ""
    image_url: _Address | None = None


class _Message(msgspec.Struct, gc=False):
    role: str
    content: str | list[_Part] | None = None


class _Settings(msgspec.Struct, gc=False, kw_only=True):
    model: str | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    response_format: msgspec.Raw = msgspec.Raw()
    stream: bool | None = None
    n: int | None = None


class _Plain(_Settings, gc=False, kw_only=True):
    """The common body, which needs no second look: known roles and texts."""

    messages: tuple[Message, ...]


class _Chat(_Settings, gc=False, kw_only=True):
    """Any body that the dialect allows."""

    messages: list[_Message] | None = None


class _SchemaFormat(msgspec.Struct):
    """What a response_format asks for: a schema, or any object."""

    schema: dict[str, Any] | None
    any_object: bool = False


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class _Answer(msgspec.Struct, gc=False):
    content: str | None
    role: str = "assistant"
    refusal: str | None = None


class _Choice(msgspec.Struct, gc=False):
    message: _Answer
    finish_reason: str
    index: int = 0
    logprobs: None = None


class _Completion(msgspec.Struct, gc=False):
    id: str
    created: int
    model: str
    choices: tuple[_Choice]
    usage: _Usage
    object: str = "chat.completion"


_plain_decoder = msgspec.json.Decoder(_Plain)
_decoder = msgspec.json.Decoder(_Chat)
_encoder = msgspec.json.Encoder()
_formats: dict[bytes, _SchemaFormat] = {}


def read(body: bytes) -> Request:
    """The request in a body; raises NotServed with what is wrong with it."""
    try:
        chat: _Settings = _plain_decoder.decode(body)
        messages = chat.messages if isinstance(chat, _Plain) else ()
    except msgspec.ValidationError:
        chat, messages = _read_any(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise NotServed(400, "We could not parse the JSON body of your request.") from None
    if not chat.model or not messages or chat.stream or chat.n not in _ONE:
        raise _lacking(chat, messages)
    params: dict[str, Any] = {}
    if chat.max_tokens is not None:
        params["max_tokens"] = _at_least_one("max_tokens", chat.max_tokens)
    if chat.max_completion_tokens is not None:
        params["max_completion_tokens"] = _at_least_one("max_completion_tokens", chat.max_completion_tokens)
    if not chat.response_format:
        return Request(NO_DIGEST, chat.model, messages, params)
    form = _format(bytes(chat.response_format))
    if form.any_object:
        params["response_format"] = {"type": "json_object"}
    return Request(NO_DIGEST, chat.model, messages, params, form.schema)


def _read_any(body: bytes) -> tuple[_Settings, tuple[Message, ...]]:
    try:
        chat = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise NotServed(400, f"Invalid request body: {error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise NotServed(400, "We could not parse the JSON body of your request.") from None
    return chat, tuple([_message(message, position) for position, message in enumerate(chat.messages or ())])


def _lacking(chat: _Settings, messages: tuple[Message, ...]) -> NotServed:
    if not chat.model:
        return NotServed(400, "You must provide a model parameter.", param="model", code="missing_required_parameter")
    if not messages:
        return NotServed(400, "You must provide messages.", param="messages", code="missing_required_parameter")
    if chat.stream:
        return NotServed(400, "The simulated provider does not stream.", param="stream", code="unsupported_value")
    return NotServed(400, "The simulated provider gives one choice.", param="n", code="unsupported_value")


def loaded(body: bytes) -> dict[str, Any]:
    """The object in a body."""
    try:
        asked = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        asked = None
    if not isinstance(asked, dict):
        raise NotServed(400, "We could not parse the JSON body of your request.")
    return asked


def whole(name: str, most: Any) -> int:
    if not isinstance(most, int) or isinstance(most, bool):
        raise NotServed(400, f"{name} must be a whole number.", param=name, code="invalid_type")
    return _at_least_one(name, most)


def schema_of(form: Any, where: str, *, named: bool = True) -> dict[str, Any]:
    """The schema in the description of a form."""
    schema = form.get("schema") if isinstance(form, dict) else None
    if not isinstance(schema, dict) or (named and not form.get("name")):
        raise NotServed(400, f"Invalid {where}: it needs {'a name and ' if named else ''}a schema.", param=where)
    return schema


def _at_least_one(name: str, most: int) -> int:
    if most < 1:
        raise NotServed(400, f"{name} must be at least 1.", param=name, code="integer_below_min_value")
    return most


def _message(message: _Message, position: int) -> Message:
    role = ROLES.get(message.role)
    if role is None:
        raise NotServed(
            400, f"Unknown role in message {position}.", param=f"messages.[{position}].role", code="invalid_value"
        )
    content = message.content
    if isinstance(content, str) or content is None:
        return Message(role, content or "")
    images = tuple([image_at(part.image_url.url) for part in content if part.image_url is not None])
    return Message(role, "".join([part.text for part in content]), images)


def image_at(url: str) -> Image:
    """Known by its address, or by its content; raises NotServed where that is none."""
    if not url.startswith("data:"):
        return Image(url)
    kind, _, data = url.removeprefix("data:").partition(";base64,")
    return inline_image(kind, data)


def inline_image(kind: str, data: str) -> Image:
    try:
        content = b64decode(data, validate=True)
    except binascii.Error:
        content = b""
    if not kind.startswith("image/") or not content:
        raise NotServed(400, "Invalid base64 image_url.", param="messages", code="invalid_base64")
    return Image(kind, kind, sha256(content).digest())


def _format(raw: bytes) -> _SchemaFormat:
    """Read once per distinct response_format: the same bytes give the same schema object."""
    kept = _formats.get(raw)
    if kept is None:
        if len(_formats) >= _KEPT_FORMATS:
            _formats.clear()
        kept = _formats[raw] = _read_format(raw)
    return kept


def _read_format(raw: bytes) -> _SchemaFormat:
    asked = msgspec.json.decode(raw)
    if asked is None:
        return _SchemaFormat(None)
    if not isinstance(asked, dict):
        asked = {}
    kind = asked.get("type")
    if kind == "text":
        return _SchemaFormat(None)
    if kind == "json_object":
        return _SchemaFormat(None, any_object=True)
    named = asked.get("json_schema") if kind == "json_schema" else None
    if not isinstance(named, dict):
        named = {}
    schema = named.get("schema")
    if not isinstance(schema, dict) or not named.get("name"):
        raise NotServed(
            400, "Invalid response_format: type json_schema needs a name and a schema.", param="response_format"
        )
    return _SchemaFormat(schema)


def completion(reply: Reply, number: int) -> bytes:
    asked, made = reply.input_tokens or 0, reply.output_tokens or 0
    refused = reply.finish == "refusal"
    answer = _Answer(None, refusal=reply.text) if refused else _Answer(reply.text)
    return _encoder.encode(
        _Completion(
            f"chatcmpl-{number}",
            int(time.time()),
            reply.model or "",
            (_Choice(answer, _FINISH[reply.finish]),),
            _Usage(asked, made, asked + made),
        )
    )


_REFUSALS: tuple[tuple[type[HeadraceError], int, str, str | None], ...] = (
    (QuotaExhausted, 429, "insufficient_quota", "insufficient_quota"),
    (Throttled, 429, "rate_limit_error", "rate_limit_exceeded"),
    (Overloaded, 503, "server_error", "overloaded"),
    (Credentials, 401, "invalid_request_error", "invalid_api_key"),
    (ModelNotFound, 404, "invalid_request_error", "model_not_found"),
    (ContextTooLong, 400, "invalid_request_error", "context_length_exceeded"),
    (Filtered, 400, "invalid_request_error", "content_filter"),
    (Rejected, 400, "invalid_request_error", None),
    (Transient, 500, "server_error", None),
)
"""The first that fits; an error's own status goes before the one here."""


def refusal_of(error: HeadraceError) -> NotServed:
    """How a real provider would tell this error."""
    if isinstance(error, NotServed):
        return error
    status, kind, code = next(
        ((status, kind, code) for type_, status, kind, code in _REFUSALS if isinstance(error, type_)),
        (500, "server_error", None),
    )
    own = error.status if isinstance(error, CallError) else None
    refusal = NotServed(own or status, error.message, kind=kind, code=code)
    refusal.retry_after_s = error.retry_after_s if isinstance(error, CallError) else None
    return refusal
