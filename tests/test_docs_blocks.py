"""Every Python block of the documentation runs, and prints what the page says it prints.

A page is one program: its blocks share a namespace and a folder. A block with the language `output`
contains the output of the block before it, in which `...` matches any text. A block that starts
with `>>>` is an interpreter session. A page with a database URL runs on SQLite and on PostgreSQL.

A comment above a block changes how it runs. `<!-- not run: why -->` marks a block that cannot run.
`<!-- not started: why -->` marks a file that is imported, but whose main part cannot run. A page
about one kind of database contains `<!-- sqlite only: why -->` or `<!-- postgres only: why -->`. A
page for PostgreSQL finds the URL of an empty database in the environment variable `ADMIN_URL`.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from documentation import ROOT, Block, Page, pages

RUN = Path(__file__).parent / "run_blocks.py"
URL = re.compile(r"sqlite:///(?!:)[\w./-]+")
PAGES = pages()


def runnable(page: Page) -> list[Block]:
    """Returns the Python blocks of a page that can run and do not show a file of the project.

    A block that shows a file of the project has the file's path as its title.
    """
    return [
        block
        for block in page.blocks
        if block.language == "python"
        and (block.excuse is None or block.is_imported)
        and "/" not in (block.title or "")
    ]


def cases() -> list[object]:
    """Returns each page with each kind of database on which its blocks run."""
    found: list[object] = []
    for page in PAGES:
        blocks = runnable(page)
        if not blocks:
            continue
        has_url = any(URL.search(block.code) for block in blocks)
        kinds = [page.only] if page.only else ["sqlite", "postgres"] if has_url else ["sqlite"]
        found += [pytest.param(page, kind, id=f"{page.name}-{kind}") for kind in kinds]
    return found


def databases(kind: str, request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Returns a function that adapts the SQLite URLs in a block to a kind of database.

    For SQLite, the URLs stay as they are. For PostgreSQL, each becomes the URL of a fresh database.
    """
    urls: dict[str, str] = {}

    def on_kind(code: str) -> str:
        if kind == "sqlite":
            return code
        fresh: Callable[[], str] = request.getfixturevalue("fresh_postgres")
        for url in URL.findall(code):
            urls[url] = urls.get(url) or fresh()
        return URL.sub(lambda url: urls[url.group()], code)

    return on_kind


def expected_outputs(page: Page, blocks: list[Block]) -> list[str | None]:
    """Returns the output that the page shows for each block; `None` if it shows none."""
    outputs: list[str | None] = []
    for block in blocks:
        following = page.blocks[page.blocks.index(block) + 1 :]
        is_output = bool(following) and following[0].language == "output"
        outputs.append(following[0].code if is_output else None)
    return outputs


def matches(expected: str, printed: str) -> bool:
    """Returns whether a printed text is as expected. In `expected`, `...` matches any text."""
    pattern = ".*?".join(re.escape(part) for part in expected.rstrip().split("..."))
    return re.fullmatch(pattern, printed.rstrip(), re.DOTALL) is not None


@pytest.mark.parametrize(("page", "kind"), cases())
def test_the_blocks_of_a_page_run(
    page: Page, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    blocks = runnable(page)
    on_kind = databases(kind, request)
    sources = [
        {
            "name": page.name,
            "line": block.line,
            "code": on_kind(block.code),
            "title": block.title,
            "is_started": block.excuse is None,
        }
        for block in blocks
    ]
    folder, result = tmp_path / "run", tmp_path / "printed.json"
    folder.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("CLOAC", "PG"))}
    if page.only == "postgres":
        environment["ADMIN_URL"] = request.getfixturevalue("postgres")
    process = subprocess.run(
        [sys.executable, str(RUN), str(result)],
        input=json.dumps(sources),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    printed = json.loads(result.read_text())
    for block, said, wanted in zip(blocks, printed, expected_outputs(page, blocks), strict=True):
        if wanted is not None:
            assert matches(wanted, said), f"{page.name}:{block.line} printed\n{said}"


def test_output_comparison_finds_differences() -> None:
    assert matches("Completed 6\n", "Completed 6\n")
    assert matches("<Event ... submitted>\n", "<Event 2026-01-01 submitted>")
    assert not matches("Completed 6\n", "Completed 7\n")
    assert not matches("a\n", "a\nb\n")


def test_block_that_is_not_run_gives_a_reason_and_parses() -> None:
    for page in PAGES:
        for block in page.blocks:
            if block.language == "python" and block.excuse is not None:
                where = f"{page.name}:{block.line}"
                assert len(block.excuse) > 10, f"{where}: the reason is too short: {block.excuse!r}"
                if not block.code.startswith(">>>"):
                    ast.parse(block.code)


def test_every_block_has_a_language() -> None:
    for page in PAGES:
        for block in page.blocks:
            assert block.language, f"{page.name}:{block.line}: the block has no language"


def test_block_titled_with_a_path_equals_that_file() -> None:
    for page in PAGES:
        for block in page.blocks:
            if "/" in (block.title or ""):
                text = (ROOT / str(block.title)).read_text()
                assert text == block.code, f"{page.name}:{block.line} differs from {block.title}"


def test_rust_block_is_a_project_file_or_gives_a_reason() -> None:
    for page in PAGES:
        for block in page.blocks:
            if block.language.startswith("rust"):
                is_built = "/" in (block.title or "") and str(block.title).endswith(".rs")
                assert is_built or block.excuse, f"{page.name}:{block.line}: no file and no reason"
