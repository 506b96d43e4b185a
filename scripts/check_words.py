#!/usr/bin/env python3
"""Checks that all text for readers is plain technical English.

    python3 scripts/check_words.py            # every file, and the subjects of unpublished commits
    python3 scripts/check_words.py PATH...    # these files, and the files of these folders

The script reads comments, docstrings, string literals, Markdown and item names. Each finding is
printed as a line `path:line: "text" [rule]; hint: …`. The rules are in `word_rules.py`. Allowed
findings are listed in `words_allowed.py`, each with a reason. An entry of that list that matches no
finding is an error when all files are checked.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from word_rules import RULES, Rule
from words_allowed import ALLOWED

ROOT = Path(__file__).resolve().parent.parent
# Folders whose files are not checked if git cannot list the files of the repository.
NOT_SOURCES = {".git", ".pythons", ".venv", ".venvs", "dist", "node_modules", "site", "target"}
# Maximum length of a commit subject, in characters.
SUBJECT_LIMIT = 72


class Finding(NamedTuple):
    path: str
    line: int
    text: str
    rule: str
    hint: str

    def __str__(self) -> str:
        return f'{self.path}:{self.line}: "{self.text}" [{self.rule}]; hint: {self.hint}'


class Paragraph(NamedTuple):
    """The words of a paragraph, joined by single spaces, with the offset and line of each word."""

    kind: str
    text: str
    offsets: list[int]
    lines: list[int]

    def line_at(self, offset: int) -> int:
        return self.lines[bisect_right(self.offsets, offset) - 1]


# Each pattern of a language with strings matches comments and strings, so that quotes in comments
# and comment markers in strings are not misread. `hash` matches only comments.
LANGUAGES = {
    "rust": re.compile(
        r"""(?P<comment>//[^\n]*)
        |(?P<string>\bb?r(?P<quotes>\#*)".*?"(?P=quotes)|"(?:\\.|[^"\\])*")
        |b?'(?:\\[^']+|\\'|[^'\\])'  # a character; a lifetime has no second quote""",
        re.DOTALL | re.VERBOSE,
    ),
    "python": re.compile(
        r"""(?P<comment>\#[^\n]*)
        |(?P<string>(?P<triple>\"{3}|'{3})(?:\\.|.)*?(?P=triple)
            |"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')""",
        re.DOTALL | re.VERBOSE,
    ),
    "hash": re.compile(r"(?:^|(?<=\s))(?P<comment>#[^\n]*)"),
}
SUFFIXES = {".rs": "rust", ".c": "rust", ".py": "python", ".pyi": "python", ".md": "markdown"}
SUFFIXES |= dict.fromkeys((".sh", ".toml", ".yml", ".yaml"), "hash")
QUOTES = re.compile(r"""^b?r?\#*["']+|["']+\#*$""")
MARKER = re.compile(r"//[/!]?|#[:!]?#*")
DOC_MARKERS = {"///", "//!", "#:"}
ITEM = re.compile(r"\b(?:fn|struct|enum|trait|type|mod|const|static|class|def)\s+(\w+)")
NAME_PART = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
# Code is not prose. Generated text is checked at its source.
CODE_BLOCK = re.compile(
    r"^ *(```+|~~~+).*?^ *\1|<!-- generated.*?<!-- /generated -->|<!--.*?-->",
    re.DOTALL | re.MULTILINE,
)
CODE_SPAN = re.compile(r"`[^`\n]+`")
NEW_PARAGRAPH = re.compile(r"\n[ \t]*(?=\n|[-*|] |\||\#+ |\d+\. )")


def blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match.group())


def paragraphs(kind: str, text: str, line: int) -> Iterator[Paragraph]:
    """Splits text into paragraphs. After the first one, the kind `doc` becomes `comment`."""
    text = CODE_SPAN.sub("`…`", text).replace("\\\n", " \n")
    for part in NEW_PARAGRAPH.split(text):
        words = list(re.finditer(r"\S+", part))
        if words:
            offsets = [0, *accumulate(len(word.group()) + 1 for word in words)]
            lines = [line + part.count("\n", 0, word.start()) for word in words]
            yield Paragraph(kind, " ".join(word.group() for word in words), offsets, lines)
            kind = "comment" if kind == "doc" else kind
        line += part.count("\n") + 1


