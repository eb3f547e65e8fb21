"""Rules about what a test depends on outside of itself: time, chance, network, places on the machine."""

import ast
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from headrace.apps.quality.checking import asserted, last, mentions
from headrace.apps.quality.reading import Function, Module
from headrace.apps.quality.rule import Spot, rule

_SLEEPS = {"time.sleep", "asyncio.sleep", "anyio.sleep", "trio.sleep", "gevent.sleep", "curio.sleep"}
_CLOCKS = {
    "datetime.now", "datetime.utcnow", "datetime.today", "date.today", "datetime.datetime.now", "datetime.datetime.utcnow",
    "datetime.datetime.today", "datetime.date.today", "time.time", "time.monotonic", "time.perf_counter", "django.utils.timezone.now",
}  # fmt: skip
_FROZEN = ("freeze_time", "freezegun", "time_machine", "freezer", "travel")
_DRAWS = re.compile(
    r"(random|numpy\.random|np\.random)\.(random|randint|randrange|choices?|shuffle|sample|uniform|gauss|rand|randn|normal|permutation)$"
)
_FETCHES = re.compile(
    r"((requests|httpx)\.(get|post|put|patch|delete|head|options|request|stream)|urllib\.request\.urlopen|urllib3\.request|socket\.create_connection)$"
)
_NOWHERE = (
    ".example",
    ".example.com",
    ".example.org",
    ".example.net",
    ".test",
    ".invalid",
    ".localhost",
    ".local",
    ".internal",
)
_NO_NETWORK = (
    "responses",
    "requests_mock",
    "respx",
    "httpretty",
    "vcr",
    "aioresponses",
    "pytest_httpserver",
    "httpserver",
    "pook",
    "monkeypatch",
    "mocker",
    "mock",
    "patch",
    "betamax",
    "transport",
)
_WRITES = {
    "write_text",
    "write_bytes",
    "mkdir",
    "touch",
    "unlink",
    "rmdir",
    "rename",
    "open",
    "read_text",
    "read_bytes",
}
_ON_PATHS = re.compile(
    r"(open|io\.open|os\.(open|remove|unlink|mkdir|makedirs|rmdir|listdir|rename|chdir)|shutil\.(rmtree|copy\w*|move))$"
)
_PLACE = re.compile(r"(/(home|Users|tmp|var/tmp|opt|srv|mnt|data|root|usr/local)(/|$)|[A-Za-z]:[\\/])")


@rule(
    "HQ020", "sleep", "medium",
    bad="""
        import time

        def test_expires():
            token = issue(seconds=1)
            time.sleep(1.1)
            assert token.expired
        """,
    good="""
        import asyncio

        async def test_expires(clock):
            token = issue(seconds=1)
            clock.advance(1.1)
            await asyncio.sleep(0)
            assert token.expired
        """,
)  # fmt: skip
def sleeps(test: Function) -> Iterator[Spot]:
    """The test sleeps.

    It is slow where all is well, and fails where the machine is busy. Wait for what it waits for, or let the clock be
    the test's own. `sleep(0)` only yields; it is left alone, as is a `sleep` that the test patches.
    """
    patched = any(
        isinstance(each, ast.Constant) and isinstance(each.value, str) and "sleep" in each.value for each in test.nodes
    )
    for call in test.calls:
        name = test.module.full(call.func)
        zero = bool(call.args) and isinstance(call.args[0], ast.Constant) and not call.args[0].value
        if name in _SLEEPS and not zero and not patched and "sleep" not in ast.unparse(test.node.args):
            yield call, f"The test sleeps: `{ast.unparse(call)[:60]}`."


@rule(
    "HQ021", "wall-clock", "medium",
    bad="""
        from datetime import datetime

        def test_stamp():
            assert stamp().date == datetime.now().date()
        """,
    good="""
        from datetime import datetime

        def test_stamp():
            before = datetime.now()
            assert before <= stamp() <= datetime.now()
        """,
)  # fmt: skip
def wall_clock(test: Function) -> Iterator[Spot]:
    """An assertion compares with the time of day, or bounds how long something takes.

    It fails at midnight, on a slow machine, in another time zone. Give the code a clock, or freeze it. Bounds on both
    sides of a moment are fine.
    """
    if mentions(test, *_FROZEN) or any(word in test.module.text[:3000] for word in _FROZEN):
        return
    for node, condition in asserted(test):
        if not isinstance(condition, ast.Compare) or len(condition.ops) != 1:
            continue
        sides = (condition.left, condition.comparators[0])
        equal = isinstance(condition.ops[0], ast.Eq) and any(_reads_clock(test.module, side) for side in sides)
        if equal:
            yield node, "An assertion compares with the time at which it runs."
        elif isinstance(condition.ops[0], ast.Lt | ast.LtE) and _is_duration(test.module, sides[0]):
            yield node, "An assertion bounds how long something took: it fails on a busy machine."


