"""The rules of `headrace quality`: what each finds, what it leaves alone, which tests are in doubt, and awkward files."""

import ast
import json
import os
import random
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import headrace as hr
from headrace.apps.quality import QUESTIONS, RULES, QualityReport, analyse, concurrency_of, rendered

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples"))


def looked_at(folder: Path, code: str | bytes, **how: Any) -> QualityReport:
    """The report on one file with this code, by rules alone."""
    folder.mkdir(exist_ok=True)
    (folder / "test_it.py").write_bytes(code if isinstance(code, bytes) else code.encode())
    return analyse(folder, strategy="rules", **how)


def found(folder: Path, code: str, **how: Any) -> list[str]:
    return [each.rule for each in looked_at(folder, code, **how).findings]


def questions(folder: Path, code: str) -> list[tuple[str, ...]]:
    return [each.questions for each in looked_at(folder, code).uncertain]


@pytest.mark.parametrize("id_", sorted(RULES))
def test_a_rule_finds_its_bad_example_and_not_its_good_one(id_: str, tmp_path: Path) -> None:
    """Q1: what its page shows is so; the bad example has no other fault, and the good one none at all."""
    rule = RULES[id_]
    assert set(found(tmp_path, rule.bad)) == {id_}
    assert found(tmp_path, rule.good) == []


def test_there_are_enough_rules_and_all_are_explained() -> None:
    """Q1: at least fifteen, each with a sentence, a reason and a severity; ids are in order and of one form."""
    assert len(RULES) >= 15
    for id_, rule in RULES.items():
        assert id_.startswith("HQ0")
        assert rule.title.endswith((".", "?"))
        assert len(rule.why) > 40
    assert not set(RULES) & set(QUESTIONS)


def test_the_page_of_rules_is_made_from_them() -> None:
    """Q1: the reference says what the code does; `python docs/make_quality_rules.py` writes it anew."""
    made = runpy.run_path(str(ROOT / "docs" / "make_quality_rules.py"))
    assert made["PAGE"].read_text("utf-8") == made["page"]()


