"""Reads the documentation for tests: pages, fenced blocks, code spans, headings and links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
#: Pages that are not part of the documentation site but are checked like its pages.
LOOSE = ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md"]

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>```+|~~~+) *(?P<language>[\w+-]*)(?P<info>.*)$")
_TITLE = re.compile(r'title="([^"]+)"')
_NOT_RUN = re.compile(r"<!-- not (run|started): (.+?) -->")
_ONLY = re.compile(r"<!-- (sqlite|postgres) only: (.+?) -->")
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"(?<!!)\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)|!\[[^\]]*\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?)(?: *\{ *#([\w-]+) *\})? *$")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    language: str
    title: str | None
    #: The line of the page on which the code begins, counted from 1.
    line: int
    code: str
    #: The reason why the block, or its main part, is not run; `None` if it is run completely.
    excuse: str | None
    #: Whether the block is imported without running its main part (`if __name__ ...`).
    is_imported: bool


@dataclass(frozen=True)
class Page:
    """A Markdown file."""

    path: Path
    text: str
    blocks: list[Block]
    #: The text without comments. Blank lines replace blocks, so that line numbers stay valid.
    prose: str

    @property
    def name(self) -> str:
        """The page's path in the repository."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def only(self) -> str | None:
        """The kind of database that the page's blocks need; `None` if they run on any kind."""
        found = _ONLY.search(self.text)
        return found.group(1) if found else None

    def spans(self) -> list[str]:
        """The texts of the page's code spans."""
        return _SPAN.findall(self.prose)

    def links(self) -> list[str]:
        """The targets of the page's links and pictures."""
        without_spans = _SPAN.sub("", self.prose)
        return [link or picture for link, picture in _LINK.findall(without_spans)]

    def anchors(self) -> set[str]:
        """The ids that links can point to: those of headings, and those in HTML."""
        found: set[str] = set()
        for line in self.prose.splitlines():
            heading = _HEADING.match(line)
            if heading:
                found.add(heading.group(2) or slug(heading.group(1)))
        found.update(re.findall(r'id="([\w-]+)"', self.prose))
        return found


def slug(heading: str) -> str:
    """The id that Python-Markdown gives to a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    plain = re.sub(r"[^\w\s-]", "", plain.encode("ascii", "ignore").decode()).strip().lower()
    return re.sub(r"[-\s]+", "-", plain)


def read(path: Path) -> Page:
    """Reads a page."""
    text = path.read_text()
    blocks: list[Block] = []
    prose: list[str] = []
    lines = text.splitlines()
    index = 0
    excuse: tuple[str, str] | None = None
    while index < len(lines):
        fence = _FENCE.match(lines[index])
        if fence is None:
            marker = _NOT_RUN.search(lines[index])
            if marker is not None:
                excuse = (marker.group(1), marker.group(2))
            elif lines[index].strip():
                excuse = None
            prose.append(re.sub(r"<!--.*?-->", "", lines[index]))
            index += 1
            continue
        start = index + 1
        end = start
        while end < len(lines) and lines[end].strip() != fence["ticks"]:
            end += 1
        indent = len(fence["indent"])
        code = "\n".join(line[indent:] if line.strip() else "" for line in lines[start:end]) + "\n"
        title = _TITLE.search(fence["info"])
        blocks.append(
            Block(
                language=fence["language"],
                title=title and title.group(1),
                line=start + 1,
                code=code,
                excuse=excuse and excuse[1],
                is_imported=excuse is not None and excuse[0] == "started",
            )
        )
        excuse = None
        prose += [""] * (end + 1 - index)
        index = end + 1
    return Page(path, text, blocks, "\n".join(prose))


def pages() -> list[Page]:
    """Returns every page of the documentation site and the pages of `LOOSE`."""
    paths = sorted(DOCS.rglob("*.md")) + [ROOT / name for name in LOOSE]
    return [read(path) for path in paths]
