"""Several samples of each item, from the words of the command line to the files."""

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import headrace as hr
from acceptance.cli import Cli


def test_samples_have_a_column_for_their_agreement(tmp_path: Path) -> None:
    """In every format, before the error; a run without samples has none."""
    cli = Cli(tmp_path)
    (tmp_path / "items.csv").write_text("id,text\na,one\nb,two\n", encoding="utf-8")
    words = ["run", "items.csv", "--key", "id", "--ask", "{text}", "--returns", "n: int", "--model", "sim:"]
    ended = cli.run(*words, "--samples", "3", "-o", "three.csv")
    assert ended.status == 0, ended.err
    with (tmp_path / "three.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "text", "n", "agreement", "error", "attempts", "seconds"]
    assert all(0 <= float(row["agreement"]) <= 1 and row["attempts"] == "3" for row in rows)
    ended = cli.run(*words, "--samples", "3", "-o", "three.parquet")
    assert pq.read_table(tmp_path / "three.parquet").column("agreement").to_pylist() == [
        float(row["agreement"]) for row in rows
    ]
    ended = cli.run("runs", "resume", "last", "-o", "resumed.csv")
    assert ended.status == 0, ended.err
    assert "0 calls" in ended.err
    assert (tmp_path / "resumed.csv").read_text("utf-8") == (tmp_path / "three.csv").read_text("utf-8")
    assert cli.run(*words, "-o", "one.csv").status == 0
    assert "agreement" not in (tmp_path / "one.csv").read_text(encoding="utf-8")


def test_samples_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The outcome has all samples, the value is one of them, also when it is read from the store."""
    monkeypatch.chdir(tmp_path)
    ask = hr.Ask("Read {item}", returns="label: a|b|c, n: int", model="sim:", samples=4)
    for outcome in [*hr.run(ask, ["x", "y"]), *hr.run(ask, ["x", "y"])]:
        assert len(outcome.samples) == 4
        assert outcome.value in outcome.samples
        assert outcome.agreement is not None
    with pytest.raises(hr.UsageError, match="0 samples"):
        hr.Ask("{item}", model="sim:", samples=0)
