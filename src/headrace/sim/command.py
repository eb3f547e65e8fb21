"""`headrace simulate`: words of the command line become a running server. Also `python -m headrace.sim.command`."""

import argparse
import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Callable

from headrace.core.errors import UsageError
from headrace.provider.chance import Faults, Latency
from headrace.provider.simulated import Simulated
from headrace.sim.server import serve

PORT = 8377


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (127.0.0.1)")
    parser.add_argument("--port", type=int, default=PORT, help=f"port to listen at, 0 for any that is free ({PORT})")
    parser.add_argument("--latency", default="0", help="seconds per answer: 0.2, or lognormal:MEDIAN,SIGMA (0)")
    parser.add_argument(
        "--faults",
        default="",
        help="how likely each fault is: 500=0.02,429=0.01,reset=0.01,hang=0.005,malformed=0.01,cut=0.01,retry_after=1",
    )
    parser.add_argument("--seed", type=int, default=0, help="decides latencies and faults (0)")
    parser.add_argument("--max-concurrency", type=int, help="answer 429 to more calls in flight than this")
    parser.add_argument("--api-key", help="refuse other keys with 401")
    parser.add_argument("--model", help="refuse other models with 404")


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM; raises UsageError for words that cannot work."""
    simulated = Simulated(
        latency=Latency.parse(args.latency),
        faults=Faults.parse(args.faults),
        seed=args.seed,
        max_concurrency=args.max_concurrency,
    )
    _allow_many_files()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve_until_told(simulated, args))
    return 0


async def _serve_until_told(simulated: Simulated, args: argparse.Namespace) -> None:
    task = asyncio.ensure_future(
        serve(simulated, host=args.host, port=args.port, api_key=args.api_key, model=args.model, announce=_announce)
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C cancels through asyncio instead
            loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _announce(url: str) -> None:
    gc.freeze()  # what is loaded by now stays; the collector need not look at it again
    sys.stdout.write(f"headrace simulate: {url}\n")
    sys.stdout.flush()


def _allow_many_files() -> None:
    """Thousands of connections at once need as many open files as the system lets us have."""
    try:
        import resource  # noqa: PLC0415
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536) if hard != -1 else max(soft, 65536), hard))


def main() -> int:
    parser = argparse.ArgumentParser(prog="headrace simulate", description="A simulated OpenAI-compatible provider.")
    add_arguments(parser)
    try:
        return run(parser.parse_args())
    except UsageError as error:
        sys.stderr.write(f"headrace simulate: {error}\n")
        return error.exit_status


if __name__ == "__main__":
    sys.exit(main())
