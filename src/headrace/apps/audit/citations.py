"""The sites that an answer cites: addresses and bare domains in its text. No model is asked: it might add some."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

_ADDRESS = re.compile(r"https?://[^\s<>\"'()\[\]{}|\\^`]+", re.IGNORECASE)
_DOMAIN = re.compile(r"(?<![\w@.-])(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,24}(?![\w-])", re.IGNORECASE)
_FILES = frozenset(
    {"csv", "doc", "docx", "gif", "htm", "html", "jpg", "js", "json", "md", "pdf", "php", "png", "py", "txt", "xml"}
)
"""What looks like a domain's ending and is a file's."""
MOST = 20


class Cited:
    """Of an answer: the answer itself, then a row for each domain that it cites."""

    def __call__(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        found = domains(row.get("answer") or "")
        rest = {"answer": "", "query": "", "domains": []}
        return [{"domain": "", "domains": found}, *({"domain": domain, **rest} for domain in found)]


def domains(text: str) -> list[str]:
    """In the order in which they stand there, each once, without `www.`; at most 20."""
    addresses = _ADDRESS.findall(text)
    bare = [each for each in _DOMAIN.findall(_ADDRESS.sub(" ", text)) if each.rpartition(".")[2].lower() not in _FILES]
    found = [domain_of(each) for each in (*addresses, *bare)]
    return list(dict.fromkeys(each for each in found if each))[:MOST]


def domain_of(text: str) -> str:
    """Of an address or a domain; with its port where that is not the usual one. Empty where it is none."""
    text = text.strip().rstrip(".,;:!?")
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return ""
    if not re.fullmatch(r"[a-z0-9.-]+", host) or "." not in host:
        return ""
    return host.removeprefix("www.") + (f":{port}" if port not in (None, 80, 443) else "")
