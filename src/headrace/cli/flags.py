"""The words of `headrace run`, each once: its flag, and so its key in headrace.toml and its variable in the environment.

Imports nothing that is slow: the help needs this and no more.
"""

import argparse
from typing import Any

import msgspec

from headrace.cli import kinds
from headrace.cli.kinds import Kind
from headrace.settings import DEFAULT_STORE


class Flag(msgspec.Struct, frozen=True):
    """One word. `name` is how it stands after `--` and in headrace.toml."""

    name: str
    kind: Kind
    metavar: str
    help: str
    default: Any = None
    short: str = ""

    @property
    def place(self) -> str:
        """Where argparse puts it."""
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        return f"HEADRACE_{self.place.upper()}"

    @property
    def nothing(self) -> Any:
        """What it is where nobody says anything."""
        if self.kind.repeats:
            return [] if self.kind is kinds.TEXTS else {}
        return False if self.kind is kinds.SWITCH else self.default


_ASKED = (
    Flag("ask", kinds.PROMPT, "TEXT", "what to ask of every row, with {column} in it; @FILE reads it from a file"),
    Flag("system", kinds.PROMPT, "TEXT", "the system message; @FILE reads it from a file"),
    Flag(
        "returns", kinds.TYPE, "TYPE",
        "type of the answer: 'label: a|b|c, score: float 0..1, why: str?', a JSON schema file, or module:Model",
    ),
    Flag("image", kinds.TEXTS, "COLUMN", "a column of images: a path, an address or a list of them (repeatable)"),
    Flag("samples", kinds.WHOLE, "N", "ask so many times about each row, and take the answer nearest to the others", 1),
    Flag("model", kinds.TEXT, "MODEL", "PROVIDER:NAME (openai:, anthropic:, gemini: ...), local or sim:"),
    Flag("base-url", kinds.TEXT, "URL", "address of an OpenAI-compatible server, up to and including its /v1"),
    Flag("temperature", kinds.NUMBER, "T", "sent as it is"),
    Flag("max-tokens", kinds.WHOLE, "N", "most tokens of an answer"),
    Flag("param", kinds.PARAMS, "K=V", "put into the request as it is (repeatable)"),
)  # fmt: skip
_TABLE = (
    Flag("sheet", kinds.TEXT, "NAME", "the sheet of an XLSX file (its first)"),
    Flag("encoding", kinds.TEXT, "NAME", "what a text file is written in (found from the file)"),
    Flag("delimiter", kinds.DELIMITER, "C", "what is between the fields of a CSV file (found from the file)"),
    Flag("query", kinds.TEXT, "SQL", "the rows, where INPUT is a database"),
    Flag("key", kinds.TEXT, "COLUMN", "the column that identifies a row"),
)
_READ = (
    Flag("name", kinds.TEXT, "RUN", "names the run, so that one over standard input can be resumed"),
    Flag("first", kinds.WHOLE, "N", "only the first N rows"),
    Flag("show-prompt", kinds.SWITCH, "", "show what would be sent for the first row, and send nothing"),
)
_HOW = (
    Flag("header", kinds.HEADERS, "K=V", "sent with every request, never stored (repeatable)"),
    Flag("concurrency", kinds.CONCURRENCY, "auto|N", "most calls in flight (auto: found)", "auto"),
    Flag("rpm", kinds.NUMBER, "N", "requests per minute that the provider allows"),
    Flag("tpm", kinds.NUMBER, "N", "tokens per minute that the provider allows"),
    Flag(
        "timeout", kinds.NUMBER, "S", "most seconds for one attempt (300); it follows what the calls take", 300.0
    ),
    Flag("deadline", kinds.NUMBER, "S", "seconds for the whole run; what is not done then stays pending"),
    Flag(
        "backup", kinds.SHARE, "P", "share of calls that may be made twice for stragglers at the end (such as 2%)", 0.0
    ),
    Flag("max-failure-rate", kinds.SHARE, "P", "stop when more of the rows fail than this share (such as 10%)"),
    Flag("budget", kinds.NUMBER, "USD", "most dollars that may be spent; what is not done then stays pending"),
    Flag("budget-name", kinds.TEXT, "NAME", "share the budget with all runs on this store that name it so"),
    Flag("prices", kinds.FILE, "FILE", "prices of your own, in dollars per million tokens (.toml or .json)"),
    Flag("fresh", kinds.SWITCH, "", "ask everything anew"),
    Flag("no-retry-failed", kinds.SWITCH, "", "keep what failed before"),
    Flag("store", kinds.STORE, "FILE", f"where answers are kept ({DEFAULT_STORE})", DEFAULT_STORE),
    Flag("keep-no-prompts", kinds.SWITCH, "", "keep answers and keys, and nothing of prompts and rows"),
)  # fmt: skip
_OUT = (
    Flag(
        "output", kinds.FILE, "FILE",
        "results as a table, by its ending (.csv, .jsonl, .xlsx, .parquet and more); without it, JSON Lines on standard output",
        short="-o",
    ),
    Flag(
        "ordered", kinds.SWITCH, "", "answers on standard output in the order of the rows (files always are)"
    ),
    Flag("report", kinds.FILE, "FILE", "a page about the run (.html)"),
    Flag("json", kinds.SWITCH, "", "progress as JSON, an event a line, for programs"),
    Flag("quiet", kinds.SWITCH, "", "no progress, only what went wrong"),
    Flag("debug", kinds.SWITCH, "", "show where an error came from"),
)  # fmt: skip
FLAGS = {flag.name: flag for flag in (*_ASKED, *_TABLE, *_READ, *_HOW, *_OUT)}

