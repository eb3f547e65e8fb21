"""How long a limit's window is, which hardly any header says. Enters what one told, leaves seconds.

The rule: a limit is whole again within its own window, so a window is at least as long as its reset.
- OpenAI's names mean a minute, until a request limit's reset is longer than one. Then what was used and how long that
  takes to refill give the window (reset x limit / used), because those who tell such limits, OpenAI for small accounts
  and Groq, refill a day's limit steadily: 1 of 10,000 used, whole again in 8.64 s. Until 1/1440 of a day's limit is
  used it is taken for a minute's: too generous by just that part. A token limit is always a minute's.
- Names that tell neither unit nor window count requests, in the shortest of 1, 10 and 60 s that holds the reset: too
  generous at first, and right as soon as it matters, where a window that is taken too long would hold back for nothing.
"""

SECOND_S, MINUTE_S, HOUR_S, DAY_S, MONTH_S = 1.0, 60.0, 3600.0, 86_400.0, 30 * 86_400.0

NAMED = (MINUTE_S, HOUR_S, DAY_S)
BARE = (SECOND_S, 10.0, MINUTE_S, HOUR_S, DAY_S)
_SLACK = 1.1


def window_of(windows: tuple[float, ...], limit: float | None, remaining: float | None, reset_s: float | None) -> float:
    """Which of `windows` a limit has, going by its reset."""
    if len(windows) == 1:
        return windows[0]
    if reset_s is None:
        return MINUTE_S
    if reset_s <= _SLACK * MINUTE_S:
        return next(window for window in windows if reset_s <= _SLACK * window)
    used = limit - remaining if limit is not None and remaining is not None else 0.0
    whole_s = reset_s * limit / used if limit is not None and used > 0 else reset_s
    if whole_s * whole_s < MINUTE_S * HOUR_S:  # the nearest in proportion
        return MINUTE_S
    return HOUR_S if whole_s * whole_s < HOUR_S * DAY_S else DAY_S