def read(language: str, source: str) -> Iterator[Paragraph]:
    """Yields the paragraphs of a source: of its comments, its strings and its item names."""
    if language == "markdown":
        yield from paragraphs("markdown", CODE_BLOCK.sub(blank, source), 1)
        return
    marker, text, first, last = "", "", 0, -1  # the comment block read so far
    for match in LANGUAGES[language].finditer(source):
        groups = match.groupdict()
        line = source.count("\n", 0, match.start()) + 1
        alone = not source[source.rfind("\n", 0, match.start()) + 1 : match.start()].strip()
        if comment := groups.get("comment"):
            start = MARKER.match(comment).group()  # type: ignore[union-attr]
            if alone and start == marker and last == line - 1:
                text, last = f"{text}\n{comment[len(start) :]}", line
                continue
            yield from paragraphs("doc" if marker in DOC_MARKERS else "comment", text, first)
            marker, text, first, last = start, comment[len(start) :], line, line if alone else -1
        elif string := groups.get("string"):
            before = source[: match.start()].rstrip()
            is_doc = groups.get("triple") and alone and (not before or before.endswith(":"))
            yield from paragraphs("doc" if is_doc else "string", QUOTES.sub("", string), line)
    yield from paragraphs("doc" if marker in DOC_MARKERS else "comment", text, first)
    if language != "hash":
        for match in ITEM.finditer(LANGUAGES[language].sub(blank, source)):
            name = " ".join(NAME_PART.findall(match.group(1)))
            yield from paragraphs("name", name, source.count("\n", 0, match.start()) + 1)


def check_source(path: str, source: str, rules: Sequence[Rule] = RULES) -> list[Finding]:
    language = SUFFIXES.get(Path(path).suffix, "hash" if Path(path).name == "Makefile" else "")
    return [
        Finding(path, paragraph.line_at(match.start()), match.group().strip(), rule.name, rule.hint)
        for paragraph in (read(language, source) if language else ())
        for rule in rules
        if paragraph.kind in rule.kinds
        for match in rule.found_in(paragraph.text)
    ]


def git(*arguments: str) -> list[str]:
    """Returns the lines that git prints; an empty list if git fails or is not installed."""
    # Without this setting, git refuses a repository that belongs to another user.
    command = ["git", "-C", str(ROOT), "-c", f"safe.directory={ROOT}", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def files_without_git() -> Iterator[Path]:
    """Yields the files below the root, except files that a build or an installation has written."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in NOT_SOURCES]
        yield from (Path(folder, name) for name in names)


def check_subjects() -> list[Finding]:
    """Returns findings for long subjects of commits that are not in the upstream branch."""
    if git("rev-parse", "--is-shallow-repository") != ["false"]:
        print("commit subjects not checked: not a git checkout, or a shallow one", file=sys.stderr)
        return []
    upstreams = ("@{upstream}", "origin/HEAD", "main")
    bases = [base for name in upstreams for base in git("merge-base", name, "HEAD")]
    if not bases:
        print("commit subjects not checked: no upstream branch", file=sys.stderr)
        return []
    commits = [line.partition(" ") for line in git("log", "--format=%h %s", f"{bases[0]}..HEAD")]
    hint = f"shorten it to {SUBJECT_LIMIT} characters"
    return [
        Finding(f"commit {commit}", 1, subject, "subject", hint)
        for commit, _, subject in commits
        if len(subject) > SUBJECT_LIMIT
    ]


def allows(entry: dict[str, str], finding: Finding) -> bool:
    return (
        fnmatch(finding.path, entry["path"])
        and entry.get("rule", finding.rule) == finding.rule
        and entry.get("text", "") in finding.text
    )


def without_allowed(
    findings: list[Finding], entries: list[dict[str, str]], *, complete: bool
) -> list[Finding]:
    """Returns the findings that no entry allows, and a finding for each entry without a reason.

    If `complete`, also returns a finding for each entry that matches no finding.
    """
    left = [finding for finding in findings if not any(allows(entry, finding) for entry in entries)]
    for entry in entries:
        if not entry.get("reason"):
            left.append(
                Finding("scripts/words_allowed.py", 1, str(entry), "allowed", "give a reason")
            )
        elif complete and not any(allows(entry, finding) for finding in findings):
            left.append(
                Finding(
                    "scripts/words_allowed.py", 1, str(entry), "allowed", "remove it: it is unused"
                )
            )
    return left


def main(arguments: list[str]) -> int:
    names = git("ls-files", "--cached", "--others", "--exclude-standard")
    files = {ROOT / name for name in names} or set(files_without_git())
    chosen = [Path(argument).resolve() for argument in arguments]
    if missing := [path for path in chosen if not path.exists()]:
        sys.exit(f"error: {missing[0]} does not exist")
    if chosen:
        files = {file for file in files if any(file.is_relative_to(path) for path in chosen)}
    findings = [] if chosen else check_subjects()
    for file in sorted(files):
        if file.is_file() and (file.suffix in SUFFIXES or file.name == "Makefile"):
            source = file.read_text(encoding="utf-8")
            findings += check_source(str(file.relative_to(ROOT)), source)
    findings = without_allowed(findings, ALLOWED, complete=not chosen)
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