def _reads_clock(module: Module, node: ast.AST) -> bool:
    return any(isinstance(each, ast.Call) and module.full(each.func) in _CLOCKS for each in ast.walk(node))


def _is_duration(module: Module, node: ast.AST) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) and _reads_clock(module, node.left)


@rule(
    "HQ022", "unseeded-random", "medium",
    bad="""
        import random

        def test_sorts():
            numbers = [random.random() for _ in range(10)]
            assert ours(numbers) == sorted(numbers)
        """,
    good="""
        import random

        def test_sorts():
            draw = random.Random(7)
            numbers = [draw.random() for _ in range(10)]
            assert ours(numbers) == sorted(numbers)
        """,
)  # fmt: skip
def unseeded(test: Function) -> Iterator[Spot]:
    """The test draws from a generator without a seed.

    A failure cannot be repeated. Use a generator with a seed of its own, or hypothesis, which keeps what failed.
    """
    for node in test.nodes:
        if isinstance(node, ast.Call) and _DRAWS.match(test.module.full(node.func)) and "seed(" not in test.module.text:
            yield node, f"`{ast.unparse(node.func)}` has no seed: a failure cannot be repeated."
            return


@rule(
    "HQ023", "network", "high",
    bad="""
        import requests

        def test_rates():
            assert requests.get("https://rates.acme-bank.com/today").ok
        """,
    good="""
        import requests

        def test_rates(server):
            assert requests.get("http://127.0.0.1:8000/today").ok
        """,
)  # fmt: skip
def network(test: Function) -> Iterator[Spot]:
    """The test asks a server on the network.

    It fails with the network, with the server, and with what the server has today. Addresses of this machine and names
    that lead nowhere (`.example`, `.test`, `.invalid`) are left alone, as are tests that speak of a stand-in.
    """
    if mentions(test, *_NO_NETWORK):
        return
    for call in test.calls:
        if _FETCHES.match(test.module.full(call.func)):
            host = next((found for each in call.args for found in [_host(each)] if found), "")
            if host and not _is_near(host):
                yield call, f"The test asks {host} over the network."


def _host(node: ast.expr) -> str:
    """Of an address that stands there as text; also the first of `("host", 80)`."""
    inner = node.elts[0] if isinstance(node, ast.Tuple) and node.elts else node
    if not isinstance(inner, ast.Constant) or not isinstance(inner.value, str):
        return ""
    if isinstance(node, ast.Tuple):
        return inner.value
    try:
        return urlsplit(inner.value).hostname or ""
    except ValueError:
        return ""


def _is_near(host: str) -> bool:
    return "." not in host or host.startswith("127.") or f".{host}".endswith(_NOWHERE)


@rule(
    "HQ024", "fixed-path", "low",
    bad="""
        def test_export():
            export("/tmp/out.csv")
            with open("/tmp/out.csv") as out:
                assert out.read() == "a,b"
        """,
    good="""
        def test_export(tmp_path):
            export(tmp_path / "out.csv")
            assert (tmp_path / "out.csv").read_text() == "a,b"
        """,
)  # fmt: skip
def fixed_path(test: Function) -> Iterator[Spot]:
    """The test uses a file or folder at a fixed place.

    Two runs at once meet there, and on another machine it may not be. `tmp_path` is a folder of the test's own. Only
    where files are opened, made or removed; paths as mere text are left alone.
    """
    if mentions(test, "mock_open", "patch", "mocker", "monkeypatch", "fs"):
        return
    for call in test.calls:
        text = call.args[0] if call.args and _ON_PATHS.match(test.module.full(call.func)) else _of_path(call)
        if isinstance(text, ast.Constant) and isinstance(text.value, str) and _PLACE.match(text.value):
            yield call, f"A fixed place on the machine: {text.value!r}."


def _of_path(call: ast.Call) -> ast.expr | None:
    """`Path("/tmp/x").write_text(...)`: the text in it."""
    if isinstance(call.func, ast.Attribute) and call.func.attr in _WRITES and isinstance(call.func.value, ast.Call):
        inner = call.func.value
        return inner.args[0] if last(inner.func) == "Path" and inner.args else None
    return None
