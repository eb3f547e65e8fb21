"""A rule: what is wrong, how bad that is, and how it is found. Its docstring is its page of the documentation."""

import ast
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from textwrap import dedent

from headrace.apps.quality.findings import Finding, Severity
from headrace.apps.quality.reading import Function

Spot = tuple[ast.AST, str]
"""Where, and what is wrong there."""
Find = Callable[[Function], Iterator[Spot]]


@dataclass(frozen=True)
class Rule:
    """`bad` and `good` are whole files: the rule finds something in the first, and nothing in the second."""

    id: str
    name: str
    severity: Severity
    title: str
    why: str
    bad: str
    good: str
    find: Find

    def findings(self, test: Function) -> Iterator[Finding]:
        """What it finds, but for lines that are silenced."""
        for node, message in self.find(test):
            line = getattr(node, "lineno", test.node.lineno)
            if not any(test.module.is_silenced(each, self.id) for each in (line, test.node.lineno)):
                yield Finding(self.id, self.name, self.severity, test.module.path, line, test.name, message)


RULES: dict[str, Rule] = {}
"""All rules by their ids, in the order of their ids."""


def rule(id_: str, name: str, severity: Severity, *, bad: str, good: str) -> Callable[[Find], Find]:
    """Makes a rule of a function from a test to spots."""

    def add(find: Find) -> Find:
        title, _, why = inspect.cleandoc(find.__doc__ or "").partition("\n\n")
        RULES[id_] = Rule(id_, name, severity, title, why, dedent(bad).strip(), dedent(good).strip(), find)
        return find

    return add
