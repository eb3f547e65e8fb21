"""What a simulated provider was asked and what it was paid for; counts only, no time and no I/O."""

from hashlib import sha256
from typing import Any

NAME_LONGEST = 200
"""An item whose text is longer is named by its first 80 characters and 16 hex digits of its SHA-256."""


def item_name(text: str) -> str:
    """How the ledger names an item: the text of the last user message, shortened where it is long."""
    if len(text) <= NAME_LONGEST:
        return text
    return text[:80] + sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Ledger:
    """The provider's own books, to hold against what a client believes.

    An answer is paid when all of it is produced and good: in process, as it is returned to the caller; on the server,
    in the moment its whole body is handed to the socket, also where the client has gone by then and nobody noticed.
    Errors, resets, hangs, malformed and cut answers are never paid, nor is a call that the client left before its
    answer was ready (its status is `gone`). `most_in_flight` counts calls that were then refused for being too many.
    """

    def __init__(self, *, per_item: bool = True) -> None:
        self.per_item = per_item
        self.in_flight = 0
        self.reset()

    def reset(self) -> None:
        """Forget all but the calls in flight now."""
        self.most_in_flight = self.in_flight
        self.by_status: dict[str, int] = {}
        self.items: dict[str, int] = {}
        self.paid = 0
        self.input_tokens = 0
        self.output_tokens = 0

    def arrived(self) -> None:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def left(self, status: str) -> None:
        """A call ended, with an HTTP status or with what became of it: reset, hang, malformed, cut, gone."""
        self.in_flight -= 1
        self.count(status)

    def count(self, status: str) -> None:
        self.by_status[status] = self.by_status.get(status, 0) + 1

    def pay(self, text: str, input_tokens: int, output_tokens: int) -> None:
        """`text` is the last user message of the call that was answered."""
        self.paid += 1
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens
        if self.per_item:
            name = item_name(text)
            self.items[name] = self.items.get(name, 0) + 1

    def as_json(self, *, items: bool = True) -> dict[str, Any]:
        """What GET /ledger shows; `items` maps each item's name to its paid answers."""
        shown: dict[str, Any] = {
            "requests": sum(self.by_status.values()) + self.in_flight,
            "by_status": dict(sorted(self.by_status.items())),
            "in_flight": self.in_flight,
            "most_in_flight": self.most_in_flight,
            "paid": self.paid,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
        }
        if items:
            shown["items"] = self.items
        return shown

    def __repr__(self) -> str:
        return f"Ledger(paid={self.paid}, in_flight={self.in_flight}, most_in_flight={self.most_in_flight})"
