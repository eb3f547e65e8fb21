"""Makes a folder of 38 test files, good and bad, for `headrace quality`: `python examples/make_tests.py out/tests`.

The same words and seed make the same files. What was put into them is known: `make` tells how many tests, which faults, and
how many functions a model has to be asked about (91). The code that they test does not exist; they are read, never run.
"""

import argparse
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

SUBJECTS = (  # noqa: SIM905 - to be read
    "basket ledger parcel timetable invoice recipe ticket voucher playlist calendar warehouse kettle library garden ferry tariff "
    "backup inbox survey meter passport pantry harbour orchard lantern bakery almanac depot beacon quarry gallery sawmill weir "
    "glacier compass granary aqueduct signal"
).split()
VERBS = "add split merge close renew weigh sort print send count move store".split()  # noqa: SIM905

CERTAIN = (
    """
    def test_{verb}_gives_{n}():
        {subject} = {Subject}({n})
        assert {subject}.{verb}(2) == {twice}
    """,
    """
    @pytest.mark.parametrize("amount, expected", [({n}, {twice}), (0, 0)])
    def test_{verb}_doubles_{n}(amount, expected):
        assert {Subject}(amount).{verb}() == expected
    """,
    """
    def test_{verb}_refuses_less_than_{n}():
        with pytest.raises(ValueError, match="at least {n}"):
            {Subject}(-{n}).{verb}()
    """,
    """
    def test_{verb}_writes_{n}(tmp_path):
        target = tmp_path / "{subject}.txt"
        {Subject}({n}).{verb}_to(target)
        assert target.read_text() == "{subject} {n}"
    """,
)
FAULTS = {
    "HQ001": """
        def test_{verb}_of_{n}_later():
            pass
        """,
    "HQ002": """
        def test_{verb}_makes_{n}():
            {subject} = {Subject}({n})
            made = {subject}.{verb}()
        """,
    "HQ003": """
        def test_{verb}_shows_{n}():
            print({Subject}({n}).{verb}())
        """,
    "HQ004": """
        def test_{verb}_is_done_{n}():
            assert {Subject}({n}).{verb}() or True
        """,
    "HQ005": """
        def test_{verb}_reaches_{n}():
            {Subject}({n}).{verb}() == {twice}
        """,
    "HQ006": """
        def test_{verb}_tells_{n}_once():
            listener = Mock()
            {Subject}({n}).{verb}(listener)
            assert listener.called_once_with({n})
        """,
    "HQ007": """
        def test_{verb}_costs_{n}():
            {subject} = Mock()
            {subject}.{verb}.return_value = {n}
            assert {subject}.{verb}(3) == {n}
        """,
    "HQ010": """
        def test_{verb}_survives_{n}():
            try:
                {Subject}({n}).{verb}()
                assert {Subject}({n}).count == {n}
            except Exception:
                pass
        """,
    "HQ011": """
        def test_{verb}_complains_of_{n}():
            try:
                {Subject}({n}).{verb}()
            except ValueError as error:
                assert "{n}" in str(error)
        """,
    "HQ012": """
        def test_{verb}_ends_at_{n}():
            {subject} = {Subject}({n})
            return
            assert {subject}.{verb}() == {n}
        """,
    "HQ014": """
        def test_{verb}_fails_for_{n}():
            with pytest.raises(Exception):
                {Subject}({n}).{verb}(None)
        """,
    "HQ020": """
        def test_{verb}_expires_after_{n}():
            {subject} = {Subject}({n})
            time.sleep(1.5)
            assert {subject}.{verb}() is False
        """,
    "HQ022": """
        def test_{verb}_takes_any_{n}():
            number = random.randint(1, {n})
            assert {Subject}(number).{verb}() == number
        """,
    "HQ025": """
        def test_{verb}_remembers_{n}():
            SEEN.append({n})
            assert {Subject}(SEEN).{verb}() == {n}
        """,
    "HQ032": """
        @pytest.mark.skip
        def test_{verb}_of_{n}_some_day():
            assert {Subject}({n}).{verb}() == {n}
        """,
}
IN_DOUBT = {
    "HQ101": """
        def test_{verb}_takes_{n}():
            {subject} = {Subject}({n})
            {subject}.{verb}("{subject}-{n}")
        """,
    "HQ102": """
        def test_{verb}_of_all_{n}():
            for part in {Subject}({n}).{verb}():
                assert part.weight == {n}
        """,
    "HQ103": """
        def test_{verb}_calls_its_store_{n}():
            store = Mock()
            {Subject}({n}, store).{verb}()
            store.save.assert_called_once_with({n})
        """,
    "HQ104": """
        def test_{verb}_finds_{n}():
            found = {Subject}({n}).{verb}()
            assert found is not None
            assert isinstance(found, dict)
        """,
}
TWICE = """
    def test_{n}():
        {subject} = {Subject}({n})
        {subject}.{verb}("{subject}-{n}")
    """
