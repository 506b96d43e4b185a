"""Findings of check_words.py that are allowed.

`path` is a glob. `rule` and `text` (a part of the text that was found) restrict an entry further.
An entry that matches no finding is an error when all files are checked.
"""

from __future__ import annotations

ALLOWED = [
    {
        "path": "scripts/word*.py",
        "reason": "the rules and this list quote text that the checker finds",
    },
    {
        "path": "tests/test_words.py",
        "reason": "the tests of the checker quote text that it finds",
    },
    {
        "path": "examples/weather/run.py",
        "rule": "who",
        "text": "Who ran what",
        "reason": "the heading of a table is a question",
    },
]
