"""`headrace tweets`: the tweets of a feed that are worth a closer look; words in, exit status out."""

import argparse
from typing import Any

from headrace.cli.flags import add_application
from headrace.core.errors import UsageError


def add_arguments(words: argparse.ArgumentParser) -> None:
    words.usage = "headrace tweets FEED --model MODEL [--top N] [--deadline S] [-o FILE] [--report R.html] [...]"
    words.add_argument("input", metavar="FEED", help="a table (CSV, JSON Lines ...), or - for a feed that does not end")
    words.add_argument("--top", metavar="N", type=int, default=3, help="how many tweets are looked at closely (3)")
    words.add_argument("--topic", metavar="TEXT", help="what the feed is watched for")
    words.add_argument("--text", metavar="COLUMN", default="text", help="the column of the tweet's words (text)")
    words.add_argument(
        "--window", metavar="S", type=float,
        help="the best N of each so many seconds, rather than of the whole feed (60 where FEED is -)",
    )  # fmt: skip
    add_application(words)
    words.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    from headrace.apps import tweets  # noqa: PLC0415 - the help needs no types of answers
    from headrace.apps.tweets.asking import TOPIC  # noqa: PLC0415 - as above
    from headrace.apps.tweets.scanning import MAX_FAILURE_RATE, WINDOW_S, timing_of  # noqa: PLC0415 - as above
    from headrace.cli.application import asked_of, carry_out, model_of_application  # noqa: PLC0415 - as above

    window = WINDOW_S if args.window is None and args.input == "-" else args.window
    if not args.text or set(args.text) & set("{}"):
        raise UsageError(f"The column {args.text!r} cannot be asked about.", hint="Name a column of the feed.")
    if args.max_failure_rate is None:
        args.max_failure_rate = MAX_FAILURE_RATE
    work = tweets.pipeline(
        model_of_application(args), top=args.top, text=args.text, topic=args.topic or TOPIC,
        **timing_of(deadline=args.deadline, window=window), **asked_of(args),
    )  # fmt: skip

    def ending(run: Any) -> tuple[bool, list[str]]:
        scan = tweets.scan_of(run, args.text)
        if args.report is not None:
            run.report(args.report, sections=tweets.sections(scan, args.text), title="Tweets worth a closer look")
        return not scan.unscreened, [_told(scan)]

    return carry_out(args, work, ending)


def _told(scan: Any) -> str:
    moods = ", ".join(f"{count:,} {mood}" for mood, count in scan.sentiments.most_common())
    said = f"{scan.screened:,} tweets screened ({moods}), {len(scan.picks):,} looked at closely."
    return f"{said} A partial result. {scan.reason}" if scan.partial else said
