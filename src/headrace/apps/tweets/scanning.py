"""From a feed to the tweets that are worth a closer look, and figures of all others."""

import asyncio
import heapq
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import headrace as hr
from headrace.apps.tweets.asking import TOPIC, DeepDive, Screening, pipeline, score

WINDOW_S = 60.0
"""Of a feed that does not end."""
CHOSEN_AT = 0.5
"""The part of a deadline after which the best so far are chosen: the rest is for looking at them."""
MAX_FAILURE_RATE = 0.5
NEXT = 20


@dataclass(frozen=True)
class Pick:
    """A tweet that was looked at closely."""

    key: str
    tweet: Mapping[str, Any]
    """The row of the feed, with its screening."""
    score: float
    dive: DeepDive


@dataclass(frozen=True)
class Scan:
    """What came of a feed. The run has all of it, tweet for tweet."""

    run: hr.Run[DeepDive]
    picks: tuple[Pick, ...]
    """The best first."""
    failed: tuple[hr.Outcome[Any], ...]
    """Tweets of which something failed, each with its row: `.item`, `.error`, and `.stage`."""
    screened: int
    unscreened: int
    """Tweets to which the time did not suffice."""
    sentiments: Counter[str]
    claims: int
    others: tuple[tuple[float, Mapping[str, Any]], ...]
    """The next best, which were not looked at: score and row."""

    @property
    def partial(self) -> bool:
        """Whether the deadline or something else ended it before its feed."""
        return bool(self.reason)

    @property
    def reason(self) -> str:
        """Why the result is a partial one; empty where it is whole."""
        late = f"{self.unscreened:,} tweets were not screened in time." if self.unscreened else ""
        return late if self.run.status == "finished" else f"{self.run.reason} {late}".strip()


def scan(feed: Any, **how: Any) -> Scan:
    """`ascan` for programs without an event loop."""
    return asyncio.run(ascan(feed, **how))


async def ascan(
    feed: Any, *, model: str | hr.Model, top: int = 3, text: str = "text", topic: str = TOPIC,
    window: float | None = None, deadline: float | None = None, asked: Mapping[str, Any] = {}, **how: Any,
) -> Scan:  # fmt: skip
    """The tweets of a feed that are worth a closer look, each looked at closely.

    Args:
        feed: As for `hr.run`: a path, `-`, rows, an async iterable.
        model: As for `hr.Ask`.
        top: How many are looked at closely.
        text: The column of the tweet's words.
        topic: What the feed is watched for.
        window: For a feed that does not end: the best `top` of each so many seconds.
        deadline: Seconds for all of it. At half of them the best so far are chosen, so that time is left to look at them.
        asked: What both questions are asked with, as `temperature`.
        how: All else that `hr.run` takes.

    Tweets that fail are part of the result. Raises what `hr.run` does: where half of the tweets fail (`max_failure_rate`)
    or nothing works, that is no matter of single tweets, and the scan stops early and says why.
    """
    timing = timing_of(deadline=deadline, window=window)
    made = pipeline(model, top=top, text=text, topic=topic, **timing, **asked)
    run = await hr.arun(made, feed, deadline=deadline, **{"max_failure_rate": MAX_FAILURE_RATE, **how})
    return scan_of(run, text)


def timing_of(*, deadline: float | None, window: float | None) -> dict[str, float | None]:
    """When the best are chosen: at the end, in each window, or so that the deadline can be met."""
    soon = None if deadline is None else deadline * CHOSEN_AT
    if window is None:
        return {"within": soon, "window": None}
    return {"within": None, "window": window if soon is None else min(window, soon)}


def scan_of(run: hr.Run[DeepDive], text: str = "text") -> Scan:
    """What a run of the pipeline came to, read from its store in bounded memory."""
    picks = [
        Pick(outcome.key, outcome.item, _score(outcome.item) or 0.0, outcome.value)
        for outcome in run if outcome.value is not None
    ]  # fmt: skip
    sentiments: Counter[str] = Counter()
    claims = unscreened = 0
    for outcome in itertools.chain(run, run.drops()):
        row = outcome.item
        if _score(row) is not None:
            sentiments[row["sentiment"]] += 1
            claims += bool(row["claim"])
        elif outcome.error is None and row is not None:  # there is none where the store keeps no rows
            unscreened += 1
    return Scan(
        run=run, picks=tuple(sorted(picks, key=lambda pick: -pick.score)), failed=tuple(run.failures()),
        screened=sentiments.total(), unscreened=unscreened, sentiments=sentiments, claims=claims,
        others=tuple(_next_best(run, text, {pick.tweet.get(text) for pick in picks})),
    )  # fmt: skip


def _next_best(run: hr.Run[DeepDive], text: str, seen: set[Any]) -> Iterator[tuple[float, Mapping[str, Any]]]:
    """Of those that were not chosen; each tweet once."""
    best: list[tuple[float, int, Mapping[str, Any]]] = []
    for number, outcome in enumerate(run.drops()):
        found = _score(outcome.item)
        words = outcome.item.get(text) if found is not None else None
        if found is None or words in seen or any(row.get(text) == words for _, _, row in best):
            continue
        entry = (found, -number, outcome.item)
        heapq.heappush(best, entry) if len(best) < NEXT else heapq.heappushpop(best, entry)
    for score_of_it, _, row in sorted(best, key=lambda entry: entry[:2], reverse=True):
        yield score_of_it, row


def _score(row: Any) -> float | None:
    """None where there is no screening."""
    if not isinstance(row, Mapping) or not Screening.model_fields.keys() <= row.keys():
        return None
    try:
        return score(row)
    except TypeError:  # columns of that name in the feed itself
        return None
