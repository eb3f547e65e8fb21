"""The process that holds the local model. Enters flags, leaves `ready URL` or `failed WHY` on stdout.

Runs as a file of its own and imports nothing of headrace. It ends when its stdin does, so no parent leaves an orphan.
"""

import argparse
import os
import signal
import sys
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("weights")
    for flag in ("--port", "--slots", "--context-tokens", "--answer-tokens", "--threads"):
        parser.add_argument(flag, type=int, required=True)
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it drains what is in flight first
    said = os.dup(1)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)  # whatever the C++ side prints is no word of ours
    try:
        server = _serving(args)
        _say(said, f"ready {server.listening_address}/v1")
    except Exception as error:  # noqa: BLE001 - told to the parent, whatever it is
        _say(said, f"failed {type(error).__name__}: {error}")
        os._exit(1)
    sys.stdin.buffer.read()
    os._exit(0)  # the C++ threads need no farewell


def _serving(args: argparse.Namespace) -> Any:
    import xllamacpp  # noqa: PLC0415 - its absence is to be told like any failure

    params = xllamacpp.CommonParams()
    params.model.path = args.weights
    params.hostnames = ["127.0.0.1"]
    params.port = args.port
    params.n_parallel = args.slots
    params.n_ctx = args.slots * args.context_tokens
    params.n_predict = args.answer_tokens  # where a request names no maximum: a small model may never stop by itself
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = args.threads
    params.sampling.temp = 0.0  # where a request names no temperature: the same question, the same answer
    params.cache_ram_mib = 0  # by default it would keep up to 8 GiB of old prompts
    params.warmup = params.ui = params.endpoint_slots = False
    params.verbosity = -1
    return xllamacpp.Server(params)


def _say(file: int, line: str) -> None:
    os.write(file, (line.replace("\n", " ") + "\n").encode())


if __name__ == "__main__":
    main()
