"""A document's text within so many characters, the parts that matter first. Enter a title and blocks, leave text.

1. What is given stands in its order, and `[...]` stands where something is left out.
2. First come the title, the lead, the headings, how each section begins, and the conclusions; then the rest in order.
3. Sentences are taken whole. One that is too long for that is cut between words, and a word only where it is longer
   than a fifth of the room.
"""

import re
from bisect import bisect, insort
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import msgspec

from headrace.data.document import Block

GAP = "[...]"
_LEAD_SHARE = 0.2
_HEADINGS_SHARE = 0.2
_BEGINNINGS_SHARE = 0.3
_CONCLUSIONS_SHARE = 0.2
"""Of the room, for each of these at most; what one leaves the next may take."""
_LONGEST = 400
"""Characters of a piece that is taken as a whole."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[\u3002\uff01\uff1f])")
_CONCLUSION = re.compile(
    r"conclusion|summary|takeaway|findings|outlook|fazit|zusammenfassung|schluss|ausblick|conclusión|conclusiones|resumen"
    r"|conclus|résumé|bilan|riassunto|samenvatting|итог|заключение|вывод|结论|总结|まとめ|結論",
    re.IGNORECASE,
)


class _Piece(msgspec.Struct, frozen=True, gc=False):
    text: str
    block: int
    glue: str
    """Between it and the piece before it in the same block."""


def excerpt(title: str, blocks: Sequence[Block], most: int = 0) -> str:
    """The text of a document in at most `most` characters; 0 is all of it. Headings are lines that begin with `#`."""
    if title and blocks and blocks[0].level == 1 and blocks[0].text == title:
        blocks = blocks[1:]  # the title says it
    pieces = list(_pieces(title, blocks, _LONGEST))
    if most <= 0 or _length(pieces) <= most:
        return _joined(pieces, range(len(pieces)))
    if most < len(GAP):
        return ""
    pieces = list(_pieces(title, blocks, max(1, min(_LONGEST, most // 5))))
    return _joined(pieces, _Choice(pieces, most).made(blocks, titled=bool(title)))


class _Choice:
    """Which pieces there is room for, with the exact length of the text that they make."""

    def __init__(self, pieces: Sequence[_Piece], most: int) -> None:
        self._pieces = pieces
        self._most = most
        self._taken: list[int] = []
        self._length = len(GAP)

    def made(self, blocks: Sequence[Block], *, titled: bool) -> list[int]:
        by_block: dict[int, list[int]] = {}
        for at, piece in enumerate(self._pieces):
            by_block.setdefault(piece.block, []).append(at)
        sections = _sections(blocks)
        if titled:
            self._take(by_block[-1])
        lead = [at for block in _lead(blocks) for at in by_block[block]]
        self._take(lead[:1])
        self._take(lead, _LEAD_SHARE)
        headings = [number for number, block in enumerate(blocks) if block.level]
        self._take([at for block in headings for at in by_block[block]], _HEADINGS_SHARE, each=True)
        begun = [by_block[section[0]][0] for section in sections if self._has(by_block[section[0] - 1][0])]
        self._take(begun, _BEGINNINGS_SHARE, each=True)
        self._take([at for block in _conclusions(blocks, sections) for at in by_block[block]], _CONCLUSIONS_SHARE)
        self._take(range(len(self._pieces)))
        return self._taken

    def _has(self, at: int) -> bool:
        place = bisect(self._taken, at)
        return bool(place) and self._taken[place - 1] == at

    def _take(self, pieces: Iterable[int], share: float = 1.0, *, each: bool = False) -> None:
        """Those that fit into a share of the room, up to the first that does not; or each one that does."""
        most = min(self._most, self._length + int(self._most * share))
        for at in pieces:
            if not self._has(at) and not self._fits(at, most) and not each:
                return

    def _fits(self, at: int, most: int) -> bool:
        place = bisect(self._taken, at)
        before = self._taken[place - 1] if place else -1
        after = self._taken[place] if place < len(self._taken) else len(self._pieces)
        added = self._between(before, at) + len(self._pieces[at].text) + self._between(at, after)
        length = self._length + added - self._between(before, after)
        if length > most:
            return False
        insort(self._taken, at)
        self._length = length
        return True

    def _between(self, left: int, right: int) -> int:
        return len(_between(self._pieces, left, right))


def _between(pieces: Sequence[_Piece], left: int, right: int) -> str:
    """What stands between two pieces that follow each other in the text; -1 and the number of pieces are its ends."""
    end = len(pieces)
    if left < 0 or right == end:
        skipped = right - left > 1
        if not skipped:
            return ""
        if left < 0:
            return GAP if right == end else f"{GAP}\n\n"
        same = left + 1 < end and pieces[left + 1].block == pieces[left].block
        return f" {GAP}" if same else f"\n\n{GAP}"
    same = pieces[left].block == pieces[right].block
    if right == left + 1:
        return pieces[right].glue if same else "\n\n"
    return f" {GAP} " if same else f"\n\n{GAP}\n\n"


def _joined(pieces: Sequence[_Piece], taken: Sequence[int]) -> str:
    parts, before = [], -1
    for at in taken:
        parts += [_between(pieces, before, at), pieces[at].text]
        before = at
    return "".join(parts) + _between(pieces, before, len(pieces)) if pieces else ""


def _length(pieces: Sequence[_Piece]) -> int:
    """Of all of them joined."""
    return sum(len(piece.text) for piece in pieces) + sum(
        len(piece.glue) if piece.block == before.block else 2 for before, piece in pairwise(pieces)
    )


def _pieces(title: str, blocks: Sequence[Block], longest: int) -> Iterator[_Piece]:
    if title:
        yield from _cut(f"# {title}", -1, longest)
    for number, block in enumerate(blocks):
        signs = "#" * min(6, max(block.level, 2 if title else 1)) + " " if block.level else ""
        yield from _cut(signs + block.text, number, longest)


def _cut(text: str, block: int, longest: int) -> Iterator[_Piece]:
    """Sentences; those that are too long in parts of whole words, and words that are too long anyhow."""
    glue = ""
    for sentence in _SENTENCE.split(text):
        start = 0
        while len(sentence) - start > longest:
            at = sentence.rfind(" ", start + 1, start + longest + 1)
            end = at if at > 0 else start + longest
            yield _Piece(sentence[start:end], block, glue)
            start, glue = (end + 1, " ") if at > 0 else (end, "")
        yield _Piece(sentence[start:], block, glue)
        glue = " " if sentence[-1:].isascii() else ""


def _lead(blocks: Sequence[Block]) -> list[int]:
    """The text before the second heading, or the first text there is."""
    texts = [number for number, block in enumerate(blocks) if not block.level]
    first = texts[:1]
    ends = next((number for number, block in enumerate(blocks) if block.level and first and number > first[0]), None)
    return [number for number in texts if ends is None or number < ends]


def _sections(blocks: Sequence[Block]) -> list[list[int]]:
    """The text below each heading that has some of its own."""
    sections: list[list[int]] = []
    below = False
    for number, block in enumerate(blocks):
        if block.level:
            below = True
            sections.append([])
        elif below:
            sections[-1].append(number)
    return [section for section in sections if section]


def _conclusions(blocks: Sequence[Block], sections: list[list[int]]) -> list[int]:
    """The last section that is called so, with its heading; else the last text."""
    for section in reversed(sections):
        if _CONCLUSION.search(blocks[section[0] - 1].text):
            return [section[0] - 1, *section]
    return [number for number, block in enumerate(blocks) if not block.level][-1:]
