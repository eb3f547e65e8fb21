"""What an exception of somebody else's library means. Enters any exception, leaves an error of the tree or None.

Never raises and imports none of those libraries: it goes by what an exception carries (status, headers, body) and by
the names in its line of classes. Rules of this file:

1. The SDK of a model's provider speaks for the provider: its refusals stop a run or make it wait like our own call's.
2. Any other library, or an exception of the user's own with a status, speaks for one address that one item named: it
   never stops the run, but for a body that says in so many words that a model's quota is gone.
3. Nothing is read that is not there yet: a body that would have to be fetched is none.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from headrace.core.errors import CallError, QuotaExhausted, Rejected, Transient, Unreachable, Verdict
from headrace.provider.complaint import complaint_of
from headrace.provider.secret import without_secrets
from headrace.provider.verdict import QUOTA_CODES, error_of

_MODEL_SDKS = {
    "openai", "anthropic", "groq", "mistralai", "cohere", "together", "cerebras", "litellm", "ollama", "xai_sdk",
    "langchain_core",
}  # fmt: skip
_MODEL_PACKAGES = ("google.genai", "google.generativeai")
_WEB = {
    "httpx", "httpx2", "httpcore", "httpcore2", "aiohttp", "requests", "urllib3", "urllib", "http", "botocore",
    "curl_cffi", "niquests", "google",
}  # fmt: skip
_CONDITIONS = {
    "ModelAuthenticationError": 401, "ModelPermissionDeniedError": 403, "ModelNotFoundError": 404,
    "ModelInvalidRequestError": 400, "ContextOverflowError": 400, "ModelRateLimitError": 429, "ModelAPIError": 500,
}  # fmt: skip
"""LangChain's names for what providers answer, where its integration gives no status."""
_TOO_LONG = "ContextOverflowError"
_STATUS_NAMES = ("status_code", "http_status", "status", "code")
_UNREACHABLE = {
    "ConnectError", "ConnectTimeout", "ConnectTimeoutError", "ClientConnectorError", "NewConnectionError",
    "NameResolutionError", "ConnectionRefusedError", "EndpointConnectionError", "gaierror",
}  # fmt: skip
_PASSING = _UNREACHABLE | {
    "APIConnectionError", "APITimeoutError", "TimeoutError", "ConnectionError", "TimeoutException", "ReadTimeout",
    "ReadTimeoutError", "RemoteProtocolError", "ClientConnectionError", "ClientPayloadError", "ChunkedEncodingError",
    "MaxRetryError", "ModelConnectionError", "ModelTimeoutError",
}  # fmt: skip
_PASSING_OF_KNOWN = {
    "Timeout", "NetworkError", "ProxyError", "ProtocolError", "IncompleteRead", "RetryError", "HTTPClientError",
    "ConnectionClosedError", "URLError",
}  # fmt: skip
"""Names that others give to other things."""
_AT_FAULT = {
    "LocalProtocolError", "UnsupportedProtocol", "InvalidURL", "MissingSchema", "InvalidSchema", "InvalidHeader",
    "LocationParseError", "LocationValueError", "TooManyRedirects",
}  # fmt: skip
"""The request itself, although their line of classes says transport."""
_CLOSED = "Event loop is closed"
"""What asyncio says where a pool gives out a connection that an earlier run left there; the next one may be new."""
_UNFIT = {"APIResponseValidationError"}
"""An answer that is fine but for its form."""
_SECRET_HEADERS = {"authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"}
_DEEPEST = 16
_MOST_HEADERS = 200


def foreign_error(error: BaseException, now_wall_s: float) -> CallError | None:
    """The error of the tree behind `error`, or behind what it was raised from; None where it is nothing we know."""
    for each in _line(error):
        if isinstance(each, CallError):
            return each
        try:
            found = _of_group(each, now_wall_s) or _of_answer(each, now_wall_s) or _of_connection(each)
        except Exception:  # noqa: BLE001 - whatever an exception's own properties raise, it is nothing we know
            found = None
        if found is not None:
            return found
    return None


def told(error: BaseException) -> str:
    """An exception's class and words, without secrets."""
    words = _words(error)
    name = type(error).__name__
    return without_secrets(f"{name}: {words}" if words else name, _secrets(error))


def _line(error: BaseException) -> Iterator[BaseException]:
    """`error` and what it was raised from on purpose; such lines can be circles."""
    seen: list[BaseException] = []
    each: BaseException | None = error
    while isinstance(each, BaseException) and not any(each is other for other in seen) and len(seen) < _DEEPEST:
        seen.append(each)
        yield each
        each = each.__cause__


def _of_group(error: BaseException, now_wall_s: float) -> CallError | None:
    """Of tasks that failed together: what the first means, where all mean something."""
    if not isinstance(error, BaseExceptionGroup):
        return None
    found = [foreign_error(each, now_wall_s) for each in error.exceptions[:_DEEPEST]]
    return found[0] if all(each is not None for each in found) else None


# An answer.


def _of_answer(error: BaseException, now_wall_s: float) -> CallError | None:
    names = _names(error)
    is_model = _is_model(error)
    if names & _UNFIT:
        return None
    response = _get(error, "response")
    headers = _headers(error, response)
    status = _status(error, response, anyhow=is_model or _is_web(type(error)) or bool(headers))
    body = _body(error, response)
    if is_model and status is None:
        status = next((_CONDITIONS[name] for name in names if name in _CONDITIONS), None)
    if is_model and (status is None or status < 300):  # an error in the middle of a stream that began well
        if not complaint_of(body).codes:
            return None
        status = 500
    if status is None or status < 300:
        return None
    if not body:
        code = {"code": "context_length_exceeded"} if _TOO_LONG in names else {}
        body = _json({"error": {"message": _words(error), **code}})
    if is_model:
        found = error_of(status, headers, body, now_wall_s)
    else:
        found = error_of(status, headers, body, now_wall_s, who="The server that the function asked")
        found = _of_one_address(found, body)
    message = without_secrets(found.message, _secrets(error))  # some servers quote the key they refuse
    return type(found)(message, hint=found.hint, status=found.status, hints=found.hints)


