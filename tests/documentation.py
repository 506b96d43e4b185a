"""The documentation as the tests read it: pages, fenced blocks, code spans, headings and links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
#: Pages outside the site, which are checked too.
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
    #: The line number, in the page, of its first line of code; the first line is 1.
    line: int
    code: str
    #: The reason why the block is not run; `None` if it is run.
    excuse: str | None
    #: Whether the reason applies to the block's main part only.
    is_imported: bool


@dataclass(frozen=True)
class Page:
    """One Markdown file."""

    path: Path
    text: str
    blocks: list[Block]
    #: The text without its blocks and comments; line numbers are kept.
    prose: str

    @property
    def name(self) -> str:
        """Its path in the repository."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def only(self) -> str | None:
        """The only kind of database on which its blocks can run; `None` if any kind is possible."""
        found = _ONLY.search(self.text)
        return found.group(1) if found else None

    def spans(self) -> list[str]:
        """The texts of its code spans."""
        return _SPAN.findall(self.prose)

    def links(self) -> list[str]:
        """The targets of its links and pictures."""
        without_spans = _SPAN.sub("", self.prose)
        return [link or picture for link, picture in _LINK.findall(without_spans)]

    def anchors(self) -> set[str]:
        """The ids of its headings."""
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
    """Every page of the documentation, and the pages outside the site."""
    paths = sorted(DOCS.rglob("*.md")) + [ROOT / name for name in LOOSE]
    return [read(path) for path in paths]
