"""`headrace simulate`: words of the command line become a running server. Also `python -m headrace.sim.command`."""

import argparse
import sys

from headrace.core.errors import UsageError

PORT = 8377


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (127.0.0.1)")
    parser.add_argument("--port", type=int, default=PORT, help=f"port to listen at, 0 for any that is free ({PORT})")
    parser.add_argument("--latency", default="0", help="seconds per answer: 0.2, or lognormal:MEDIAN,SIGMA (0)")
    parser.add_argument("--tail", metavar="SHARE=SECONDS", help="a share of the calls that takes longer: 0.02=8")
    parser.add_argument(
        "--faults",
        default="",
        help="how likely each fault is: 500=0.02,429=0.01,reset=0.01,hang=0.005,malformed=0.01,cut=0.01,503=0.01,"
        "529=0.01,slow_down=0.01,html=0.01,hidden=0.01,quota=0.01,retry_after=1",
    )
    parser.add_argument("--seed", type=int, default=0, help="decides latencies and faults (0)")
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="UNIT=N/SECONDS",
        help="answer 429 above it; may be given again: requests=1200/60, tokens=200000, input_tokens=, output_tokens=, "
        "concurrency=37; with ,kind=sliding|fixed|bucket ,capacity=20 (of a bucket) ,phase=7 (of fixed windows) "
        ",charge=admission|sum|usage (of tokens) ,refused=free|counted",
    )
    parser.add_argument("--max-concurrency", type=int, metavar="N", help="short for --limit concurrency=N")
    parser.add_argument(
        "--headers",
        default="plain",
        metavar="WHOSE",
        help="what is told of limits: openai, azure, anthropic, gemini, groq, openrouter, mistral, ietf, plain (only "
        "Retry-After), none, or lying; with ,retry=exact|none|SECONDS ,remaining=true|full|empty",
    )
    parser.add_argument("--knee", metavar="N,EXPONENT", help="above N calls in flight latency grows: 40,1.5")
    parser.add_argument(
        "--outage",
        action="append",
        default=[],
        metavar="FROM-TO=FAULT",
        help="seconds after the first call; may be given again: 30-50=503, or reset, hang, 529 and any other fault",
    )
    parser.add_argument(
        "--change",
        action="append",
        default=[],
        metavar="SECONDS:WORD=NUMBER",
        help="a limit, knee or latency that becomes another; may be given again: 60:requests=400",
    )
    parser.add_argument("--api-key", metavar="KEY", help="refuse other keys with 401")
    parser.add_argument("--model", metavar="NAME", help="refuse other models with 404")


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM; raises UsageError for words that cannot work."""
    from headrace.provider.chance import Faults, Latency  # noqa: PLC0415 - the words alone must stay cheap to load
    from headrace.provider.simulated import Simulated  # noqa: PLC0415
    from headrace.sim.server import run_server  # noqa: PLC0415

    latency = Latency.parse(args.latency)
    simulated = Simulated(
        latency=latency if args.tail is None else latency.with_tail(args.tail),
        faults=Faults.parse(args.faults),
        seed=args.seed,
        max_concurrency=args.max_concurrency,
        limits=args.limit,
        headers=args.headers,
        outages=args.outage,
        changes=args.change,
        knee=args.knee,
    )
    run_server(simulated, host=args.host, port=args.port, api_key=args.api_key, model=args.model, announce=_announce)
    return 0


def _announce(url: str) -> None:
    sys.stdout.write(f"headrace simulate: {url}\n")
    sys.stdout.flush()


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