def _of_one_address(error: CallError, body: bytes) -> CallError:
    if error.verdict is not Verdict.STOP_RUN:
        return error
    if isinstance(error, QuotaExhausted) and complaint_of(body).codes & QUOTA_CODES:
        return error
    hint = "The function raised this for this item alone; where it matters to all, raise one of headrace's errors."
    return Rejected(error.message, hint=hint, status=error.status, hints=error.hints)


def _status(error: BaseException, response: Any, *, anyhow: bool) -> int | None:
    """`anyhow` trusts names that mean other things too, `status` and `code`."""
    for holder in (error, response):
        for name in _STATUS_NAMES if anyhow or holder is response else _STATUS_NAMES[:2]:
            if (status := _http_status(_get(holder, name))) is not None:
                return status
    if isinstance(response, Mapping):  # botocore
        return _http_status(_item(_item(response, "ResponseMetadata"), "HTTPStatusCode"))
    return None


def _http_status(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int) or not 200 <= value < 600:
        return None
    return int(value)


def _headers(error: BaseException, response: Any) -> dict[str, str]:
    """Lower-case names; of mappings, and of lists of pairs."""
    if isinstance(response, Mapping):
        return _texts(_item(_item(response, "ResponseMetadata"), "HTTPHeaders"))
    return _texts(_get(response, "headers")) or _texts(_get(error, "headers"))


def _texts(headers: Any) -> dict[str, str]:
    try:
        pairs = list(headers.items() if hasattr(headers, "items") else headers or ())[:_MOST_HEADERS]
        return {_text(name).lower(): _text(value) for name, value in pairs}
    except Exception:  # noqa: BLE001 - whatever they are, headers they are not
        return {}


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _body(error: BaseException, response: Any) -> bytes:
    """The body as it was read, or as the SDK parsed it."""
    if isinstance(response, Mapping):
        said = _item(response, "Error")
        return _json({"error": {"code": _item(said, "Code"), "message": _item(said, "Message")}}) if said else b""
    for name in ("body", "details", "error"):  # OpenAI, Anthropic, Mistral; Google; Ollama
        body = _get(error, name)
        if isinstance(body, dict | list) and body:
            return _json(body)
        if isinstance(body, str | bytes) and body:
            return body if isinstance(body, bytes) else body.encode("utf-8", "replace")
    own = _get(response, "__dict__")
    if isinstance(own, dict) and ("_content" in own or "_body" in own):  # requests, httpx, aiohttp
        read = own.get("_content") or own.get("_body")
        return read if isinstance(read, bytes) else b""
    if response is None or _is_web(type(response)):
        return b""
    for name in ("content", "text"):
        body = _get(response, name)
        if isinstance(body, str | bytes) and body:
            return body if isinstance(body, bytes) else body.encode("utf-8", "replace")
    return b""


def _json(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value, enc_hook=str)
    except Exception:  # noqa: BLE001 - a body that has no form says nothing
        return b""


# No answer.


def _of_connection(error: BaseException) -> CallError | None:
    names = _names(error)
    if type(error) is RuntimeError and _words(error) == _CLOSED:
        return Transient(
            "The function's client kept a connection of an event loop that has ended.",
            hint="Make asynchronous clients inside the function, or give a chain as chain.invoke.",
        )
    passing = names & _PASSING or (names & _PASSING_OF_KNOWN and (_is_web(type(error)) or _is_model(error)))
    if names & _AT_FAULT or not passing:
        return None
    if _is_model(error) and any(_names(each) & _UNREACHABLE for each in _line(error)):
        return Unreachable(
            f"Nothing answers the function's call ({told(error)}).",
            hint="Check the address, and that the server is running.",
        )
    return Transient(told(error), hint="Run again: it may have been a passing fault.")


# Looking without touching.


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _modules(kind: type) -> Iterator[str]:
    for each in kind.__mro__:
        module = each.__module__
        if isinstance(module, str):
            yield module


def _is_model(error: BaseException) -> bool:
    return any(
        module.partition(".")[0] in _MODEL_SDKS or module.startswith(_MODEL_PACKAGES)
        for module in _modules(type(error))
    )


def _is_web(kind: type) -> bool:
    return any(module.partition(".")[0] in _WEB for module in _modules(kind))


def _get(holder: Any, name: str) -> Any:
    try:
        return getattr(holder, name, None)
    except Exception:  # noqa: BLE001 - a property that raises is not there
        return None


def _item(mapping: Any, name: str) -> Any:
    return mapping.get(name) if isinstance(mapping, Mapping) else None


def _words(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - its own words are broken
        return ""


def _secrets(error: BaseException) -> tuple[str, ...]:
    """What the request carried and must not be told again, the longest first."""
    request = _get(error, "request") or _get(error, "request_info") or _get(_get(error, "response"), "request")
    sent = _texts(_get(request, "headers"))
    values = [value for name, value in sent.items() if name in _SECRET_HEADERS]
    words = {word for value in values for word in (value, *value.split()) if len(word) >= 8}
    return tuple(sorted(words, key=len, reverse=True))