EPILOG = (
    "Every word but INPUT may also stand in headrace.toml, here or in a folder above (under [run], for example "
    "max-tokens = 100), or in the environment (HEADRACE_MAX_TOKENS=100). The command line goes before the environment, "
    "the environment before the file. `headrace config` shows what holds, and why."
)


def add_flags(words: argparse.ArgumentParser, *names: str) -> None:
    """These words. What they come to is decided after the command line is read: see configuration.py."""
    _add(words, words, [FLAGS[name] for name in names])


def add_run_arguments(words: argparse.ArgumentParser) -> None:
    """What a resumed run may be told anew."""
    _add(words, words.add_argument_group("how"), _HOW)
    _add(words, words.add_argument_group("what comes out"), _OUT)
    words.epilog = EPILOG
    words.set_defaults(attended=True)


def add_application(words: argparse.ArgumentParser, *, of_tables: bool = True) -> None:
    """What an application takes of them: it knows itself what to ask, and where it reads no table, it has no use for
    words about one."""
    asked = [FLAGS[name] for name in ("model", "base-url", "temperature", "max-tokens", "param")]
    _add(words, words.add_argument_group("which model"), asked)
    _add(words, words.add_argument_group("which rows, which run"), ((*_TABLE, *_READ) if of_tables else _READ))
    add_run_arguments(words)


def add_all(words: argparse.ArgumentParser) -> None:
    """All words of `headrace run`."""
    words.add_argument(
        "input", metavar="INPUT", nargs="?",
        help="a table (CSV, TSV, XLSX, JSON, JSON Lines, Parquet), a folder of text files, the URL of a database, or - for standard "
        "input",
    )  # fmt: skip
    words.add_argument(
        "then", metavar="", nargs="?", help="with a pipeline (a .toml file with [[stage]] tables) first: pipeline.toml INPUT"
    )  # fmt: skip
    _add(words, words.add_argument_group("what is asked"), _ASKED)
    _add(words, words.add_argument_group("which rows, which run"), (*_TABLE, *_READ))
    add_run_arguments(words)


def _add(
    words: argparse.ArgumentParser, group: "argparse._ActionsContainer", flags: "tuple[Flag, ...] | list[Flag]"
) -> None:
    for flag in flags:
        options = [flag.short, f"--{flag.name}"] if flag.short else [f"--{flag.name}"]
        told = flag.help.replace("%", "%%")
        if flag.kind is kinds.SWITCH:
            group.add_argument(*options, dest=flag.place, action="store_true", default=None, help=told)
        else:
            action = "append" if flag.kind.repeats else "store"
            group.add_argument(*options, dest=flag.place, action=action, metavar=flag.metavar, help=told)
    words.set_defaults(flags=(*(words.get_default("flags") or ()), *(flag.name for flag in flags)))
