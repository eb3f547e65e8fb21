"""Outcomes become a result file, in the format of its name. A reader sees the old file or the whole new one.

Knows nothing of runs and stores. The file follows from the outcomes alone, whenever it is written.
"""

import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeVar

from headrace.core.errors import OutputError
from headrace.core.item import Outcome
from headrace.data.columns import Columns, Unforeseen, columns_of
from headrace.data.layout import Batches, Layout, batches_of
from headrace.data.writers import PACKED, PACKS, WRITERS, encode, packing, schema_of, tables_of

T = TypeVar("T")
_GROUP_ROWS, _GROUP_BYTES = 10_000, 16 * 1024 * 1024
"""At most so much in one row group of Parquet."""
_BATCH_ROWS, _BATCH_BYTES, _HEAD_BATCHES = 500, 1024 * 1024, 20
"""At most so much at a time of the other formats, and so many of them are looked at before the first is written."""
_ALIKE = {
    ".xls": ".xlsx",
    ".xlsm": ".xlsx",
    ".ods": ".xlsx",
    ".txt": ".tsv",
    ".tab": ".tsv",
    ".pq": ".parquet",
    ".gzip": ".gz",
    ".zstd": ".zst",
}


def check_output(path: str | os.PathLike[str]) -> None:
    """Raises OutputError where no result file can be written there: to be asked before anything is paid for."""
    target = Path(path)
    if target.is_dir():
        raise OutputError(f"{path} is a folder.", hint="Give the name of a file in it.")
    _format_of(target, path)
    target = target.resolve()
    if not target.parent.is_dir():
        raise OutputError(f"The folder of {path} does not exist.", hint="Create it, or write elsewhere.")
    if target.exists() and not target.is_file():
        raise OutputError(f"{path} is no regular file.", hint="Write to another path.")
    if not os.access(target.parent, os.W_OK | os.X_OK) or (target.exists() and not os.access(target, os.W_OK)):
        raise OutputError(f"{path} cannot be written.", hint="Check that you may write there.")


def _format_of(target: Path, told: str | os.PathLike[str]) -> tuple[str, str]:
    """The ending that says the format, and the one that says how it is packed, if it is."""
    ending = target.suffix.lower()
    pack = ending if ending in PACKS else ""
    inner = Path(target.stem).suffix.lower() if pack else ending
    if inner in (PACKED if pack else WRITERS):
        return inner, pack
    hint = f"Use one of {', '.join(WRITERS)}; of these {', '.join(PACKED)} also with {' or '.join(PACKS)} after it."
    if pack:
        known = (
            f"{inner} is packed in itself." if inner in WRITERS else f"no format that it knows stands before {pack}."
        )
        raise OutputError(f"{told} cannot be written: {known}", hint=hint)
    what = f"ends in {ending}" if ending else "has no ending"
    near = f"{_ALIKE[ending]} would do. " if ending in _ALIKE else ""
    raise OutputError(f"{told} {what}, which headrace does not write.", hint=f"{near}{hint}")


def write_outcomes(
    path: str | os.PathLike[str],
    outcomes: Callable[[], Iterator[Outcome]],
    *,
    fields: Iterable[str] | None = None,
    schema: Mapping[str, Any] | None = None,
    arrow_schema: bytes | None = None,
    notice: Callable[[str], None] = lambda _: None,
) -> int:
    """Write these outcomes in the format that the path ends in, and return how many rows it has.

    `outcomes()` starts reading them, and is called again where a later row needs columns or types that the first ones
    did not show. `fields` are the input's columns as far as they are known, `schema` is the JSON schema of the
    answers, `arrow_schema` the types of the input's columns where it was Parquet. Columns and their names: see
    Columns. A missing value is null, in CSV, TSV and XLSX empty; a nested value is JSON text but in JSON, a list of
    scalars of the schema a list in Parquet. In CSV and TSV a text that would be a formula begins with an apostrophe;
    see formula.py. `notice` is told in a sentence what the format could not hold. Raises OutputError; then an existing
    file is as it was.
    """
    check_output(path)
    target = Path(path).resolve()
    ending, pack = _format_of(Path(path), path)
    write = WRITERS[ending]
    grouped = ending == ".parquet"
    layout = Layout(columns_of(fields, schema), schema, arrow_schema, typed=grouped)

    def put(batches: Batches) -> int:
        with _replacing(target, str(path)) as file, packing(file, pack) as packed:
            return write(packed, batches, layout)

    count = _laid_out(outcomes, layout, put, grouped=grouped, told=str(path))
    for each in layout.notices:
        notice(each)
    return count


