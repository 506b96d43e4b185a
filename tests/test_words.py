"""`check_words.py` finds the bad examples of each rule and accepts the good examples."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "scripts"))

from check_words import Finding, check_source, without_allowed
from word_rules import RULES

EXAMPLES = [
    (rule, kind, text, is_bad)
    for rule in RULES
    for texts, is_bad in ((rule.bad, True), (rule.good, False))
    for text in texts
    for kind in sorted(rule.kinds)
    # An example with spaces or punctuation cannot be the name of an item.
    if kind != "name" or text.replace("_", "").isalnum()
]


def source_with(kind: str, text: str) -> tuple[str, str]:
    match kind:
        case "doc":
            lines = text.replace("\n", "\n/// ")
            return "example.rs", f"/// {lines}\nstruct Example;\n"
        case "comment":
            lines = text.replace("\n", "\n    # ")
            return "example.py", f"def example():\n    # {lines}\n    pass\n"
        case "string":
            lines = text.replace("\n", "\\\n")
            return "example.rs", f'fn example() {{\n    fail("{lines}")\n}}\n'
        case "name":
            return "example.rs", f"fn {text}() {{}}\n"
        case _:
            return "example.md", f"# Example\n\n{text}\n"


@pytest.mark.parametrize(("rule", "kind", "text", "is_bad"), EXAMPLES)
def test_a_rule_finds_only_bad_examples(rule: Any, kind: str, text: str, is_bad: bool) -> None:
    found = check_source(*source_with(kind, text), [rule])
    assert bool(found) == is_bad
    assert all(finding.rule == rule.name and finding.hint == rule.hint for finding in found)


def test_every_rule_has_examples() -> None:
    assert all(rule.bad and rule.good for rule in RULES)


@pytest.mark.parametrize(
    ("path", "source", "lines"),
    [
        ("a.rs", "/// One line.\n///\n/// This is\n/// no line.\nfn a() {}\n", [3]),
        ("a.rs", 'fn a() { /* x */ b("a \\\n is no b"); } // it is no c\n', [2, 2]),
        ("a.rs", "fn a<'a>(x: &'a str) { b('\"'); } // it is no c\n", [1]),
        ("a.rs", 'r#"say "is no x""#', [1]),
        ("a.py", '"""A module.\n\nIt is no package."""\n', [3]),
        ("a.py", "x = f'{y} is no z'  # it is no w\n", [1, 1]),
        ("Makefile", "a: ## Draw anew\n\ttouch a\n", [1]),
        ("a.toml", "# Written anew.\na = 1\n", [1]),
        ("a.md", "Text.\n\n- an item\n- what is\n  no item\n", [4]),
        ("a.md", "```python\nx = 'is no y'\n```\n\nThe code `is no x` may stay.\n", []),
        ("a.md", "<!-- generated -->\nIt is no page.\n<!-- /generated -->\n", []),
        ("a.txt", "This is no source.\n", []),
    ],
)
def test_a_finding_has_the_line_of_its_text(path: str, source: str, lines: list[int]) -> None:
    assert sorted(f.line for f in check_source(path, source)) == sorted(lines)


def test_only_the_first_paragraph_describes_an_item() -> None:
    found = check_source("a.py", 'def a():\n    """Does it.\n\n    What.\n    """\n')
    assert found == []


def test_a_finding_is_printed_with_place_rule_and_hint() -> None:
    (found,) = check_source("a.rs", "// It is no port.\n")
    hint = "write 'is not a …' or 'has no …'"
    assert str(found) == f'a.rs:1: "is no" [is-no]; hint: {hint}'


FINDING = Finding("tests/test_a.py", 3, "is no", "is-no", "a hint")


@pytest.mark.parametrize(
    ("entry", "is_allowed"),
    [
        ({"path": "tests/*"}, True),
        ({"path": "tests/*", "rule": "is-no", "text": "no"}, True),
        ({"path": "docs/*"}, False),
        ({"path": "tests/*", "rule": "who"}, False),
        ({"path": "tests/*", "text": "are no"}, False),
    ],
)
def test_entry_allows_only_findings_that_match_all_its_fields(
    entry: dict[str, str], is_allowed: bool
) -> None:
    left = without_allowed([FINDING], [entry | {"reason": "r"}], complete=False)
    assert left == ([] if is_allowed else [FINDING])


def test_an_entry_that_allows_nothing_is_reported() -> None:
    entry = {"path": "docs/*", "reason": "r"}
    (left,) = without_allowed([], [entry], complete=True)
    assert (left.path, left.hint) == ("scripts/words_allowed.py", "remove it: it is unused")
    assert without_allowed([], [entry], complete=False) == []


def test_an_entry_without_a_reason_is_reported() -> None:
    (left,) = without_allowed([FINDING], [{"path": "tests/*"}], complete=True)
    assert left.hint == "give a reason"
