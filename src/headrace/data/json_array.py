"""An array of JSON becomes its values, one after the other, in the memory of one of them.

Enter chunks of UTF-8, leave plain data. The array is all there is, or is the one array of objects at the top of one
object (`{"data": [{...}, ...], "count": 2}`). Knows nothing of files.

The standard library's decoder finds where a value ends, as it can begin anywhere in a text; the text is what has been
read and not yet given. A value that ends where the text does may go on, so more is read first.
"""

import codecs
import json
import re
from collections.abc import Iterator
from math import isfinite
from typing import Any, NoReturn

import msgspec

from headrace.core.errors import InputError
from headrace.data.encoding import nul
from headrace.data.lines import MAX_LINE_BYTES

_BLANKS = " \t\r\n"
_BLANK = re.compile(f"[{_BLANKS}]*")
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")
_OPENING = '{["'
_NEAR_END_CHARS = 16
"""An error so near to the end of what was read may be due to the end."""
_LARGE_CHARS = 1024 * 1024
_STARTS = re.compile(rb'\s*\[\s*(?:[\[{"\-\]0-9]|(?:true|false|null)\b|\Z)')
_SHOWN_KEYS = 8


def starts_array(head: bytes) -> bool:
    """Whether a text that starts like this is an array of JSON, and no CSV whose first column is named `[id]`."""
    return _STARTS.match(head) is not None


def starts_lines(head: bytes) -> bool:
    """Whether its first line is a whole object of JSON, and more comes below."""
    line, _, rest = head.lstrip().partition(b"\n")
    if not line.startswith(b"{") or not rest.strip():
        return False
    try:
        msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def array_rows(chunks: Iterator[bytes], where: str) -> Iterator[Any]:
    """The values. Raises InputError for JSON that is not valid, with its line, and for other shapes."""
    text = _Text(chunks, where)
    sign = text.peek()
    if not sign:
        raise InputError(f"{where} is empty.", hint='It should hold an array of JSON: [{"text": "..."}, ...].')
    some = False
    if sign == "[":
        values = text.array()
    elif sign == "{":
        values = _rows_of_object(text, where)
    else:
        raise _other_shape(where, "no array of JSON")
    for value in values:
        yield value
        some = True
    if text.peek():
        text.fail(
            "more comes after the end of the JSON", hint="Where each line is a value of its own, end it in .jsonl."
        )
    if not some:
        raise InputError(f"{where} has no rows: its array is empty.", hint="Give a file with at least one row.")


def _rows_of_object(text: "_Text", where: str) -> Iterator[Any]:
    """The values of the one array of objects at the top of an object."""
    keys: list[str] = []
    found = ""
    for key in text.members():
        keys.append(key)
        if text.peek() != "[":
            text.value()
            continue
        values = text.array()
        first = next(values, None)
        if not isinstance(first, dict):
            for _ in values:  # a list of something else beside the rows
                pass
        elif found:
            raise _other_shape(where, f"one object with more than one array of rows ({found}, {key})", f".{key}[]")
        else:
            found = key
            yield first
            yield from values
    if not found:
        shown = ", ".join(keys[:_SHOWN_KEYS]) + (", ..." if len(keys) > _SHOWN_KEYS else "")
        raise _other_shape(where, f"one object without an array of rows at its top (it has: {shown or 'nothing'})")


def _other_shape(where: str, what: str, path: str = ".PATH.TO.ROWS[]") -> InputError:
    return InputError(
        f"{where} holds {what}.",
        hint=f"An array of rows is read, [{{...}}, ...], or one object that has one. jq -c '{path}' FILE >ROWS.jsonl "
        "takes rows out of anything else.",
    )


def _finite(digits: str) -> float:
    value = float(digits)
    if not isfinite(value):
        raise ValueError(f"the number {digits[:40]} is too large")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


