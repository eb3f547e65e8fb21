"""`headrace documents`: what documents are and say; words in, exit status out."""

import argparse
from pathlib import Path
from typing import Any

from headrace.cli.flags import add_application
from headrace.core.errors import UsageError

_MODES = ("async", "sync", "process", "hybrid")


def add_arguments(words: argparse.ArgumentParser) -> None:
    words.usage = "headrace documents URLS|FOLDER|SITEMAP --model MODEL [--pages FOLDER] [--report R.html] [...]"
    words.add_argument(
        "input", metavar="URLS|FOLDER|SITEMAP",
        help="a file of addresses (a line each, or a CSV file with the column url), a folder of documents, or a sitemap",
    )  # fmt: skip
    words.add_argument("--max-workers", metavar="N", type=int, default=5, help="downloads at once (5)")
    words.add_argument(
        "--parallelism-mode", choices=_MODES, default="async",
        help="async: documents are read beside the event loop (default); process: in --analysis-workers processes; hybrid: on "
        "every core; sync: one document after the other",
    )  # fmt: skip
    words.add_argument(
        "--analysis-workers", metavar="N", type=int, default=3, help="questions at once (3), where --concurrency says nothing"
    )  # fmt: skip
    words.add_argument(
        "--batch-size", metavar="N", type=int, default=0, help="documents in flight; 0 follows their size (default)"
    )
    words.add_argument("--questions", metavar="FILE", help="questions of your own about each document (.toml)")
    words.add_argument("--every", action="store_true", help="look closely at all documents")
    words.add_argument("--no-synthesis", action="store_true", help="do not ask what all documents say together")
    words.add_argument("--pages", metavar="FOLDER", help="write a page for each document, and a table of all")
    words.add_argument(
        "--allow", metavar="HOST", action="append", default=[], help="a private host that may be fetched (repeatable)"
    )
    add_application(words, of_tables=False)
    words.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    import headrace as hr  # noqa: PLC0415 - the help needs nothing of it
    from headrace.api import run_sync  # noqa: PLC0415 - as above
    from headrace.apps import documents  # noqa: PLC0415 - as above
    from headrace.cli.application import asked_of, carry_out, model_of_application, shared_budget  # noqa: PLC0415 - as above

    _check(args)
    model, asked, mode = model_of_application(args), asked_of(args), args.parallelism_mode
    questions = documents.QUESTIONS if args.questions is None else documents.read_questions(args.questions)
    places = documents.find(args.input, allow=args.allow, store=args.store)
    workers = args.max_workers + args.analysis_workers
    if args.concurrency == "auto":
        args.concurrency = 1 if mode == "sync" else args.analysis_workers
    args.key, args.name = "document", args.name or places.name
    work = documents.pipeline(
        model, are_files=places.are_files, questions=questions, max_workers=args.max_workers, mode=mode,
        workers=args.analysis_workers, in_flight=args.batch_size or documents.in_flight_of(places, workers),
        allow=args.allow, every=args.every, write=None if args.pages is None else documents.PageWriter(Path(args.pages)),
        **asked,
    )  # fmt: skip

    def ending(run: Any) -> tuple[bool, list[str]]:
        report = run_sync(
            documents.report_of(
                run, None if args.no_synthesis else model, asked=asked, store=args.store, timeout=args.timeout,
                limits=hr.Limits(args.concurrency, rpm=args.rpm, tpm=args.tpm), fresh=args.fresh,
                keep_prompts=not args.keep_no_prompts, prices=args.prices, budget=shared_budget(args),
            )
        )  # fmt: skip
        told = [report.sentence]
        if args.pages is not None:
            told.append(f"The pages begin at {documents.write_index(args.pages, report.documents)}")
        if args.report is not None:
            run.report(args.report, sections=documents.sections(report), title="Documents")
        return report.synthesis is not None or args.no_synthesis, told

    return carry_out(args, work, ending, items=places.rows)


def _check(args: argparse.Namespace) -> None:
    for word, least in (("max_workers", 1), ("analysis_workers", 1), ("batch_size", 0)):
        if getattr(args, word) < least:
            raise UsageError(
                f"--{word.replace('_', '-')} {getattr(args, word)} cannot work.", hint=f"Give {least} or more."
            )
    if args.pages is not None and Path(args.pages).exists() and not Path(args.pages).is_dir():
        raise UsageError(f"--pages {args.pages} is no folder.", hint="Name one; it is made where it is not there.")