"""A function with two questions: nothing is asserted, and the name says nothing."""


@dataclass
class Made:
    """What was put into the files."""

    files: int = 0
    tests: int = 0
    uncertain: int = 0
    questions: Counter[str] = field(default_factory=Counter[str])
    """By the id of the question."""
    faults: Counter[str] = field(default_factory=Counter[str])
    """By the id of the rule."""


def make(folder: Path, *, files: int = 38, uncertain: int = 91, twice: int = 0, seed: int = 7) -> Made:
    """Write the files; `twice` of the uncertain functions have a second question."""
    draw = random.Random(seed)  # noqa: S311 - the same files each time
    made = Made()
    in_doubt = [uncertain // files + (number < uncertain % files) for number in range(files)]
    draw.shuffle(in_doubt)
    has_two = [number < twice for number in range(uncertain)]
    draw.shuffle(has_two)
    folder.mkdir(parents=True, exist_ok=True)
    for number, count in enumerate(in_doubt):
        subject = SUBJECTS[number % len(SUBJECTS)] + ("" if number < len(SUBJECTS) else f"_{number}")
        questions = [has_two.pop() for _ in range(count)]
        (folder / f"test_{subject}.py").write_text(_file(subject, questions, draw, made), "utf-8")
    return made


def _file(subject: str, questions: list[bool], draw: random.Random, made: Made) -> str:
    class_name = "".join(word.capitalize() for word in subject.split("_"))
    numbers = iter(draw.sample(range(2, 400), 40))

    def written(template: str) -> str:
        n = next(numbers)
        return (
            dedent(template)
            .strip()
            .format(subject=subject, Subject=class_name, verb=draw.choice(VERBS), n=n, twice=2 * n)
        )

    parts = [written(draw.choice(CERTAIN)) for _ in range(draw.randint(3, 7))]
    for fault in draw.sample(sorted(FAULTS), draw.randint(0, 3)):
        parts.append(written(FAULTS[fault]))
        made.faults[fault] += 1
    for has_two in questions:
        kind = draw.choice(sorted(IN_DOUBT))
        parts.append(written(TWICE if has_two else IN_DOUBT[kind]))
        made.questions.update(("HQ101", "HQ105") if has_two else (kind,))
    draw.shuffle(parts)
    made.files += 1
    made.tests += len(parts)
    made.uncertain += len(questions)
    head = f"""\
import random
import time
from unittest.mock import Mock

import pytest

from county.{subject} import {class_name}

SEEN = []
"""
    return f'"""Tests of the {subject.replace("_", " ")}."""\n\n' + head + "".join(f"\n\n{part}\n" for part in parts)


def main() -> None:
    words = argparse.ArgumentParser(description="Make a folder of test files for `headrace quality`.")
    words.add_argument("folder", type=Path)
    words.add_argument("--files", type=int, default=38)
    words.add_argument("--uncertain", type=int, default=91, help="functions that a model is to be asked about (91)")
    words.add_argument("--twice", type=int, default=0, help="how many of them have two questions (0)")
    words.add_argument("--seed", type=int, default=7)
    args = words.parse_args()
    made = make(args.folder, files=args.files, uncertain=args.uncertain, twice=args.twice, seed=args.seed)
    print(f"{made.tests} tests in {made.files} files: {made.faults.total()} faults, {made.uncertain} in doubt")


if __name__ == "__main__":
    main()
