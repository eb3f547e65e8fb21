"""`headrace local pull|serve`: the small model that runs on this machine, fetched and kept running."""

import argparse
import asyncio
import contextlib
import signal
import sys

from headrace.provider.local import MODEL, LocalServer, pull, weights

PORT = 8378


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(title="verbs", dest="verb", metavar="VERB", required=True)
    verbs.add_parser("pull", help="install its weights, once")
    words = verbs.add_parser("serve", help="keep it running until Ctrl-C")
    words.add_argument("--port", type=_port, default=PORT, help=f"port to listen at, 0 for any that is free ({PORT})")


def run(args: argparse.Namespace) -> int:
    """0, or 2 through the MissingExtra or UsageError that it raises."""
    if args.verb == "pull":
        pull(lambda line: print(line, file=sys.stderr, flush=True))
        weights()  # says what else is missing
        return 0
    return asyncio.run(_serve(args.port))


async def _serve(port: int) -> int:
    server = LocalServer(port=port)
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt instead
            loop.add_signal_handler(number, told.set)
    try:
        base_url = await server.start()
        print(f"{MODEL} answers at {base_url} (Ctrl-C ends it). From another terminal:", flush=True)
        print(f"  headrace run INPUT --ask ... --model openai:{MODEL} --base-url {base_url}", flush=True)
        await told.wait()
    finally:
        await server.close()
    return 0


def _port(word: str) -> int:
    port = int(word)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{word} is no port (0 to 65535)")
    return port
