"""What a draw makes of a budget and the purses on it. Pure: both stores ask this, so that they agree.

A purse whose owner is gone is spent in full: a call that it had in flight may have been paid for.
"""

from collections.abc import Callable, Mapping

import msgspec

from headrace.core.ports import Drawn


class Held(msgspec.Struct, frozen=True):
    """One purse."""

    owner: str
    taken: int
    spent: int


class Budget(msgspec.Struct, frozen=True):
    limit: int
    spent: int
    """By purses that are gone."""
    purses: Mapping[str, Held] = {}


class Draw(msgspec.Struct, frozen=True):
    """What a purse asks for; see core.ports.Budgets."""

    budget: str
    purse: str
    spent: int
    hold: int
    limit: int | None


def drawn(before: Budget | None, asked: Draw, owner: str, is_alive: Callable[[str], bool]) -> tuple[Budget, Drawn]:
    """The budget after this draw, and what the purse is told."""
    known = before or Budget(0, 0)
    opens = asked.limit is not None
    known = closed(known, lambda name, holder: is_alive(holder) and not (opens and name == asked.purse))
    limit = known.limit if asked.limit is None else asked.limit
    others = {name: held for name, held in known.purses.items() if name != asked.purse}
    mine = known.purses.get(asked.purse, Held(owner, 0, 0))
    room = limit - known.spent - sum(held.taken for held in others.values()) - mine.taken
    taken = max(asked.spent, min(asked.spent + asked.hold, mine.taken + max(0, room)))
    after = Budget(limit, known.spent, {**others, asked.purse: Held(owner, taken, asked.spent)})
    return after, stands(after, asked.purse)


def stands(budget: Budget, purse: str = "") -> Drawn:
    """The budget as this purse sees it, or nobody in particular."""
    mine = budget.purses.get(purse, Held("", 0, 0))
    others = sum(held.taken - held.spent for name, held in budget.purses.items() if name != purse)
    spent = budget.spent + sum(held.spent for held in budget.purses.values())
    return Drawn(budget.limit, spent, mine.taken, others)


def closed(budget: Budget, is_open: Callable[[str, str], bool]) -> Budget:
    """Without the purses that are no longer open, by their names and owners."""
    gone = [name for name, held in budget.purses.items() if not is_open(name, held.owner)]
    left = {name: held for name, held in budget.purses.items() if name not in gone}
    return Budget(budget.limit, budget.spent + sum(budget.purses[name].taken for name in gone), left)
