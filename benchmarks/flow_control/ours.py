"""headrace over the items of one cell, with a store of its own; and what its events say of what held it up."""

import json
import sys
import tempfile
import time
from collections import Counter
from typing import Any

import headrace as hr
import headrace.provider.aio  # loaded with the first run otherwise; no contender's imports are counted
from headrace.core.event import CallEnded, CallStarted, Event, Gauge, Held, LimitChanged, Stopping

MOST_CHANGES = 40


class Why:
    """Where the time went, as the events tell it."""

    def __init__(self) -> None:
        self.waited_s: dict[str, float] = {}
        self.errors: Counter[str] = Counter()
        self.backups = 0
        self.story: list[str] = []
        self._start_s: float | None = None

    def hear(self, event: Event) -> None:
        start_s = self._start_s = event.at_s if self._start_s is None else self._start_s
        at = f"{event.at_s - start_s:.1f} s"
        match event:
            case CallStarted(backup=True):
                self.backups += 1
            case CallEnded(error=error) if error:
                self.errors[error] += 1
            case Gauge(waited_s=waited_s):
                self.waited_s = dict(waited_s)
            case LimitChanged(unit=unit, limit=limit, reason=reason) if len(self.story) < MOST_CHANGES:
                self.story.append(f"{at}: {unit} {'open' if limit is None else format(limit, '.4g')} ({reason})")
            case Held(until_s=until_s, reason=reason) if len(self.story) < MOST_CHANGES:
                self.story.append(f"{at}: held for {until_s - event.at_s:.1f} s ({reason})")
            case Stopping(reason=reason):
                self.story.append(f"{at}: stopping ({reason})")

    def told(self) -> dict[str, Any]:
        waited = {cause: round(seconds, 1) for cause, seconds in self.waited_s.items() if seconds >= 0.1}
        return {"waited_s": waited, "errors": dict(self.errors), "backups": self.backups, "story": self.story}


def main() -> None:
    told = json.load(sys.stdin)
    ask = hr.Ask("{text}", model=hr.Model("openai:m", base_url=told["url"], api_key="none"))
    rows = [{"text": prompt} for prompt in told["prompts"]]
    limits = hr.Limits(concurrency=told["stated"] or "auto", rpm=told["rpm"])
    why = Why()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        try:
            made = hr.run(
                ask, rows, name="flow", store=f"{folder}/s.db", limits=limits, backup=told["backup"],
                deadline=told["cap_s"], on_event=why.hear,
            )  # fmt: skip
            ok = made.ok
        except hr.HeadraceError as error:  # what was answered until then is in the store, but it was not delivered
            ok = 0
            why.story.append(f"{type(error).__name__}: {error}")
        seconds = time.perf_counter() - start
    print(json.dumps({"ok": ok, "seconds": seconds, "why": why.told(), "version": hr.__version__}))


if __name__ == "__main__":
    main()
