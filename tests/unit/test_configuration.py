"""Which setting holds, and where it was said: flags, environment, headrace.toml, defaults, and all that can be wrong."""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cli import kinds, tomlfile
from headrace.cli.configuration import Configuration, configured
from headrace.cli.flags import FLAGS, add_all, add_flags
from headrace.cli.words import Words
from headrace.core.errors import UsageError

SECRET = "canary-0123456789"


def said(
    folder: Path, *words: str, toml: str | None = None, environ: dict[str, str] | None = None
) -> tuple[argparse.Namespace, Configuration]:
    """What these words come to in a folder that is nobody's home."""
    if toml is not None:
        (folder / "headrace.toml").write_text(toml, "utf-8")
    parser = Words(prog="headrace run")
    add_all(parser)
    args = parser.parse_args(words)
    return args, configured(args, environ or {}, folder)


def wrong(folder: Path, *words: str, toml: str | None = None, environ: dict[str, str] | None = None) -> str:
    """The sentence that they are refused with."""
    with pytest.raises(UsageError) as raised:
        said(folder, *words, toml=toml, environ=environ)
    assert raised.value.hint
    assert SECRET not in str(raised.value)
    return str(raised.value)


def test_each_goes_before_the_next(tmp_path: Path) -> None:
    """The command line before the environment before the file before the default, each with where it stood."""
    toml = "[run]\nrpm = 1\ntpm = 1\ndeadline = 1\n"
    environ = {"HEADRACE_RPM": "2", "HEADRACE_TPM": "2", "HEADRACE_FIRST": ""}
    args, made = said(tmp_path, "--rpm", "3", toml=toml, environ=environ)
    assert (args.rpm, args.tpm, args.deadline, args.timeout, args.first) == (3.0, 2.0, 1.0, 300.0, None)
    found = {name: (made.found[name].origin, made.found[name].place) for name in ("rpm", "tpm", "deadline", "timeout")}
    assert found == {
        "rpm": ("flag", "--rpm"), "tpm": ("environment", "HEADRACE_TPM"),
        "deadline": ("file", "headrace.toml, [run] deadline"), "timeout": ("default", ""),
    }  # fmt: skip
    assert made.said() == "headrace.toml says deadline; the environment says HEADRACE_TPM."
    assert said(tmp_path, "--deadline", "5")[1].said() == "headrace.toml says rpm, tpm."
    (tmp_path / "headrace.toml").unlink()
    assert said(tmp_path)[1].said() == ""


