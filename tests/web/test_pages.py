"""Pages show the contents of the database, are accessible in both themes, and fit a phone."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import cloaca.web
from cloaca._core import Inspector

from .conftest import (
    CUT_OFF,
    RELEASE,
    TOKEN,
    Open,
    World,
    check_looks,
    screenshots,
    settle,
    violations,
)

PAGES = {
    "attention": "",
    "executions": "executions",
    "failed": "executions/{failed}",
    "task": "executions/{failed}#task=validate",
    "open": "executions/{elsewhere}",
    "timeline": "executions/{failed}/timeline",
    "logs": "executions/{failed}/logs",
    "context": "executions/{failed}/context",
    "history": "executions/{failed}/history",
    "workflows": "workflows",
    "workflow": "workflows/orders",
    "start": "workflows/orders/start?from={completed}",
    "schedules": "schedules",
    "waiting": "waiting",
    "runners": "runners",
    "database": "database",
    "compare": "compare?a=last-success&b={failed}",
    "steps": "executions/{stepped}/steps",
    "children": "executions/{parent}/children",
    "asking": "executions/{asking}",
    "paying": "executions/{paying}",
    "wide": "executions/{wide}",
    "delayed": "executions/{delayed}",
    "schedule": "schedules/{schedule}",
    "filtered": "executions?workflow=orders&status=Failed&since=24h",
    "no match": "executions?key=nothing&status=Failed",
}


#: JavaScript that returns the cells of lists that overlap another cell of their row.
OVERLAPS = """() => [...document.querySelectorAll("table.blocks tbody tr")].flatMap((row) => {
    const boxes = [...row.cells].map((cell) => cell.getBoundingClientRect());
    return [...row.cells].filter((cell, at) => boxes.some((other, index) => {
        const { left, right, top, bottom } = boxes[at];
        return index !== at && left < other.right - 1 && other.left < right - 1
            && top < other.bottom - 1 && other.top < bottom - 1;
    }));
}).map((cell) => cell.outerHTML.slice(0, 120))"""


def path_of(world: World, page: str) -> str:
    """Returns the path of a page, filled with ids from the shared database."""
    names = re.findall(r"{(\w+)}", PAGES[page])
    ids = {name: getattr(world, name).id for name in names if name != "schedule"}
    return PAGES[page].format(schedule=world.schedule, **ids)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_page_has_no_accessibility_violation(
    world: World, open_page: Open, name: str, theme: str
) -> None:
    page = open_page(world.link, path_of(world, name), theme)
    settle(page)
    assert violations(page) == []


@pytest.mark.parametrize("width", [390, 720])
@pytest.mark.parametrize("name", PAGES)
def test_page_fits_a_narrow_window_in_both_themes(
    world: World, open_page: Open, name: str, width: int
) -> None:
    page = open_page(world.link, path_of(world, name), width=width)
    settle(page)
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(CUT_OFF) == []
        assert page.evaluate(OVERLAPS) == []
        assert violations(page) == []
        if folder := screenshots():
            page.screenshot(path=folder / f"page-{name}-{theme}-{width}.png")


#: JavaScript that moves the pointer over the part of the graph that its buttons cover, and returns
#: the tooltips that the graph shows there. The tooltip of a place without a task is empty.
UNDER_THE_BUTTONS = """() => {
    const canvas = document.querySelector("canvas[data-draw-ms]");
    const { left, right, top, bottom } = document.querySelector(".graph-tools")
        .getBoundingClientRect();
    const found = new Set();
    for (let clientX = left; clientX <= right; clientX += 4) {
        for (let clientY = top; clientY <= bottom; clientY += 4) {
            const at = { clientX, clientY, bubbles: true };
            canvas.dispatchEvent(new PointerEvent("pointermove", at));
            found.add(canvas.title);
        }
    }
    return [...found];
}"""


#: JavaScript that moves the pointer over the graph until its tooltip names a task, and returns
#: whether it ever does.
HAS_TOOLTIP = """(task) => {
    const canvas = document.querySelector("canvas[data-draw-ms]");
    const { left, right, top, bottom } = canvas.getBoundingClientRect();
    for (let clientX = left; clientX <= right; clientX += 4) {
        for (let clientY = top; clientY <= bottom; clientY += 2) {
            const at = { clientX, clientY, bubbles: true };
            canvas.dispatchEvent(new PointerEvent("pointermove", at));
            if (canvas.title.startsWith(`${task}: `)) return true;
        }
    }
    return false;
}"""


@pytest.mark.parametrize("width", [320, 390, 480, 720, 1400])
@pytest.mark.parametrize(
    ("name", "task"),
    [("failed", "extract"), ("wide", "shard_00"), ("parent", "cart"), ("workflow", "extract")],
)
def test_buttons_of_the_graph_cover_no_task(
    world: World, open_page: Open, name: str, task: str, width: int
) -> None:
    paths = {"parent": f"executions/{world.parent.id}"}
    page = open_page(world.link, paths.get(name) or path_of(world, name), width=width)
    page.locator("canvas[data-draw-ms]").wait_for()
    settle(page)
    assert page.evaluate(HAS_TOOLTIP, task)
    assert page.evaluate(UNDER_THE_BUTTONS) == [""]
    page.keyboard.press("f")
    settle(page)
    assert page.evaluate(HAS_TOOLTIP, task)
    assert page.evaluate(UNDER_THE_BUTTONS) == [""]


#: JavaScript that returns the number of animations and transitions that run.
ANIMATIONS = "document.getAnimations().length"


def test_nothing_moves_if_the_system_asks_for_reduced_motion(world: World, open_page: Open) -> None:
    RELEASE.clear()
    handle = world.runner.submit("slow")
    try:
        page = open_page(world.link, f"executions/{handle.id}")
        page.locator("h1 .state:has-text('Running')").wait_for()
        assert page.evaluate(ANIMATIONS) > 0
        page.emulate_media(reduced_motion="reduce")
        for path in [f"executions/{handle.id}", *(path_of(world, name) for name in PAGES)]:
            page.goto("about:blank")
            page.goto(world.url + path)
            settle(page)
            for key in ("p", "T", "p", "?"):
                page.keyboard.press(key)
                page.wait_for_timeout(20)
                assert page.evaluate(ANIMATIONS) == 0, (path, key)
    finally:
        RELEASE.set()


EMPTY_PAGES = [
    "",
    "executions",
    "executions?status=Failed",
    "workflows",
    "schedules",
    "waiting",
    "runners",
    "compare",
]


@pytest.mark.parametrize("path", EMPTY_PAGES)
def test_page_without_data_shows_an_explanation(empty: str, open_page: Open, path: str) -> None:
    page = open_page(empty, path)
    settle(page)
    assert page.locator(".empty").count() == 1
    check_looks(page, f"empty-{path or 'attention'}")


def test_first_commands_of_the_page_run_as_shown(open_page: Open, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a b.db'}"
    Inspector(url, None, True)
    with cloaca.web.serve(url, token=TOKEN) as server:
        page = open_page(server.link)
        page.locator(".empty pre").wait_for()
        (tmp_path / "etl.py").write_text(page.locator(".empty pre").inner_text())
        shown = shlex.split(page.locator(".empty .command code").inner_text())
        assert shown[0] == "cloaca"
        subprocess.run([sys.executable, "-m", *shown], cwd=tmp_path, check=True)
        page.locator(".empty").wait_for(state="detached")  # the page shows the execution by itself
        page.goto(f"{server.url}runners")
        worker = page.locator(".empty .command code").inner_text()
        assert worker == f"cloaca worker FILE.py -c '{url}'"
        page.goto("about:blank")  # an open page would be cut off


NOTHING = "0195f1c2-7d3a-7c11-b8a5-3f6f0d9c2e41"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (f"executions/{NOTHING}", "execution"),
        ("workflows/nothing", "workflow"),
        ("workflows/nothing/start", "workflow"),
        (f"workflows/orders/start?from={NOTHING}", "execution"),
        (f"schedules/{NOTHING}", "schedule"),
        ("nothing/here", "page"),
    ],
)
def test_missing_object_is_explained(world: World, open_page: Open, path: str, kind: str) -> None:
    page = open_page(world.link, path, allows="404 (Not Found)")
    page.get_by_role("heading", name=f"There is no such {kind}").wait_for()
    settle(page)
    check_looks(page, f"missing-{kind}")
    page.locator("main").get_by_role("link").click()
    page.locator("main h1").first.wait_for()
    page.get_by_text("There is no such").wait_for(state="detached")


def test_approval_needs_attention(world: World, open_page: Open) -> None:
    # Other tests may have decided the approval that the fixture `world` submits.
    handle = world.runner.submit("release")
    page = open_page(world.link)
    approvals = page.get_by_role("list", name="Open approvals")
    approvals.get_by_text("Release the payment?").first.wait_for()
    handle.cancel()


def test_unknown_page_links_to_the_attention_page(world: World, open_page: Open) -> None:
    page = open_page(world.link, allows="404 (Not Found)")
    page.goto(f"{world.url}nothing/here")
    page.get_by_role("link", name="Attention").click()
    page.get_by_role("heading", name="Attention").wait_for()


def test_assets_total_at_most_400_kilobytes() -> None:
    folder = Path(__file__).parents[2] / "crates" / "cloacina-web" / "assets"
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 400_000


def test_first_load_is_at_most_80_kilobytes(world: World, open_page: Open) -> None:
    import gzip

    page = open_page(world.link)
    texts = page.evaluate(
        """Promise.all(['assets/app.js', 'assets/app.css'].map(
            url => fetch(url).then(answer => answer.text())))"""
    )
    assert sum(len(gzip.compress(text.encode())) for text in texts) <= 80_000


def test_unchanged_asset_is_not_sent_again(world: World, open_page: Open) -> None:
    page = open_page(world.link)
    statuses = page.evaluate("""async () => {
        const first = await fetch('assets/app.js', {cache: 'no-store'});
        const headers = {'If-None-Match': first.headers.get('etag')};
        const again = await fetch('assets/app.js', {headers, cache: 'no-store'});
        return [first.status, again.status];
    }""")
    assert statuses == [200, 304]


def test_failed_execution_shows_its_traceback(world: World, open_page: Open) -> None:
    page = open_page(world.link, path_of(world, "failed"))
    page.get_by_text("7 rows have no customer").first.wait_for()
    page.get_by_text("Traceback").first.click()
    assert "raise ValueError" in page.locator(".why pre").inner_text()


def test_task_panel_shows_attempts_and_context_changes(world: World, open_page: Open) -> None:
    page = open_page(world.link, f"executions/{world.completed.id}#task=validate")
    panel = page.locator(".panel")
    panel.get_by_text("Attempt 1").wait_for()
    panel.get_by_role("button", name="What it wrote").click()
    panel.get_by_text("checked").wait_for()
    assert panel.locator(".diff .changed code").inner_text() == "rows"
    page.goto(f"{world.url}executions/{world.failed.id}#task=validate")
    panel.get_by_text("Attempt 2").wait_for()


def test_number_keeps_its_digits(world: World, open_page: Open) -> None:
    page = open_page(world.link, f"executions/{world.completed.id}/context")
    page.get_by_text(str(2**70)).first.wait_for()


#: A value of more than 64 KiB. Its text has numbers and letters that a browser would write
#: differently.
LARGE = {
    "big": 2**70,
    "float": 1.0,
    "text": 'äöü € \U0001f600 " \\ </script> \u2028',
    "numbers": [*range(20_000)],
}


def test_large_value_is_cut_and_downloaded_exactly(
    world: World, open_page: Open, tmp_path: Path
) -> None:
    handle = world.runner.submit("orders", LARGE)
    handle.result(timeout=60)
    page = open_page(world.link, f"executions/{handle.id}/context#task=validate")
    panel = page.get_by_role("complementary", name="Task validate")
    panel.get_by_role("button", name="What it saw").click()
    wrote = {"rows": 11, "checked": True, "loaded": 11}
    parts = {
        "input": (page.locator("section[aria-labelledby=input]"), LARGE),
        "output": (page.locator("section[aria-labelledby=output]"), {**LARGE, **wrote}),
        "saw": (panel, {**LARGE, "rows": 12}),
    }
    for name, (part, value) in parts.items():
        part.get_by_text("too large to show").wait_for()
        with page.expect_download() as download:
            part.get_by_role("link", name="Download it").click()
        file = tmp_path / name
        download.value.save_as(file)
        expected = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        assert file.read_bytes() == expected.encode(), name
    assert page.locator("main").inner_text().count("19999") == 0


def test_secret_is_hidden(world: World, open_page: Open) -> None:
    page = open_page(world.link, f"executions/{world.failed.id}/context")
    page.get_by_text("•••").first.wait_for()
    assert "x1" not in page.locator("main").inner_text()


def test_why_box_names_the_missing_worker(world: World, open_page: Open) -> None:
    page = open_page(world.link, f"executions/{world.elsewhere.id}")
    page.locator(".why li").first.wait_for()
    assert "pack" in page.locator(".why").inner_text()
    assert "cloaca worker" in page.locator(".why").inner_text()


def test_time_zone_is_shown(world: World, open_page: Open) -> None:
    page = open_page(world.link)
    assert "GMT+9" in page.locator(".clock").inner_text()
    page.locator("summary[aria-label=Settings]").click()
    page.get_by_role("button", name="UTC").click()
    page.get_by_text("UTC").first.wait_for()
    assert page.locator(".clock").inner_text().endswith("UTC")


@pytest.mark.parametrize(
    ("tab", "place"),
    [
        ("", ".task-row"),
        ("", ".why"),
        ("/timeline", ".lane"),
        ("/history", ".event"),
    ],
)
def test_link_of_a_task_opens_its_panel_on_the_same_page(
    world: World, open_page: Open, tab: str, place: str
) -> None:
    path = f"executions/{world.failed.id}{tab}"
    page = open_page(world.link, path)
    link = page.locator(f"{place} a", has_text="validate").first
    link.click()
    page.get_by_role("complementary", name="Task validate").wait_for()
    assert page.url == f"{world.url}{path}#task=validate"
    # In a new tab, the link leads to the same place.
    assert link.evaluate("one => one.href") == page.url


def test_every_link_of_a_page_leads_to_a_page(world: World, open_page: Open) -> None:
    page = open_page(world.link)
    found = set()
    for name in PAGES:
        page.goto("about:blank")
        page.goto(world.url + path_of(world, name))
        settle(page)
        links = page.locator("a[href]:not(.skip)").evaluate_all("all => all.map(one => one.href)")
        found |= {link.split("#")[0] for link in links}
        # Only links to tasks have a fragment, and they lead to the execution's page.
        tasks = [link for link in links if "#" in link]
        assert all("/executions/" in link for link in tasks), (name, tasks)
    statuses = page.evaluate(
        "links => Promise.all(links.map(link => fetch(link).then(answer => answer.status)))",
        sorted(found),
    )
    assert set(statuses) == {200}, [*zip(sorted(found), statuses, strict=True)]
