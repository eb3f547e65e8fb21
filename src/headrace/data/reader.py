"""A path, with how to read it, becomes rows: what is there, in which format, and who reads that.

Knows nothing of items and keys, and imports the reader of a format only where one is met.
"""

import difflib
import os
import re
import stat
from pathlib import Path

from headrace.core.digest import digest_of, short
from headrace.core.errors import InputError, UsageError
from headrace.data.compressed import ENDINGS as PACKED
from headrace.data.encoding import codec_of
from headrace.data.files import Rows, open_csv, open_json, open_json_lines
from headrace.data.folder import open_folder
from headrace.data.lines import unreadable
from headrace.data.stdin import open_stdin
from headrace.data.table import Table

FORMATS = (
    "CSV (.csv, .tsv), JSON Lines (.jsonl, .ndjson), JSON (.json), each of them also packed (.gz, .zst), XLSX (.xlsx), "
    "Parquet (.parquet), a folder of text files, or a database's URL"
)
_TEXTS = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "json lines", ".ndjson": "json lines", ".json": "json",
}  # fmt: skip
_OTHERS = {".xlsx": "xlsx", ".xlsm": "xlsx", ".parquet": "parquet"}
_TAKEN = {
    "csv": ("encoding", "delimiter"), "tsv": ("encoding", "delimiter"), "json lines": ("encoding",),
    "json": ("encoding",), "folder": ("encoding",), "xlsx": ("sheet",), "parquet": (), "database": ("query",),
    "standard input": ("encoding", "delimiter"),
}  # fmt: skip
_FOR = {
    "sheet": "an XLSX file", "encoding": "a file of text", "delimiter": "a CSV file", "query": "the URL of a database",
}  # fmt: skip
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")


def open_table(table: Table) -> tuple[str, str, Rows]:
    """Where it is (empty for standard input), what else decides which rows there are, and the rows. The first two
    identify it across runs. Raises InputError, UsageError.
    """
    at = os.fspath(table.path)
    if not isinstance(at, str):
        raise UsageError(f"The path {at!r} is bytes.", hint="Pass the path as text.")
    if at == "-":
        _check(table, at, "standard input")
        return "", "", open_stdin(encoding=_codec(table), delimiter=table.delimiter)
    if _ADDRESS.match(at):
        where, rows = _open_address(at, table)
    else:
        path, rows = _open_path(at, table)
        where = str(path)
    return where, _which(table), rows


def _which(table: Table) -> str:
    sheet = "" if table.sheet is None else f"#sheet={table.sheet}"
    return sheet if table.query is None else f"{sheet}#query={short(digest_of(table.query))}"


def _codec(table: Table) -> str | None:
    return None if table.encoding is None else codec_of(table.encoding)


def _check(table: Table, where: str, kind: str) -> None:
    """Raises UsageError for an option that this kind of source does not have."""
    for name in table.options():
        if name not in _TAKEN[kind]:
            told = "Standard input" if where == "-" else where
            raise UsageError(f"{told} has no {name}: it is for {_FOR[name]}.", hint=f"Leave the {name} out.")


def _open_address(at: str, table: Table) -> tuple[str, Rows]:
    from headrace.data.sql import is_database, open_query, without_password  # noqa: PLC0415 - only where it is needed

    if not is_database(at):
        raise InputError(
            f"{without_password(at)} is an address that headrace does not read.",
            hint="Download it first. Of databases, it reads sqlite:///PATH and postgresql://HOST/NAME.",
        )
    where = without_password(at)
    _check(table, where, "database")
    if table.query is None:
        raise UsageError(
            f"{where} is a database, and no query says which rows to read.",
            hint='Give --query "SELECT ...", in Python Table(url, query="SELECT ...").',
        )
    return where, open_query(at, table.query)


def _open_path(at: str, table: Table) -> tuple[Path, Rows]:
    if not at:
        raise InputError("The path of the input is empty.", hint=f"Give the path of {FORMATS}.")
    path = Path(at)
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _not_there(path, at) from error
    except ValueError as error:
        raise InputError(f"{at!r} is no path.", hint=f"Give the path of {FORMATS}.") from error
    except OSError as error:
        raise unreadable(at, error) from error
    whole = path.resolve()
    if stat.S_ISDIR(mode):
        _check(table, at, "folder")
        return whole, open_folder(whole, at, _codec(table))
    kind = _kind(path, at, table)
    if not stat.S_ISREG(mode):
        raise InputError(f"{at} is no regular file.", hint="Pipe it in, with - as the input.")
    _check(table, at, kind)
    return whole, _open_file(whole, at, kind, table)


def _kind(path: Path, at: str, table: Table) -> str:
    ending = path.suffix.lower()
    packed = ending in PACKED
    inner = Path(path.stem).suffix.lower() if packed else ending
    kind = _TEXTS.get(inner) or _OTHERS.get(inner)
    if kind is None and table.delimiter is not None:
        return "csv"
    if kind is None:
        told = f"ends in {inner + ending if packed else ending}" if ending else "has no ending"
        table_of_text = " --delimiter reads it as a table whatever its ending." if inner in ("", ".txt", ".dat") else ""
        raise InputError(f"{at} {told}, which headrace does not read.", hint=f"It reads {FORMATS}.{table_of_text}")
    if packed and inner in _OTHERS:
        raise InputError(f"{at} is a packed {inner} file, which headrace does not read.", hint="Unpack it first.")
    return kind


def _open_file(path: Path, where: str, kind: str, table: Table) -> Rows:
    match kind:
        case "csv" | "tsv":
            mark = table.delimiter or ("\t" if kind == "tsv" else None)
            return open_csv(path, where, encoding=_codec(table), delimiter=mark)
        case "json lines":
            return open_json_lines(path, where, encoding=_codec(table))
        case "json":
            return open_json(path, where, encoding=_codec(table))
        case "xlsx":
            from headrace.data.xlsx import open_xlsx  # noqa: PLC0415 - only where there is one

            return open_xlsx(path, where, table.sheet)
        case _:
            from headrace.data.parquet import open_parquet  # noqa: PLC0415 - pyarrow is heavy

            return open_parquet(path, where)


def _not_there(path: Path, at: str) -> InputError:
    folder = path.parent
    if not folder.is_dir():
        return InputError(f"There is no file {at}: its folder does not exist.", hint="Check the path.")
    try:
        there = {name.lower(): name for name in os.listdir(folder)}
    except OSError:
        there = {}
    near = [there[name] for name in difflib.get_close_matches(path.name.lower(), there, n=3)]
    hint = f"Did you mean {' or '.join(str(folder / name) for name in near)}?" if near else "Check the path."
    return InputError(f"There is no file {at}.", hint=hint)