FORMS: list[tuple[str, str, str, Any]] = [
    ("ask", "What? {text}", '"What? {text}"', "What? {text}"),
    ("returns", "label: a|b", '"label: a|b"', "label: a|b"),
    ("model", "openai:m", '"openai:m"', "openai:m"),
    ("base-url", "http://h/v1", '"http://h/v1"', "http://h/v1"),
    ("temperature", "0.5", "0.5", 0.5),
    ("temperature", "1", "1", 1.0),
    ("max-tokens", "100", "100", 100),
    ("delimiter", "\\t", '"\\t"', "\t"),
    ("delimiter", "\\t", "'\\t'", "\t"),
    ("delimiter", ";", '";"', ";"),
    ("concurrency", "20", "20", 20),
    ("concurrency", "auto", '"auto"', "auto"),
    ("rpm", "600", "600", 600.0),
    ("backup", "2%", '"2%"', 0.02),
    ("backup", "0.02", "0.02", 0.02),
    ("max-failure-rate", "10%", '"10%"', 0.1),
    ("first", "5", "5", 5),
    ("store", "s.db", '"s.db"', Path("s.db")),
    ("output", "out.csv", '"out.csv"', "out.csv"),
    ("fresh", "1", "true", True),
    ("fresh", "no", "false", False),
    ("keep-no-prompts", "on", "true", True),
    ("image", "front\nback", '["front", "back"]', ["front", "back"]),
    ("image", "front", '"front"', ["front"]),
    ("param", 'seed=7\nstop=["a"]\nwho=me', '{seed = 7, stop = ["a"], who = "me"}', {"seed": 7, "stop": ["a"], "who": "me"}),
    ("header", "X-Team=a=b\nX-Other=c", '{X-Team = "a=b", X-Other = "c"}', {"X-Team": "a=b", "X-Other": "c"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "word", "toml", "value"), FORMS)
def test_every_place_says_the_same(name: str, word: str, toml: str, value: Any, tmp_path: Path) -> None:
    """A variable and a key of the file come to what the flag comes to."""
    flag = FLAGS[name]
    args, _ = said(tmp_path, environ={flag.variable: word})
    assert getattr(args, flag.place) == value
    args, _ = said(tmp_path, toml=f"[run]\n{name} = {toml}\n")
    assert getattr(args, flag.place) == value
    if flag.kind is not kinds.SWITCH:
        words = [each for part in word.splitlines() for each in (f"--{name}", part)]
        (tmp_path / "headrace.toml").unlink()
        args, _ = said(tmp_path, *words)
        assert getattr(args, flag.place) == value
        assert type(getattr(args, flag.place)) is type(value)


def test_every_flag_has_a_key_and_a_variable(tmp_path: Path) -> None:
    """No word is left out, and every one has a value although nobody said anything."""
    args, made = said(tmp_path)
    assert set(args.flags) == set(FLAGS)
    assert {name.partition(".")[0] for name in made.found} | {"param", "header"} == set(FLAGS)
    assert all(hasattr(args, flag.place) for flag in FLAGS.values())
    assert (args.param, args.header, args.image, args.quiet, args.concurrency) == ({}, {}, [], False, "auto")
    assert {flag.variable for flag in FLAGS.values()} >= {"HEADRACE_MODEL", "HEADRACE_MAX_TOKENS", "HEADRACE_STORE"}


def test_tables_are_joined_name_by_name(tmp_path: Path) -> None:
    """Each name comes from the first place that has it; X-Team and x-team are one header."""
    toml = '[run.param]\nseed = 1\ntop_p = 1\n[run.header]\nX-Team = "file"\nX-Other = "file"\n'
    environ = {"HEADRACE_PARAM": "seed=2\nn=2"}
    args, made = said(tmp_path, "--param", "seed=3", "--header", "x-team=flag", toml=toml, environ=environ)
    assert args.param == {"seed": 3, "n": 2, "top_p": 1}
    assert args.header == {"x-team": "flag", "X-Other": "file"}
    assert [made.found[f"param.{name}"].origin for name in ("seed", "n", "top_p")] == ["flag", "environment", "file"]


WRONG_FILES: list[tuple[str, tuple[str, ...]]] = [
    ("[run]\nconcurrency = 'many'", ("headrace.toml, [run] concurrency: 'many' is no whole number", "without quotes")),
    ("[run]\nconcurrency = 0", ("headrace.toml, [run] concurrency: A concurrency of 0 cannot work", "from 1 to 10000")),
    ("[run]\nconcurrency = 1.5", ("[run] concurrency: 1.5 is no whole number",)),
    ("[run]\nconcurrency = true", ("[run] concurrency: True is no whole number",)),
    ("[run]\nrpm = '600'", ("[run] rpm: '600' is no number", "without quotes")),
    ("[run]\nrpm = -1", ("[run] rpm: A limit of -1 requests per minute lets no call through",)),
    ("[run]\nrpm = nan", ("[run] rpm: A limit of nan requests",)),
    ("[run]\ntimeout = 0", ("[run] timeout: A timeout of 0 s cannot work",)),
    ("[run]\nbackup = '80%'", ("[run] backup: 0.8 of the calls cannot be backups",)),
    ("[run]\nbackup = 'some'", ("[run] backup: 'some' is no share",)),
    ("[run]\nmodel = 7", ("[run] model: 7 is no text", "in quotes")),
    ("[run]\nmodel = 'gpt-5'", ("[run] model: Unknown model 'gpt-5'",)),
    ("[run]\nbase-url = 'localhost'", ("[run] base-url: The base URL 'localhost' is no http",)),
    ("[run]\ntemperature = -3", ("[run] temperature: -3.0 is no temperature",)),
    ("[run]\nmax-tokens = 0", ("[run] max-tokens: A maximum of 0 tokens",)),
    ("[run]\ndelimiter = ';;'", ("[run] delimiter: ", "one character")),
    ("[run]\nfirst = 0", ("[run] first: The first 0 items are none",)),
    ("[run]\nquiet = 1", ("[run] quiet: 1 is neither true nor false",)),
    ("[run]\nask = ['a']", ("[run] ask: ['a'] is no text",)),
    ("[run]\nask = 1979-05-27", ("[run] ask: datetime.date(1979, 5, 27) is no text",)),
    ("[run]\nimage = [1]", ("[run] image: [1] is no list of texts",)),
    ("[run]\nparam = 'seed=7'", ("[run] param: it is no table", "[run.param]")),
    ("[run.param]\nday = 1979-05-27", ("[run] param: day holds what JSON cannot",)),
    ("[run.param]\nx = {deep = [inf]}", ("[run] param: x holds what JSON cannot",)),
    ("[run.header]\nX-Team = 7", ("[run] header: it is no table of texts",)),
    ('[run.header]\n"X Team" = "a"', ("[run.header]: A --header is no NAME=VALUE",)),
    (f'[run.header]\nX-Team = "{SECRET}\\n"', ("[run.header]: --header 'X-Team' holds a control character",)),
    ("[run]\nconcurency = 20", ("[run] concurency: there is no such setting", "Did you mean concurrency?")),
    ("[run]\nmax_tokens = 20", ("[run] max_tokens: there is no such setting", "Did you mean max-tokens?")),
    ("[run]\ncolour = 1", ("[run] colour: there is no such setting", "headrace run --help")),
    ("[run]\ninput = 'a.csv'", ("[run] input: there is no such setting",)),
    ("[runs]\nstore = 's'", ("headrace.toml: there is no table [runs]", "[run]")),
    ("model = 'sim:'", ("headrace.toml: model stands in no table", "[run]")),
    ("run = 3", ("headrace.toml: run is no table",)),
    ("[run]\nmodel = sim", ("headrace.toml is no TOML", "line 2")),
    ("[run]\nmodel = 'a'\nmodel = 'b'", ("headrace.toml is no TOML",)),
    *[
        (f'[run]\n{name} = "{SECRET}"', (f"[run] {name}: a secret does not belong into a file", "into the environment as OPENAI_API_KEY"))
        for name in ("api_key", "api-key", "apikey", "openai_api_key", "OPENAI_API_KEY", "token", "password", "secret")
    ],
    *[
        (f'[run.header]\n{name} = "{SECRET}"', (f"[run.header] {name}: a secret does not belong", "HEADRACE_HEADER"))
        for name in ("Authorization", "X-Api-Key", "api-key", "Cookie", "X-Auth-Token", "Ocp-Apim-Subscription-Key")
    ],
    (f'[run.param]\napi_key = "{SECRET}"', ("[run.param] api_key: a secret does not belong", "HEADRACE_PARAM")),
]  # fmt: skip


@pytest.mark.parametrize(("toml", "says"), WRONG_FILES, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_wrong_in_the_file_is_named(toml: str, says: tuple[str, ...], tmp_path: Path) -> None:
    """One sentence: the file, the table, the key, what is wrong and what to do; never a value that may be a secret."""
    told = wrong(tmp_path, toml=toml)
    assert all(part in told for part in says), told
    assert told.startswith("headrace.toml")


@pytest.mark.parametrize(
    ("name", "word", "says"),
    [
        ("HEADRACE_CONCURRENCY", "many", "HEADRACE_CONCURRENCY: 'many' is no number and not auto"),
        ("HEADRACE_CONCURRENCY", "0", "HEADRACE_CONCURRENCY: A concurrency of 0 cannot work"),
        ("HEADRACE_RPM", "lots", "HEADRACE_RPM: 'lots' is no number"),
        ("HEADRACE_FIRST", "1.5", "HEADRACE_FIRST: '1.5' is no whole number"),
        ("HEADRACE_BACKUP", "some", "HEADRACE_BACKUP: 'some' is no share"),
        ("HEADRACE_QUIET", "maybe", "HEADRACE_QUIET: 'maybe' is neither yes nor no"),
        ("HEADRACE_PARAM", "seed", "HEADRACE_PARAM: --param 'seed' is no NAME=VALUE"),
        (
            "HEADRACE_HEADER",
            f"Authorization: Bearer {SECRET}",
            "HEADRACE_HEADER: --header 'Authorization' is no NAME=VALUE",
        ),
        ("HEADRACE_MODEL", "gpt-5", "HEADRACE_MODEL: Unknown model 'gpt-5'"),
    ],
)
def test_what_is_wrong_in_the_environment_is_named(name: str, word: str, says: str, tmp_path: Path) -> None:
    """One sentence that begins with the variable."""
    assert wrong(tmp_path, environ={name: word}).startswith(says)


def test_what_a_flag_says_hides_nothing_wrong(tmp_path: Path) -> None:
    """A broken file is told also where the command line says it better: it would be there the next time."""
    assert "concurrency: 'many'" in wrong(tmp_path, "--concurrency", "5", toml="[run]\nconcurrency = 'many'")


def test_the_nearest_file_and_only_that(tmp_path: Path) -> None:
    """Upwards as far as the root of the repository or the home folder; beyond, and where neither is, nothing is read."""
    deep = tmp_path / "home" / "work" / "deep"
    deep.mkdir(parents=True)
    home = tmp_path / "home"
    for folder, rpm in ((tmp_path, 1), (home, 2), (home / "work", 3)):
        (folder / "headrace.toml").write_text(f"[run]\nrpm = {rpm}\n")

    def rpm_in(folder: Path, **environ: str) -> float | None:
        found: float | None = said(folder, environ=environ)[0].rpm
        return found

    assert rpm_in(deep, HOME=str(home)) == 3
    assert rpm_in(deep) is None  # no home, no repository: what lies above may be somebody else's
    (home / "work" / "headrace.toml").unlink()
    assert rpm_in(deep, HOME=str(home)) == 2
    (home / "headrace.toml").unlink()
    assert rpm_in(deep, HOME=str(home)) is None
    (tmp_path / "home" / ".git").mkdir()
    (home / "headrace.toml").write_text("[run]\nrpm = 4\n")
    assert rpm_in(deep) == 4
    (home / "work" / ".git").write_text("gitdir: elsewhere\n")  # a worktree's
    assert rpm_in(deep) is None
    assert rpm_in(tmp_path) == 1


def test_paths_begin_at_the_file(tmp_path: Path) -> None:
    """Store, output, report, prompts and schemas of a file further up are where it says; those of a variable are here."""
    deep = tmp_path / "deep"
    deep.mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "headrace.toml").write_text(
        '[run]\nask = "@p.txt"\nsystem = "plain"\nreturns = "s.json"\nstore = "kept/s.db"\nreport = "/abs/r.html"\noutput = "~/o.csv"\n'
    )
    args, _ = said(deep)
    assert (args.ask, args.system, args.returns) == ("@../p.txt", "plain", "../s.json")
    assert (args.store, args.report) == (Path("../kept/s.db"), "/abs/r.html")
    assert args.output == str(Path.home() / "o.csv")
    args, _ = said(deep, "--store", "mine.db", environ={"HEADRACE_REPORT": "r.html", "HEADRACE_ASK": "@q.txt"})
    assert (args.store, args.report, args.ask) == (Path("mine.db"), "r.html", "@q.txt")
    args, _ = said(tmp_path)
    assert args.ask == "@p.txt"


def test_other_commands_share_what_they_take(tmp_path: Path) -> None:
    """A command that takes --store alone gets the file's store, and no word that it does not take."""
    (tmp_path / "headrace.toml").write_text('[run]\nstore = "s.db"\nmodel = "sim:"\n')
    parser = Words()
    add_flags(parser, "store")
    args = parser.parse_args([])
    made = configured(args, {"HEADRACE_MODEL": "local"}, tmp_path)
    assert args.store == Path("s.db")
    assert set(made.found) == {"store"}
    assert not hasattr(args, "model")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Not UTF-8, too large, a folder of that name: one sentence, or passed by."""
    path = tmp_path / "headrace.toml"
    path.write_bytes(b"[run]\nask = '\xff'\n")
    assert "headrace.toml is no UTF-8" in wrong(tmp_path)
    path.write_bytes(b"#" * 1_000_001)
    assert "larger than 1 MB" in wrong(tmp_path)
    path.unlink()
    path.mkdir()
    assert said(tmp_path)[1].file is None


LINES = '''# settings
[run]
model = "sim:"   # model = "other"
ask = """
rpm = 5
[run.param]
seed = 9
"""
"concurrency" = 20

param.top_p = 1
header = { X-Team = "a", X-Other = "b" }

[run.param.deep]
x = 1
'''


def test_the_line_of_each_setting() -> None:
    """Comments, texts of several lines that look like settings, quoted, dotted and inline keys: the line it begins in."""
    import tomllib

    lines = tomlfile.TomlFile("headrace.toml", LINES, tomllib.loads(LINES)).lines()
    assert lines[("run", "model")] == 3
    assert lines[("run", "ask")] == 4
    assert lines[("run", "concurrency")] == 9
    assert lines[("run", "param", "top_p")] == 11
    assert lines[("run", "header", "X-Other")] == 12
    assert lines[("run", "param", "deep")] == 14
    assert ("run", "rpm") not in lines
    assert ("run", "param", "seed") not in lines


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.integers() | st.text(max_size=20), max_size=8))
def test_any_table_comes_out_as_it_is(table: dict[str, Any]) -> None:
    """Whatever TOML can hold of names and plain values is a parameter as it stands, and converting never raises else."""
    assert kinds.PARAMS.of_toml(table) == table


@given(st.text(max_size=30))
def test_any_word_is_a_value_or_is_refused(word: str) -> None:
    """No word makes a kind raise anything but its own refusal."""
    for kind in (kinds.NUMBER, kinds.WHOLE, kinds.CONCURRENCY, kinds.SHARE, kinds.SWITCH, kinds.DELIMITER):
        try:
            kind.of_word(word)
        except kinds.Wrong as refused:
            assert refused.hint


def test_the_help_imports_nothing_slow() -> None:
    """`headrace --help` and `headrace run --help` need neither asyncio nor any of the large packages."""
    code = (
        "import sys; from headrace.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "slow = {'asyncio', 'aiohttp', 'rich', 'pyarrow', 'pydantic', 'narwhals', 'jsonschema_rs', 'sqlite3', 'ssl', 'uvloop'}\n"
        "sys.exit(', '.join(sorted(slow & set(sys.modules))) or 0)"
    )
    for words in (["--help"], ["run", "--help"], ["config", "--help"], ["--version"]):
        ended = subprocess.run([sys.executable, "-c", code, *words], check=False, capture_output=True, text=True)
        assert ended.returncode == 0, (words, ended.stderr)
