"""Real processes on one store share one limit: what a ledger of all their calls shows, with deaths at bad moments."""

import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from headrace.engine.lender import RENEW_S

CHILD = Path(__file__).with_name("lease_child.py")
DEADLINE_S = 60.0
QUICK_S = 0.2

pytestmark = [
    pytest.mark.serial,
    pytest.mark.skipif(sys.platform == "win32", reason="the ledger needs a clock that processes share"),
]


class World:
    """A store, a ledger, and the processes on them."""

    def __init__(self, folder: Path) -> None:
        self.store, self.ledger = folder / "store.db", folder / "ledger"
        self.children: list[subprocess.Popen[bytes]] = []
        self.died: dict[int, int] = {}

    def start(self, *, calls: int = 0, per_min: float = 0, call_s: float = 0.02, renew_s: float = QUICK_S) -> int:
        words = [self.store, self.ledger, calls, per_min, call_s, renew_s]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        child = subprocess.Popen(
            [sys.executable, str(CHILD), *map(str, words)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        return child.pid

    def kill(self, pid: int) -> int:
        """As `kill -9`; when."""
        child = next(child for child in self.children if child.pid == pid)
        self.died[pid] = time.monotonic_ns()
        child.send_signal(signal.SIGKILL)
        child.wait(DEADLINE_S)
        return self.died[pid]

    def end(self) -> None:
        """Each finishes what it has in flight."""
        for child in self.children:
            if child.pid not in self.died:
                child.communicate(timeout=DEADLINE_S)
                assert child.returncode == 0

    def lines(self) -> list[tuple[int, int, str]]:
        """All begins and ends, in the order of time; the calls of who was killed ended with it."""
        known = self.ledger.read_text() if self.ledger.exists() else ""
        words = [line.split() for line in known[: known.rfind("\n") + 1].splitlines()]
        lines = [(int(at), int(pid), sign) for at, pid, sign in words]
        for dead, died in self.died.items():
            lines = [line for line in lines if line[1] != dead or line[0] <= died]
            begun = sum(1 if sign == "+" else -1 for _, pid, sign in lines if pid == dead)
            lines += [(died, dead, "-")] * begun
        return sorted(lines, key=lambda line: (line[0], line[2] == "+"))

    def levels(self) -> list[tuple[int, Counter[int]]]:
        """Calls in flight of each after every begin and end."""
        level: Counter[int] = Counter()
        levels = []
        for at, pid, sign in self.lines():
            level[pid] += 1 if sign == "+" else -1
            levels.append((at, level.copy()))
        return levels

    def when(self, condition: Callable[[Counter[int]], object], *, after: int = 0) -> int:
        """When calls in flight were so for the first time since `after`."""
        give_up_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < give_up_s:
            for at, level in self.levels():
                if at > after and condition(level):
                    return at
            select.select([], [], [], 0.05)  # the others need the processor
        raise AssertionError(f"what was waited for did not come: {self.levels()[-1]}")

    def most_in_flight(self) -> int:
        return max(level.total() for _, level in self.levels())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    for child in world.children:
        if child.poll() is None:
            child.kill()
        child.communicate()


def each(pids: Sequence[int], calls: int) -> Callable[[Counter[int]], bool]:
    return lambda level: all(level[pid] >= calls for pid in pids)


def after_s(at: int, seconds: float) -> Callable[[Counter[int]], bool]:
    return lambda _level: time.monotonic_ns() > at + seconds * 1e9


def test_two_processes_share_calls_in_flight_and_one_inherits(world: World) -> None:
    """With the real renewal time: the second has its half within a renewal, the first has all again within two after
    the second is killed, and at no moment are there more than the limit in flight."""
    one = world.start(calls=8, call_s=0.1, renew_s=RENEW_S)
    full = world.when(lambda level: level[one] == 8)
    two = world.start(calls=8, call_s=0.1, renew_s=RENEW_S)
    joined = time.monotonic_ns()
    shared = world.when(lambda level: level[one] <= 4 and level[two] == 4, after=full)
    assert shared - joined < (RENEW_S + 1.5) * 1e9
    killed = world.kill(two)
    inherited = world.when(lambda level: level[one] == 8, after=killed)
    assert inherited - killed < (RENEW_S + 1.0) * 1e9
    world.end()
    assert world.most_in_flight() == 8


def test_three_processes_come_and_are_killed(world: World) -> None:
    """Whenever one comes or is killed, the sum stays within the limit, and in the end the last one has all of it."""
    first, since = world.start(calls=7), 0
    for _ in range(2):
        second, third = world.start(calls=7), world.start(calls=7)
        since = world.when(each((first, second, third), 2), after=since)
        world.kill(first)
        since = world.when(each((second, third), 3), after=since)
        world.kill(third)
        since = world.when(each((second,), 7), after=since)
        first = second
    world.end()
    assert world.most_in_flight() == 7
    assert world.store.with_name("store.db.owners").is_dir()
    assert not list(world.store.with_name("store.db.owners").iterdir()), "the dead are cleared away"


def test_one_place_for_two_processes_goes_round(world: World) -> None:
    """Where there is one call for two processes they take turns: both go on."""
    pids = [world.start(calls=1, renew_s=0.05), world.start(calls=1, renew_s=0.05)]
    since = world.when(each(pids[:1], 1))
    for pid in (pids[1], pids[0], pids[1]):
        since = world.when(each([pid], 1), after=since)
    world.end()
    assert world.most_in_flight() == 1


def test_p19_requests_of_all_stay_within_the_rate(world: World) -> None:
    """P19: three processes, one of them killed, another late: in no interval more requests than the limit's and a
    burst of each, which is a quarter of a second of its part; and the limit is used."""
    per_s, window_s = 100.0, 2.0
    first = [world.start(per_min=per_s * 60), world.start(per_min=per_s * 60)]
    world.when(each(first, 1))
    begun = time.monotonic_ns()
    world.when(after_s(begun, 1.0))
    world.kill(first[0])
    world.when(after_s(begun, 2.5))
    world.start(per_min=per_s * 60)
    world.when(after_s(begun, 4.0))
    ended = time.monotonic_ns()
    world.end()
    starts = [at for at, _, sign in world.lines() if sign == "+"]
    most, oldest = 0, 0
    for newest, at in enumerate(starts):
        while starts[oldest] <= at - window_s * 1e9:
            oldest += 1
        most = max(most, newest - oldest + 1)
    assert most <= per_s * (window_s + 0.25)
    used = sum(begun <= at <= ended for at in starts) / (per_s * (ended - begun) / 1e9)
    assert used >= 0.85
