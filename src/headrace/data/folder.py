"""A folder becomes rows: the text files in it and below, by path. What cannot be read is told with file and line.

Knows nothing of tables.
"""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from headrace.core.errors import InputError
from headrace.data.count import Check, found_codec
from headrace.data.encoding import WESTERN, as_utf8, nul
from headrace.data.files import Rows
from headrace.data.lines import MAX_LINE_BYTES, unreadable

TEXT_ENDINGS = (".txt", ".text", ".md", ".markdown", ".rst", ".adoc", ".log", ".srt", ".vtt")
_LOOKED_AT_FILES = 2000
_LOOKED_AT_BYTES = 64 * 1024 * 1024
"""So much is looked through for what it is written in, before the first item is asked about."""
_SHOWN = 3


def open_folder(folder: Path, where: str, encoding: str | None = None) -> Rows:
    """Text files in it and below, sorted by path; hidden files and folders are left out."""
    paths = sorted(_text_files(folder, where))
    if not paths:
        raise InputError(f"{where} holds no text files.", hint=f"Files are read that end in {', '.join(TEXT_ENDINGS)}.")
    western = frozenset(_western(folder, where, paths) if encoding is None else ())
    notices: tuple[str, ...] = ()
    if western:
        shown = ", ".join(sorted(western)[:_SHOWN])
        more = f" and {len(western) - _SHOWN} more" if len(western) > _SHOWN else ""
        are = "is not UTF-8; it was" if len(western) == 1 else "are not UTF-8; they were"
        notices = (f"{where}: {shown}{more} {are} read as Windows-1252. --encoding says otherwise.",)
    return Rows(lambda: _texts(folder, where, paths, encoding, western), ("path", "text"), len(paths), None, notices)


def _text_files(folder: Path, where: str) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        raise unreadable(f"{where}: {error.filename}", error) from error

    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        base = Path(parent).relative_to(folder)
        for name in files:
            if name.lower().endswith(TEXT_ENDINGS) and not name.startswith("."):
                yield (base / name).as_posix()


def _western(folder: Path, where: str, paths: list[str]) -> Iterator[str]:
    """The files that are Windows-1252, as far as they are looked at. What else is wrong is told when it is reached."""
    taken = 0
    for path in islice(paths, _LOOKED_AT_FILES):
        try:
            data = _data(folder, where, path)
        except InputError:
            continue
        taken += len(data)
        if taken > _LOOKED_AT_BYTES:
            return
        try:
            data.decode()
        except UnicodeDecodeError:
            try:
                if _codec(data, f"{where}: {path}") == WESTERN:
                    yield path
            except InputError:
                continue


def _codec(data: bytes, told: str) -> str:
    codec, _ = found_codec(data, told, None)
    if codec != "utf-8":
        return codec
    check = Check(told)
    check.add(data)
    check.ended()
    return check.judged()[0]


def _texts(
    folder: Path, where: str, paths: list[str], encoding: str | None, western: frozenset[str]
) -> Iterator[dict[str, str]]:
    for path in paths:
        if not path.isprintable():
            _refuse_odd_name(path, where)
        told = f"{where}: {path}"
        data = _data(folder, where, path)
        codec = WESTERN if path in western else found_codec(data, told, encoding)[0]
        if codec == "utf-8":
            check = Check(told, stated=True)
            check.add(data)
            check.ended()
        text = b"".join(as_utf8(iter((data,) if data else ()), told, codec))
        if b"\0" in text:
            raise nul(told, text.count(b"\n", 0, text.index(b"\0")) + 1)
        yield {"path": path, "text": text.decode()}


def _data(folder: Path, where: str, path: str) -> bytes:
    told = f"{where}: {path}"
    try:
        with open(folder / path, "rb") as file:
            data = file.read(MAX_LINE_BYTES + 1)
    except OSError as error:
        raise unreadable(told, error) from error
    if len(data) > MAX_LINE_BYTES:
        raise InputError(f"{told} is larger than {MAX_LINE_BYTES // 1024**2} MiB.", hint="Split it into parts.")
    return data


def _refuse_odd_name(path: str, where: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where} holds a file whose name is no UTF-8: {path!a}.", hint="Rename it or move it away."
        ) from error
