"""`headrace config`: every setting, its value, and where it was said. Values of headers are never shown."""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from headrace.cli import kinds
from headrace.cli.configuration import Configuration, Found
from headrace.cli.flags import FLAGS
from headrace.cli.tomlfile import NAME
from headrace.report.signs import printable
from headrace.report.text import shown

HIDDEN = "(not shown)"
OTHERS = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "NO_COLOR", "FORCE_COLOR")  # fmt: skip
"""What is read besides, from the environment alone; only whether it is there is told."""
_VALUE_WIDTH = 60


class Setting(msgspec.Struct, frozen=True):
    """One line of it."""

    name: str
    value: Any
    origin: str
    """flag, environment, file or default."""
    place: str
    """`--model`, `HEADRACE_MODEL`, `headrace.toml:2`; empty for a default."""


def run(args: argparse.Namespace) -> int:
    configuration: Configuration = args.configuration
    settings = list(_settings(configuration))
    others = [name for name in OTHERS if os.environ.get(name) or os.environ.get(name.lower())]
    unknown = list(_unknown(os.environ))
    if args.json:
        _put(msgspec.json.format(msgspec.json.encode({
            "file": configuration.file.path if configuration.file else None, "settings": settings,
            "environment": others, "unknown": unknown,
        }), indent=2).decode())  # fmt: skip
        return 0
    _put(f"Settings of {configuration.file.path}." if configuration.file else f"There is no {NAME} here or above.")
    rows = [
        ("SETTING", "VALUE", "FROM"),
        *((each.name, _said(each.value), each.place or each.origin) for each in settings),
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, place in rows:
        _put(f"{name:{widths[0]}}  {value:{widths[1]}}  {place}")
    if others:
        _put(f"Also read from the environment, and set: {', '.join(others)}.")
    for name in unknown:
        _put(f"{name} is set, and no setting: it is not read.")
    return 0


def _settings(configuration: Configuration) -> Iterator[Setting]:
    lines = configuration.file.lines() if configuration.file is not None else {}
    for name, found in configuration.found.items():
        flag = FLAGS[name.partition(".")[0]]
        value = HIDDEN if flag.kind is kinds.HEADERS else str(found.value) if flag.kind is kinds.STORE else found.value
        yield Setting(name, value, found.origin, _place(found, configuration, lines))


def _place(found: Found, configuration: Configuration, lines: Mapping[tuple[str, ...], int]) -> str:
    if found.origin != "file" or configuration.file is None:
        return found.place
    line = lines.get(found.key) or lines.get(found.key[:2])
    return f"{configuration.file.path}:{line}" if line else configuration.file.path


def _said(value: Any) -> str:
    """Nothing is a dash, so that a column is never empty."""
    text = "yes" if value is True else "no" if value is False else shown(value)
    return printable(text, _VALUE_WIDTH, "...") or "-"


def _unknown(environ: Mapping[str, str]) -> Iterator[str]:
    known = {flag.variable for flag in FLAGS.values()}
    yield from sorted(name for name in environ if name.startswith("HEADRACE_") and name not in known)


def _put(text: str) -> None:
    sys.stdout.write(text + "\n")
