"""A run that ended in words: the summary, and what failed. Enters a snapshot, leaves lines. Names, messages and keys are
foreign text: see `printable`."""

from collections.abc import Iterator, Sequence

from headrace.engine.snapshot import FailureGroup, Snapshot
from headrace.report.lines import cost_line, failed_calls, limit_used, paid_again_line, retries_told
from headrace.report.signs import Glyphs, Part, printable
from headrace.report.stages import stage_lines
from headrace.report.text import duration, keys_told, percent, plural, rate, size

_GROUPS_SHOWN = 5
_KEYS_SHOWN = 3
_KEY_WIDTH = 40
_AVERAGE_AFTER_S = 5.0
_BOUND_LEAST = 0.1
"""A cause is worth a word in the summary where calls waited for it in this share of the run."""
_NAME_WIDTH = 200
_MESSAGE_WIDTH = 300
_KINDS_SHOWN = 3


def summary_lines(snapshot: Snapshot, glyphs: Glyphs) -> Iterator[Part]:
    words = {"finished": "Done", "interrupted": "Interrupted", "stopped": "Stopped early"}
    opening = words.get(snapshot.status, printable(snapshot.status or "Ended", _NAME_WIDTH, glyphs.more))
    if snapshot.status == "stopped" and snapshot.reason:
        opening += f": {printable(snapshot.reason, _MESSAGE_WIDTH, glyphs.more)}"
    yield (f"{opening.rstrip('.')}.", "bold" if snapshot.status == "finished" else "bold yellow")
    parts = [f"{snapshot.ok:,} ok", f"{snapshot.failed:,} failed"]
    more = {"taken out": snapshot.dropped, "pending": snapshot.pending}
    parts += [f"{count:,} {what}" for what, count in more.items() if count]
    stored = f"; {snapshot.cached:,} came from the store" if snapshot.cached else ""
    yield (f"  {plural(snapshot.done + snapshot.pending, 'item')}: {', '.join(parts)}{stored}", "")
    yield (f"  {_paid(snapshot)}", "")
    if cost := cost_line(snapshot):
        yield (f"  {cost}", "")
    pace = f"  {duration(snapshot.seconds)}{f', {rate(snapshot.rate)}' if snapshot.has_pace else ''}"
    if snapshot.calls:
        pace += f", at most {snapshot.most_in_flight:,} in flight"
    yield (pace, "")
    yield from ((f"  {', '.join(text for text, _ in stage)}", "") for stage in stage_lines(snapshot, glyphs))
    yield from ((f"  {printable(text, _MESSAGE_WIDTH, '...')}", "dim") for text in _details(snapshot) if text)
    if snapshot.failures:
        yield ("", "")
        yield from _groups(snapshot.failures, glyphs)


def _paid(snapshot: Snapshot) -> str:
    paid = [plural(snapshot.calls, "call")]
    if snapshot.retries:
        paid.append(f"{retries_told(snapshot.retries)} among them")
    if snapshot.backups:
        paid.append(plural(snapshot.backups, "backup"))
    if snapshot.input_tokens or snapshot.output_tokens:
        paid.append(f"{plural(snapshot.input_tokens, 'token')} in, {snapshot.output_tokens:,} out")
    return ", ".join(paid)


def _bound(snapshot: Snapshot) -> str:
    """What calls waited for, as shares of the run."""
    ranked = sorted(snapshot.waited_s.items(), key=lambda pair: -pair[1])
    causes = [(cause, s) for cause, s in ranked if s >= _BOUND_LEAST * snapshot.seconds > 0][:_KINDS_SHOWN]
    shares = [f"{cause} {percent(s, max(s, snapshot.seconds))}" for cause, s in causes]
    return f"bound by {', '.join(shares)} of the time" if shares else ""


def _details(snapshot: Snapshot) -> Iterator[str]:
    if snapshot.p50_s is not None and snapshot.p95_s is not None and snapshot.p99_s is not None:
        times = f"{duration(snapshot.p50_s)} median, {duration(snapshot.p95_s)} P95, {duration(snapshot.p99_s)} P99"
        yield f"a call: {times}"
    yield _bound(snapshot)
    limits = [limit_used(use, use.mean_pace) for use in snapshot.uses[1:] if use.allowed is not None]
    long = snapshot.seconds >= _AVERAGE_AFTER_S  # a few calls at once are no average
    yield f"used on average: {', '.join(limits)}" if limits and long else ""
    yield failed_calls(snapshot.call_errors) if snapshot.call_errors else ""
    again = paid_again_line(snapshot)
    yield f"perhaps paid for and not used: {again}" if again else ""
    process = [f"CPU {duration(snapshot.cpu_s)}"] if snapshot.cpu_s else []
    process += [f"at most {size(snapshot.memory_bytes)} of memory"] if snapshot.memory_bytes else []
    yield f"this process: {', '.join(process)}" if process else ""


def failure_lines(snapshot: Snapshot, glyphs: Glyphs) -> Iterator[Part]:
    """The errors alone, for a quiet run."""
    if snapshot.status not in {"", "finished"} and snapshot.reason:
        yield (f"{snapshot.status}: {printable(snapshot.reason, _MESSAGE_WIDTH, glyphs.more)}", "")
    yield from _groups(snapshot.failures, glyphs)


def _groups(groups: Sequence[FailureGroup], glyphs: Glyphs) -> Iterator[Part]:
    for group in groups[:_GROUPS_SHOWN]:
        kind = printable(group.kind, _NAME_WIDTH, glyphs.more)
        yield (f"{group.count:,} failed, {kind}: {printable(group.message, _MESSAGE_WIDTH, glyphs.more)}", "red")
        if group.hint:
            yield (f"  {glyphs.arrow} {printable(group.hint, _MESSAGE_WIDTH, glyphs.more)}", "")
        if group.keys:
            keys = [printable(key, _KEY_WIDTH, glyphs.more) for key in group.keys[:_KEYS_SHOWN]]
            yield (f"  {keys_told(keys, group.count)}", "dim")
    left = len(groups) - _GROUPS_SHOWN
    if left > 0:
        yield (f"and {plural(left, 'other kind')} of failure", "red")
