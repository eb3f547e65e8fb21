"""What knowing its cost adds to a call: looking a model up, once a run, and reckoning, for each call.

    python benchmarks/price.py

The best of several rounds, in CPU time of this process.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from headrace.task.price import bundled

ROUNDS, CALLS = 9, 50_000
MOST_US = 5.0


def each_us(work: Callable[[], object]) -> float:
    """Microseconds of one, without the loop around it."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(CALLS):
            work()
        took = time.process_time() - start
        start = time.process_time()
        for _ in range(CALLS):
            pass
        best = min(best, took - (time.process_time() - start))
    return 1e6 * best / CALLS


def main() -> None:
    start = time.process_time()
    found = bundled("claude-sonnet-4-5", "https://api.anthropic.com", datetime.now(UTC)).price
    first_ms = 1000 * (time.process_time() - start)
    if found is None:
        raise SystemExit("genai-prices has no price for claude-sonnet-4-5 any more.")
    print(f"looked up, with the import: {first_ms:.0f} ms, once a run")
    usd = each_us(lambda: found.usd(1_000, 200, 500, 50))
    worst = each_us(lambda: found.worst(1_000, 200))
    print(f"what a call cost: {usd:.2f} us; what it may cost at most: {worst:.2f} us; together {usd + worst:.2f} us")
    if usd + worst > MOST_US:
        raise SystemExit(f"more than {MOST_US:g} us")


if __name__ == "__main__":
    main()
