"""A table and how to read it, where its name does not say. A value; knows nothing of reading."""

import os
import unicodedata

import msgspec
from msgspec import structs

from headrace.core.errors import UsageError
from headrace.core.outline import outline
from headrace.data.query import address_of


class _At(msgspec.Struct, frozen=True):
    path: str | os.PathLike[str]


class Table(_At, frozen=True, kw_only=True):
    """A table and how to read it, for `run` and its kin in place of a path.

    `path` is a file, a folder, `-` for standard input, or a database's URL, which asks for a `query`. `sheet` is the
    name of a sheet of an XLSX file (else the first), `encoding` what a text file is written in (else it is found),
    `delimiter` the one character between the fields of a CSV file (else it is found). Raises UsageError.
    """

    sheet: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    query: str | None = None

    def __post_init__(self) -> None:
        mark = "\t" if self.delimiter == "\\t" else self.delimiter  # as a shell gives it
        if mark is not None and (len(mark) != 1 or mark in '"\r\n\0' or unicodedata.category(mark) == "Cs"):
            raise UsageError(
                f"The delimiter is {mark!r}; it must be one character, and no quote or line break.",
                hint="Leave it out: it is found from the file. A tab is written \\t.",
            )
        msgspec.structs.force_setattr(self, "delimiter", mark)

    def __repr__(self) -> str:
        """Without the password of a database."""
        at = str(self.path)
        return outline(structs.replace(self, path=address_of(at).shown) if "://" in at else self, named=False)

    def options(self) -> dict[str, str]:
        """What is stated, by name; the path aside."""
        names = ("sheet", "encoding", "delimiter", "query")
        return {name: value for name in names if (value := getattr(self, name)) is not None}
