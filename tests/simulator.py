"""`headrace simulate` as a real child process, for tests: `with simulator("--latency", "0.01") as sim: sim.url`."""

import contextlib
import http.client
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[1] / "src"


class Simulator:
    """A running server. `url` is the base URL with its /v1, `origin` the address without."""

    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self.origin = url.removesuffix("/v1")
        self.port = int(self.origin.rpartition(":")[2])
        self.pid = pid

    def ledger(self, *, items: bool = True) -> dict[str, Any]:
        return self.ask("GET", "/ledger" if items else "/ledger?items=no")

    def reset(self) -> None:
        self.ask("DELETE", "/ledger")

    def post(self, body: bytes) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Status, headers and body of one chat call on a connection of its own."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def ask(self, method: str, path: str) -> dict[str, Any]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(self.origin + path, method=method), timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
        return found


@contextmanager
def simulator(*words: str) -> Iterator[Simulator]:
    """Start it on a free port with these words of `headrace simulate`, and end it afterwards."""
    path = os.pathsep.join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH", ""))))
    with subprocess.Popen(
        [sys.executable, "-m", "headrace.sim.command", "--port", "0", *words],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("headrace simulate: http://"), f"the simulator did not start: {line!r}"
            yield Simulator(line.removeprefix("headrace simulate: ").strip(), process.pid)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