def arrow_table(
    outcomes: Callable[[], Iterator[Outcome]],
    *,
    fields: Iterable[str] | None = None,
    schema: Mapping[str, Any] | None = None,
    arrow_schema: bytes | None = None,
) -> Any:
    """What `write_outcomes` would write as Parquet, as a pyarrow Table in memory."""
    import pyarrow as pa  # noqa: PLC0415 - heavy

    layout = Layout(columns_of(fields, schema), schema, arrow_schema, typed=True)

    def put(batches: Batches) -> Any:
        columns = schema_of(layout)
        tables = list(tables_of(batches, layout, columns))
        return pa.concat_tables(tables) if tables else columns.empty_table()

    return _laid_out(outcomes, layout, put, grouped=True, told="the table")


def _laid_out(
    outcomes: Callable[[], Iterator[Outcome]], layout: Layout, put: Callable[[Batches], T], *, grouped: bool, told: str
) -> T:
    """What `put` makes of the outcomes; it is asked again where a later row did not fit the columns or types so far."""
    batches = _batches(outcomes(), grouped=grouped)
    head = list(islice(batches, 1 if grouped else _HEAD_BATCHES))
    for batch in head:
        layout.see(batch)
    whole = _put_back(head, batches)
    for _ in range(3 + len(layout.columns.inputs)):
        try:
            return put(whole)
        except Unforeseen as unforeseen:
            if unforeseen.name is not None:
                layout.arrow_types.pop(unforeseen.name, None)
            layout.forget()
            for batch in _batches(outcomes(), grouped=grouped):
                layout.see(batch)
            whole = _batches(outcomes(), grouped=grouped)
    raise OutputError(f"The outcomes changed while {told} was written.", hint="Write it again once the run has ended.")


def jsonl_line(outcome: Outcome, columns: Columns) -> bytes:
    """One row as the .jsonl file has it, for `columns_of(fields, schema)`.

    A column that was not known beforehand is in the rows of those items that have it.
    """
    try:
        cells = columns.cells(outcome)
    except Unforeseen:
        columns = columns.widened([outcome])
        cells = columns.cells(outcome)
    return encode(dict(zip(columns.names, cells, strict=True))) + b"\n"


def _batches(outcomes: Iterator[Outcome], *, grouped: bool) -> Batches:
    return batches_of(outcomes, *((_GROUP_ROWS, _GROUP_BYTES) if grouped else (_BATCH_ROWS, _BATCH_BYTES)))


def _put_back(head: list[list[Outcome]], batches: Batches) -> Batches:
    """With what was taken to look at; nothing holds on to it."""
    head.reverse()
    while head:
        yield head.pop()
    yield from batches


@contextmanager
def _replacing(target: Path, told: str) -> Iterator[IO[bytes]]:
    """A file beside the target that takes its place at the end, or is removed."""
    beside = target.with_name(f".headrace-{secrets.token_hex(8)}.tmp")
    try:
        # made as any new file is, so that the umask holds
        made = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        try:
            with open(made, "wb", buffering=1024 * 1024) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if target.exists():
                shutil.copymode(target, beside)
            os.replace(beside, target)
        except BaseException:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{told} could not be written: {reason}.", hint="Free space, or write elsewhere.") from error
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make the new name durable, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
