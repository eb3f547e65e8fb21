"""JSON Lines become values, one for each line. Enter chunks of UTF-8, leave plain data.

Knows nothing of files; an array of JSON is read in json_array.py.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from headrace.core.errors import InputError
from headrace.data.encoding import undecodable
from headrace.data.lines import whole_lines


def json_rows(chunks: Iterator[bytes], where: str) -> Iterator[Any]:
    """The value of each line that is not blank."""
    decode = msgspec.json.Decoder().decode
    number = 0
    some = False
    for piece in whole_lines(chunks, where, at_cr=False):
        for line in piece:
            number += 1
            try:
                value = decode(line)
            except UnicodeDecodeError as error:
                raise undecodable(f"{where}, line {number}", _placed(line, error)) from error
            except (msgspec.DecodeError, RecursionError) as error:
                if not line.strip():
                    continue
                array = " An array of JSON is read from a file that ends in .json." if line.startswith(b"[") else ""
                raise InputError(
                    f"{where}, line {number}: no valid JSON ({error}).",
                    hint=f"JSON Lines has one whole JSON value on each line.{array}",
                ) from error
            some = True
            yield value
    if not some:
        raise InputError(f"{where} is empty.", hint="JSON Lines has one JSON value on each line.")


def _placed(line: bytes, error: UnicodeDecodeError) -> UnicodeDecodeError:
    """The error with its place in the line; the JSON decoder counts from the start of the text in quotes."""
    try:
        line.decode()
    except UnicodeDecodeError as placed:
        return placed
    return error