FINDS = {
    "HQ001": ["def test_a():\n    ...\n", "class TestA:\n    def test_a(self):\n        'Says it.'\n"],
    "HQ002": ["async def test_a():\n    got = await f()\n", "def test_a():\n    x: int = f()\n"],
    "HQ004": [
        "def test_a():\n    assert True\n",
        "def test_a():\n    assert (f(), 'it is there')\n",
        "import unittest\nclass TestA(unittest.TestCase):\n    def test_a(self):\n        self.assertTrue('yes')\n",
        "import unittest\nclass TestA(unittest.TestCase):\n    def test_a(self):\n        x = f()\n        self.assertEqual(x, x)\n",
        "def test_a():\n    x = f()\n    assert x.name == x.name\n",
    ],
    "HQ005": ["def test_a():\n    return f() == 3\n"],
    "HQ006": ["def test_a(mocker):\n    m = mocker.patch('a.b')\n    f()\n    m.assert_called_once\n"],
    "HQ007": [
        "from unittest.mock import Mock\ndef test_a():\n    m = Mock()\n    m.send(1)\n    m.send.assert_called_once_with(1)\n",
        "from unittest.mock import AsyncMock\nasync def test_a():\n    m = AsyncMock(return_value=3)\n    assert await m() == 3\n",
    ],
    "HQ010": [
        "def test_a():\n    try:\n        f()\n    except:\n        pass\n    assert g()== 1\n",
        "def test_a():\n    try:\n        assert f() == 1\n    except (ValueError, AssertionError):\n        print('no')\n",
    ],
    "HQ012": [
        "import pytest\ndef test_a():\n    pytest.skip('later')\n    assert f() == 1\n",
        "def test_a():\n    for x in (1, 2):\n        assert f(x) == 1\n        continue\n        g()\n",
    ],
    "HQ013": [
        "import unittest\nclass TestA(unittest.TestCase):\n    def test_a(self):\n        with self.assertRaises(E) as e:\n            f()\n            assert e.exception.code == 3\n",
    ],
    "HQ014": [
        "import unittest\nclass TestA(unittest.TestCase):\n    def test_a(self):\n        with self.assertRaises(Exception):\n            f()\n",
    ],
    "HQ016": [
        "def test_a():\n    yield f\n    assert f() == 1\n",
        "class TestA:\n    def __init__(self):\n        self.x = 1\n    def test_a(self):\n        assert self.x == 1\n",
        "def test_a():\n    def test_b():\n        assert f() == 1\n    assert g() == 2\n",
    ],
    "HQ017": ["class TestA:\n    def test_a(self):\n        assert f(1) == 1\n    def test_a(self):\n        assert f(2) == 2\n"],
    "HQ020": [
        "from time import sleep as nap\ndef test_a():\n    nap(2)\n    assert f() == 1\n",
        "from asyncio import sleep\nasync def test_a():\n    await sleep(0.1)\n    assert f() == 1\n",
    ],
    "HQ021": ["import time\ndef test_a():\n    t = time.time()\n    f()\n    assert time.time() - t < 0.5\n"],
    "HQ022": ["import numpy as np\ndef test_a():\n    x = np.random.rand(3)\n    assert f(x) == 3\n"],
    "HQ023": [
        "from urllib.request import urlopen\ndef test_a():\n    assert urlopen('https://acme.com/x').status == 200\n",
        "import socket\ndef test_a():\n    assert socket.create_connection(('acme.com', 80)) == 3\n",
    ],
    "HQ024": ["from pathlib import Path\ndef test_a():\n    Path('C:\\\\x').write_text('a')\n    assert f() == 1\n"],
    "HQ025": ["class TestA:\n    seen = {}\n    def test_a(self):\n        self.seen['a'] = 1\n        assert f(self.seen) == 1\n"],
    "HQ026": ["import os\ndef test_a():\n    os.chdir('x')\n    assert f() == 1\n"],
    "HQ031": ["def test_a(monkeypatch):\n    assert f() == 1\n"],
    "HQ032": ["import pytest\ndef test_a():\n    pytest.skip()\n", "import unittest\n@unittest.skip\ndef test_a():\n    assert f() == 1\n"],
    "HQ033": ["def test_a():\n    assert f() == 1\n    # self.assertEqual(f(), 3)\n"],
}  # fmt: skip
LEFT_ALONE = {
    "abstract": "class TestA:\n    def test_a(self):\n        raise NotImplementedError\n",
    "helper of the file": "def same(a):\n    assert a == 1\ndef test_a():\n    got = f()\n    same(got)\n",
    "helper of a helper": "def one(a):\n    assert a == 1\ndef two(a):\n    one(a)\ndef test_a():\n    two(f())\n",
    "fixture that checks": "import pytest\n@pytest.fixture\ndef made():\n    yield 1\n    assert done()\ndef test_a(made):\n    got = f()\n",
    "helper by its name": "from tests.tools import assert_same\ndef test_a():\n    got = f()\n    assert_same(got, 3)\n",
    "equality": "def test_equality():\n    x = f()\n    assert x == x\n    assert x != 3\n",
    "equality by what it does": "def test_a():\n    x = f()\n    y = f()\n    assert x == x\n    assert x == y\n",
    "calls may differ": "def test_a():\n    assert next(x) == next(x)\n",
    "comparison raises": "import pytest\ndef test_a():\n    with pytest.raises(TypeError):\n        f() < 3\n",
    "mock handed on": "from unittest.mock import Mock\ndef test_a():\n    m = Mock()\n    f(m)\n    m.assert_called_once_with(3)\n",
    "narrow handler": "def test_a():\n    try:\n        remove()\n    except FileNotFoundError:\n        pass\n    assert f() == 1\n",
    "handler that fails": "import pytest\ndef test_a():\n    try:\n        f()\n    except Exception:\n        pytest.fail('no')\n",
    "try, else": "def test_a():\n    try:\n        f()\n    except E as e:\n        assert e.code == 1\n    else:\n        raise AssertionError\n",
    "exception looked at": "import pytest\ndef test_a():\n    with pytest.raises(Exception) as e:\n        f()\n    assert e.value.code == 1\n",
    "its own exception": "import pytest\ndef test_a():\n    with pytest.raises(Exception):\n        with f():\n            raise Exception\n",
    "platform": "import sys\ndef test_a():\n    if sys.platform == 'win32':\n        assert f() == 1\n",
    "parameter decides": "def test_a(kind):\n    if kind == 'a':\n        assert f(kind) == 1\n",
    "django awaits": "from django.test import TestCase\nclass TestA(TestCase):\n    async def test_a(self):\n        assert await f() == 1\n",
    "nested and called": "def test_a():\n    def test_b():\n        assert f() == 1\n    run(test_b)\n    assert g() == 1\n",
    "registered nested": "def test_a(app):\n    @app.route('/')\n    def test_b():\n        assert f() == 1\n    assert g() == 1\n",
    "patched sleep": "from time import sleep\ndef test_a(mocker):\n    mocker.patch('time.sleep')\n    sleep(3)\n    assert f() == 1\n",
    "frozen time": "from datetime import datetime\nfrom freezegun import freeze_time\n@freeze_time('2020-01-01')\ndef test_a():\n    assert f() == datetime.now()\n",
    "seeded": "import random\nrandom.seed(3)\ndef test_a():\n    assert f(random.random()) == 1\n",
    "stand-in": "import requests\ndef test_a(requests_mock):\n    assert requests.get('https://acme.com').ok\n",
    "path as text": "def test_a():\n    assert parse('/tmp/x').name == 'x'\n",
    "reset by a fixture": "import pytest\nSEEN = []\n@pytest.fixture(autouse=True)\ndef fresh():\n    SEEN.clear()\ndef test_a():\n    SEEN.append(1)\n    assert SEEN == [1]\n",
    "shadowed": "SEEN = []\ndef test_a():\n    SEEN = []\n    SEEN.append(1)\n    assert SEEN == [1]\n",
    "put back": "import os\ndef test_a():\n    old = os.getcwd()\n    try:\n        os.chdir('x')\n        assert f() == 1\n    finally:\n        os.chdir(old)\n",
    "same body, other class": "class TestA(A):\n    def test_a(self):\n        assert self.f(1, 2, 3, 4) == self.g(1, 2, 3, 4)\n"
    "class TestB(B):\n    def test_a(self):\n        assert self.f(1, 2, 3, 4) == self.g(1, 2, 3, 4)\n",
    "premise": "from hypothesis import given\n@given(numbers)\ndef test_a(x):\n    y = f(x)\n    if y:\n        assert g(x) == 1\n",
    "raises for its handler": "def test_a():\n    try:\n        raise Exception('x')\n    except Exception:\n        pass\n    assert f() == 1\n",
    "caching": "def test_caching():\n    x = f()\n    assert x.a is x.a\n",
    "shared table": "import pytest\n@pytest.mark.parametrize('a, b', TABLE)\ndef test_a(a, b):\n    assert f(a) == 1\n",
    "behind a condition": "import sys\nif sys.platform == 'win32':\n    def test_a():\n        assert f() == 1\nelse:\n    def test_a():\n        assert f() == 2\n",
    "approx": "import pytest\ndef test_a():\n    assert a * 3 == pytest.approx(0.3)\n    assert parse('0.1') == 0.1\n",
    "fixture with the name of a test": "import pytest\n@pytest.fixture\ndef test_client():\n    return 1\n",
    "trial": "from twisted.trial.unittest import TestCase\nclass TestA(TestCase):\n    def test_a(self):\n        return self.f().addCallback(self.assertEqual, 1)\n",
    "pytester": "def test_a(pytester):\n    result = pytester.runpytest()\n    result.stdout.fnmatch_lines(['*1 passed*'])\n",
    "silenced": "from time import sleep\ndef test_a():\n    sleep(1)  # noqa: HQ020 - the clock of the card\n    assert f() == 1\n",
    "silenced as a whole": "from time import sleep\ndef test_a():  # noqa: HQ020\n    sleep(1)\n    sleep(2)\n    assert f() == 1\n",
}  # fmt: skip