class _Text:
    """Text that arrives in chunks, read value by value."""

    def __init__(self, chunks: Iterator[bytes], where: str) -> None:
        self._chunks = chunks
        self._where = where
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._raw_decode = json.JSONDecoder(parse_float=_finite, parse_constant=_no_constant).raw_decode
        self._text = ""
        self._at = 0
        self._line, self._column = 1, 0
        """Where the first character held is in the text."""
        self._more = True

    def peek(self) -> str:
        """The next character that is not blank, empty at the end."""
        if self._at < len(self._text) and (sign := self._text[self._at]) not in _BLANKS:
            return sign
        while True:
            blank = _BLANK.match(self._text, self._at)
            self._at = blank.end() if blank else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._fill():
                return ""

    def members(self) -> Iterator[str]:
        """The keys of an object; whoever asks for the next has taken the value of the last."""
        self._take("{")
        if self._ends("}"):
            return
        while True:
            if self.peek() != '"':
                self.fail("a key in double quotes was expected")
            key: str = self.value()
            self._take(":")
            yield key
            if self._ends("}"):
                return
            self._take(",")

    def array(self) -> Iterator[Any]:
        self._take("[")
        if self._ends("]"):
            return
        while True:
            yield self.value()
            sign = self.peek()
            if sign not in (",", "]"):
                self.fail("',' or ']' was expected")
            self._at += 1
            if sign == "]":
                return

    def value(self) -> Any:
        """The next value; more is read until it is whole."""
        opening = self.peek() in _OPENING
        while True:
            try:
                value, end = self._raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                near = error.pos + _NEAR_END_CHARS >= len(self._text) or error.msg.startswith("Unterminated")
                if near and self._fill():
                    continue
                self._at = error.pos
                self.fail(error.msg[:1].lower() + error.msg[1:])
            except (ValueError, RecursionError) as error:
                self.fail(str(error))
            if opening or end + _NEAR_END_CHARS < len(self._text) or not self._fill():
                break
        if _HALF_PAIR.search(self._text, self._at, end):
            self._refuse_half_pair(end)
        self._at = end
        return value

    def _refuse_half_pair(self, end: int) -> None:
        try:
            msgspec.json.decode(self._text[self._at : end])
        except (msgspec.DecodeError, UnicodeError):
            self.fail("there is half of a surrogate pair, which is no text")

    def _ends(self, sign: str) -> bool:
        if self.peek() != sign:
            return False
        self._at += 1
        return True

    def _take(self, sign: str) -> None:
        if not self._ends(sign):
            self.fail(f"{sign!r} was expected")

    def _fill(self) -> bool:
        """Let go of what was given, and read what comes; of a large value as much again as is held. False at the end."""
        if not self._more:
            return False
        self._line, self._column = self._place()
        parts = [self._text[self._at :]]
        self._at = 0
        held = len(parts[0])
        wanted = 2 * held if held > _LARGE_CHARS else held
        if held > MAX_LINE_BYTES:
            self._text = parts[0]
            self.fail(f"a value of more than {MAX_LINE_BYTES // 1024**2} MiB")
        while held <= wanted and self._more:
            chunk = next(self._chunks, b"")
            self._more = bool(chunk)
            try:
                parts.append(self._decode(chunk, final=not chunk))
            except UnicodeDecodeError as error:
                self._text = "".join(parts) + error.object[: error.start].decode()
                self._at = len(self._text)
                self.fail(f"the byte 0x{error.object[error.start]:02x} is no UTF-8 text")
            held += len(parts[-1])
        self._text = "".join(parts)
        if "\0" in self._text:
            self._at = self._text.index("\0")
            raise nul(self._where, self._place()[0])
        return True

    def _place(self) -> tuple[int, int]:
        """Line and column of what comes next."""
        end = self._text.rfind("\n", 0, self._at)
        line = self._line + self._text.count("\n", 0, self._at)
        return line, self._at - end - 1 if end >= 0 else self._column + self._at

    def fail(self, what: str, *, hint: str = "Check that the file is whole and was written by a program.") -> NoReturn:
        line, column = self._place()
        ahead = self._text[self._at : self._at + 20]
        told = f"no valid JSON ({what}, at {ahead!r})" if ahead or self._more else f"the JSON is cut off ({what})"
        raise InputError(f"{self._where}, line {line}, character {column + 1}: {told}.", hint=hint)
