"""The navigation contains every page of the site, and links inside the site have targets."""

from __future__ import annotations

import re

from documentation import DOCS, ROOT, Page, pages

SITE = ROOT / "mkdocs.yml"
PAGES = {page.path: page for page in pages()}
EXTERNAL = re.compile(r"^(?:https?|mailto):")


def navigation() -> list[str]:
    """Returns the files that the navigation names."""
    text = SITE.read_text()
    return re.findall(r"[ :](\S+\.md)\s*$", text[text.index("\nnav:") :], re.MULTILINE)


def problem(page: Page, target: str) -> str | None:
    """Returns the reason why a link is broken; `None` if the link is valid."""
    if EXTERNAL.match(target):
        return None
    file, _, anchor = target.partition("#")
    path = (page.path.parent / file).resolve() if file else page.path
    if not path.exists():
        return "there is no such file"
    if DOCS in page.path.parents and DOCS not in path.parents:
        return "it leaves the site"
    if anchor and path.suffix == ".md":
        anchors = PAGES[path].anchors() if path in PAGES else set()
        # Building the site adds the headings of the reference, so the files do not contain them.
        if anchor not in anchors and not anchor.startswith("cloaca."):
            return f"there is no heading {anchor!r}; there are {sorted(anchors)}"
    return None


def test_every_page_is_in_the_navigation_once() -> None:
    named = navigation()
    assert len(named) == len(set(named))
    assert set(named) == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}


def test_links_inside_the_documentation_have_existing_targets() -> None:
    broken = [
        f"{page.name}: {target}: {found}"
        for page in PAGES.values()
        for target in page.links()
        if (found := problem(page, target))
    ]
    assert not broken, "\n".join(broken)


def test_link_check_finds_broken_links() -> None:
    page = PAGES[DOCS / "index.md"]
    assert problem(page, "missing.md")
    assert problem(page, "index.md#missing")
    assert problem(page, "../README.md") == "it leaves the site"
    assert problem(page, "https://example.org/") is None