@pytest.mark.parametrize(("id_", "code"), [(id_, code) for id_, codes in FINDS.items() for code in codes])
def test_a_rule_finds_other_forms_too(id_: str, code: str, tmp_path: Path) -> None:
    """Q1: unittest's words, imports under other names, async tests and handlers of several errors are seen."""
    assert id_ in found(tmp_path, code)


@pytest.mark.parametrize("code", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_what_is_right_is_left_alone(code: str, tmp_path: Path) -> None:
    """Q1: what looks like a fault and is none is not found."""
    assert found(tmp_path, code) == []


def test_another_code_silences_nothing(tmp_path: Path) -> None:
    """A comment for another rule, or one of a linter, does not count."""
    code = "from time import sleep\ndef test_a():\n    sleep(1)  # noqa: S311, HQ004\n    assert f() == 1\n"
    assert found(tmp_path, code) == ["HQ020"]
    assert found(tmp_path, code, ignore=["HQ020"]) == []


DOUBTS = {
    "def test_takes():\n    f(3)\n": [("HQ101",)],
    "def test_1():\n    f(3)\n": [("HQ101", "HQ105")],
    "from tests.tools import play\ndef test_story():\n    play('a')\n": [("HQ101",)],
    "def test_all():\n    for x in f():\n        assert x == 1\n": [("HQ102",)],
    "def test_all():\n    for x in (1, 2):\n        assert f(x) == 1\n": [],
    "def test_all():\n    xs = [1, 2]\n    for i, x in enumerate(xs):\n        assert f(x) == i\n": [],
    "def test_all():\n    xs = f()\n    assert len(xs) == 3\n    for x in xs:\n        assert x == 1\n": [],
    "from unittest.mock import Mock\ndef test_calls():\n    m = Mock()\n    f(m)\n    m.a.assert_called_once_with(1)\n": [
        ("HQ103",)
    ],
    "def test_finds():\n    x = f()\n    assert x is not None\n": [("HQ104",)],
    "def test_finds():\n    x = f()\n    assert isinstance(x, dict)\n    assert len(x) > 0\n": [("HQ104",)],
    "def test_finds():\n    x = f()\n    assert isinstance(x, dict)\n    assert x['a'] == 1\n": [],
    "def test_does_not_raise():\n    f(3)\n": [],
    "def test_smoke():\n    f(3)\n": [],
    "import pytest\n@pytest.mark.xfail\ndef test_takes():\n    f(3)\n": [],
}


@pytest.mark.parametrize(("code", "expected"), DOUBTS.items())
def test_what_rules_cannot_judge_is_in_doubt(code: str, expected: list[tuple[str, ...]], tmp_path: Path) -> None:
    """Q1: an uncertain function has its questions, two where two are open; what is plain has none."""
    assert questions(tmp_path, code) == expected


def test_the_example_has_what_was_put_into_it(tmp_path: Path) -> None:
    """Q1: 38 files with 91 uncertain functions, two to five a file; all planted faults are found, and no other."""
    from make_tests import make

    made = make(tmp_path / "tests")
    report = analyse(tmp_path / "tests", strategy="rules")
    assert (
        (report.files, report.tests, len(report.uncertain))
        == (38, made.tests, 91)
        == (made.files, made.tests, made.uncertain)
    )
    assert sorted(each.rule for each in report.findings) == sorted(made.faults.elements())
    asked = [question for each in report.uncertain for question in each.questions]
    assert sorted(asked) == sorted(made.questions.elements())
    in_file = [each.path for each in report.uncertain]
    assert {in_file.count(path) for path in in_file} <= {2, 3, 4, 5}
    again = make(tmp_path / "again", twice=12)
    assert again.uncertain == 91
    assert again.questions.total() == 103


def test_severest_first_then_as_one_reads(tmp_path: Path) -> None:
    """Q4: the order of findings follows from the code alone, not from the order of files on the disk."""
    from make_tests import make

    make(tmp_path / "a")
    order = [(each.severity, each.path, each.line) for each in analyse(tmp_path / "a", strategy="rules").findings]
    rank = {"high": 0, "medium": 1, "low": 2}
    assert order == sorted(order, key=lambda each: (rank[each[0]], each[1], each[2]))
    texts = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    names = sorted(texts)
    random.Random(3).shuffle(names)
    (tmp_path / "a").rename(tmp_path / "old")
    (tmp_path / "a").mkdir()
    for name in names:
        (tmp_path / "a" / name).write_bytes(texts[name])
    assert [
        (each.severity, each.path, each.line) for each in analyse(tmp_path / "a", strategy="rules").findings
    ] == order


AWKWARD = {
    "syntax": (b"def test_a(:\n", "It is no Python in line 1"),
    "python 2": (b"def test_a():\n    print 'x'\n", "It is no Python in line 2"),
    "nul": (b"def test_a():\n    assert f('\0')\n", "null bytes"),
    "unknown encoding": (b"# coding: klingon\n", "unknown encoding"),
    "no text encoding": (b"# coding: rot13\nqrs grfg_n(): cnff\n", "no text"),
    "wrong bytes": (b"def test_a():\n    assert f() == '\xff'\n", "It is no"),
    "deep": (b"x = " + b"-" * 50_000 + b"1\n", "nested too deeply"),
    "long chain": (b"x = a" + b".b" * 50_000 + b"\n", "nested too deeply"),
    "large": (b"#" * 2_000_001, "larger than"),
}


@pytest.mark.parametrize(("code", "reason"), AWKWARD.values(), ids=AWKWARD)
def test_a_file_that_cannot_be_read_is_told(code: bytes, reason: str, tmp_path: Path) -> None:
    """Whatever a file holds, it becomes a sentence, and the other files are looked at."""
    (tmp_path / "test_other.py").write_text("def test_a():\n    assert True\n")
    report = looked_at(tmp_path, code)
    assert [reason in each.reason for each in report.unread] == [True], report.unread
    assert [each.rule for each in report.findings] == ["HQ004"]
    assert report.is_partial
    assert "Not read: " in rendered(report)


@pytest.mark.parametrize("code", [
    "# coding: latin-1\ndef test_a():\n    assert True, 'caf\xe9'\n".encode("latin-1"),
    "\ufeffdef test_a():\n    assert True, 'café'\n".encode(),
    b"def test_a():\r\n    assert True\r\n",
    b"# coding: cp1251\ndef test_a():\n    assert True, '\xef'\n",
    b"def test_a():\r    assert True\r",
    b"def test_a():\n    x = '\\d \\z'\n    assert True\n",
    b"def test_a():\n\x0c    assert True\n",
])  # fmt: skip
def test_any_encoding_and_line_end_is_read(code: bytes, tmp_path: Path) -> None:
    """PEP 263, byte order marks, line ends of all systems, form feeds and doubtful escapes are no trouble."""
    report = looked_at(tmp_path, code)
    assert not report.unread
    assert [each.rule for each in report.findings] == ["HQ004"]


def test_odd_things_in_a_folder(tmp_path: Path) -> None:
    """Loops of links, dangling links, pipes, folders with the name of a test, and what is no test file."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a" / "test_gone.py").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "a" / "test_pipe.py")
    (tmp_path / "a" / "test_folder.py").mkdir()
    for hidden in (".venv", "node_modules", "__pycache__"):
        (tmp_path / hidden).mkdir()
        (tmp_path / hidden / "test_b.py").write_text("def test_b(): pass\n")
    (tmp_path / "code.py").write_text("def test_c(): pass\n")
    (tmp_path / "a" / "one_test.py").write_text("def test_d(): pass\n")
    report = analyse(tmp_path, strategy="rules")
    assert [each.test for each in report.findings] == ["test_d"]
    assert [each.path.rpartition("/")[2] for each in report.unread] == ["test_gone.py", "test_pipe.py"]
    assert analyse(tmp_path / "code.py", strategy="rules").tests == 1, "a file that is named is looked at"


def test_nothing_to_look_at(tmp_path: Path) -> None:
    """An empty folder is an empty report, a path that is not there an error with a hint."""
    report = analyse(tmp_path, strategy="rules")
    assert (report.files, report.findings, report.is_partial) == (0, (), False)
    assert "No test files" in rendered(report)
    with pytest.raises(hr.InputError, match="nothing at"):
        analyse(tmp_path / "gone", strategy="rules")


def test_paths_are_excluded_by_pattern(tmp_path: Path) -> None:
    """A pattern fits a path below the folder, or a folder on the way."""
    for name in ("test_a.py", "data/test_b.py", "data/deep/test_c.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("def test_x(): pass\n")
    assert analyse(tmp_path, strategy="rules", exclude=["data"]).files == 1
    assert analyse(tmp_path, strategy="rules", exclude=["*/test_c.py"]).files == 2
    assert analyse(tmp_path, strategy="rules", exclude=["data/", "test_a*"]).files == 0


@pytest.mark.parametrize("word", ["0", "51", "-1", "ten", "5.0", "1e1", "", "  ", True, 2.0])
def test_a_concurrency_that_cannot_work_is_told(word: Any) -> None:
    """Q3: anything but a whole number from 1 to 50 is refused with what to give, wherever it was said."""
    with pytest.raises(hr.UsageError, match="The concurrency is") as told:
        concurrency_of(word, {})
    assert "from 1 to 50" in told.value.hint
    if isinstance(word, str) and word.strip():
        with pytest.raises(hr.UsageError, match="HEADRACE_QUALITY_CONCURRENCY is"):
            concurrency_of(None, {"HEADRACE_QUALITY_CONCURRENCY": word})


def test_where_a_concurrency_comes_from() -> None:
    """Q3: the argument before the environment before ten; an empty variable says nothing."""
    environ = {"HEADRACE_QUALITY_CONCURRENCY": "7"}
    assert concurrency_of(None, {}) == concurrency_of(None, {"HEADRACE_QUALITY_CONCURRENCY": " "}) == 10
    assert concurrency_of(None, environ) == 7
    assert (concurrency_of(1, environ), concurrency_of("50", environ)) == (1, 50)


def test_words_that_cannot_work_are_told_before_anything(tmp_path: Path) -> None:
    """Q2: an unknown strategy or rule, and a strategy that asks a model where none is named."""
    wrong: list[dict[str, Any]] = [
        {"strategy": "magic"},
        {"strategy": "hybrid"},
        {"strategy": "rules", "ignore": ["HQ999"]},
    ]
    for how in wrong:
        with pytest.raises(hr.UsageError):
            analyse(tmp_path, **how)


def test_sarif_has_the_shape_that_the_format_asks_for(tmp_path: Path) -> None:
    """SARIF 2.1.0: rules with ids, results that point to them by index, levels, places, fingerprints; only valid keys."""
    folder = tmp_path / "a b\u00e9"
    looked_at(folder, "def test_a():\n    assert True\ndef test_b():\n    pass\n")
    (folder / "test_c.py").write_text("def (\n")
    log = json.loads(rendered(analyse(folder, strategy="rules"), "sarif"))
    (run,) = log["runs"]
    assert (log["version"], set(log)) == ("2.1.0", {"$schema", "version", "runs"})
    rules = run["tool"]["driver"]["rules"]
    assert [each["id"] for each in rules] == [*sorted(RULES), *QUESTIONS]
    assert len(run["results"]) == 2
    for result in run["results"]:
        assert set(result) == {"ruleId", "ruleIndex", "level", "message", "locations", "partialFingerprints"}
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in {"error", "warning", "note"}
        place = result["locations"][0]["physicalLocation"]
        assert place["region"]["startLine"] >= 1
        assert place["artifactLocation"]["uri"].isascii()
        assert " " not in place["artifactLocation"]["uri"]
    (notice,) = run["invocations"][0]["toolExecutionNotifications"]
    assert "no Python" in notice["message"]["text"]


def test_foreign_text_cannot_act_on_a_terminal(tmp_path: Path) -> None:
    """Names, paths and comments out of files are shown without control characters; colours are ours alone."""
    folder = tmp_path / "x\x1b[31m\u202e"
    report = looked_at(folder, "def test_a():\n    x = f()\n    assert x\n    # assert f('\x1b]0;owned\x07') == 3\n")
    assert len(report.findings) == 1
    for text in (rendered(report), rendered(report, "json"), rendered(report, "sarif")):
        assert not any(sign in text for sign in "\x1b\x07\u202e")
    assert "\x1b[" in rendered(report, coloured=True)


@given(st.text(alphabet="abf():=._,[]'#\n\t @x1", max_size=200))
def test_no_text_is_too_odd(text: str) -> None:
    """Whatever stands in a file, there is a report."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        code = f"def test_a(a):\n    {text}\n    assert a\n"
        report = looked_at(Path(folder), code)
    assert report.files + len(report.unread) == 1


def test_a_large_file_takes_no_time_that_grows_with_its_square(tmp_path: Path) -> None:
    """Q1: two thousand tests in one file are looked at."""
    code = "".join(f"def test_a{n}():\n    x = f({n})\n    assert x == {n}\n" for n in range(2_000))
    assert looked_at(tmp_path, code).tests == 2_000


def test_nothing_of_the_code_is_run(tmp_path: Path) -> None:
    """Q1: files are read, never imported."""
    mark = tmp_path / "ran"
    looked_at(tmp_path / "tests", f"open({str(mark)!r}, 'w')\ndef test_a():\n    assert f() == 1\n")
    assert not mark.exists()


def test_the_rules_say_what_they_are_about_in_code_that_parses() -> None:
    """The examples of the page are Python."""
    for rule in RULES.values():
        ast.parse(rule.bad)
        ast.parse(rule.good)
