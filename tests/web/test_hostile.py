"""Hostile texts in the database and hostile pages of other origins do no harm in Chromium.

`tests/test_web_lessons.py` lists the security holes of other products that these tests look for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import cloaca
import cloaca.web

from .conftest import TOKEN, Open

#: Each of these texts would run a script if a page used it as HTML, in an attribute, or as a link.
MARKUP = """"'><img src=x onerror="window.hit=1"><script>window.hit=2</script><svg onload=hit=3>"""
LINK = "javascript:window.hit=4"
DATA = "data:text/html,<script>window.hit=5</script>"


class Hostile:
    """A database with hostile text in every field that accepts it, and its runner."""

    def __init__(self, url: str) -> None:
        with cloaca.WorkflowBuilder("web_hostile", input={"text": str}) as builder:
            builder.description(f"{MARKUP} {LINK}")
            builder.tag("team", MARKUP)

            @cloaca.task(id="print")
            def print_lines(context: cloaca.Context) -> None:
                for text in (MARKUP, LINK, DATA, f"https://x.example/{MARKUP}", "\x1b[31mred"):
                    print(text)
                context[MARKUP] = {MARKUP: [MARKUP, LINK, DATA]}
                context["deep"] = deep(200)

            @cloaca.task(id="fail", dependencies=["print"], retry_attempts=1)
            def fail(context: cloaca.Context) -> None:
                raise ValueError(f"{MARKUP} {LINK}\n{DATA}")

        with cloaca.WorkflowBuilder("web_hostile_ask"):
            cloaca.approval("ask", title=MARKUP, to=LINK, data={"note": str})

        with cloaca.WorkflowBuilder("web_hostile_wait"):

            @cloaca.task(wait_for=cloaca.signal(MARKUP, key="key"))
            def wait(context: cloaca.Context) -> None:
                pass

        config = cloaca.DefaultRunnerConfig(capture_logs=True)
        self.runner = cloaca.DefaultRunner.with_config(url, config)
        given: dict[str, Any] = {"text": MARKUP, LINK: DATA}
        handle = self.runner.submit("web_hostile", given, key=MARKUP, labels={"wave": MARKUP})
        handle.result(timeout=60)
        self.failed = handle.id
        self.asking = self.runner.submit("web_hostile_ask").id
        self.waiting = self.runner.submit("web_hostile_wait", {"key": MARKUP}).id
        self.runner.register_cron_workflow("web_hostile_wait", "0 2 * * *", "Europe/Berlin")


def deep(levels: int) -> object:
    """Returns hostile text inside nested lists."""
    value: object = MARKUP
    for _ in range(levels):
        value = [value]
    return value


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hostile, Any]]:
    """A hostile database, and its server."""
    url = f"sqlite:///{tmp_path_factory.mktemp('hostile') / 'hostile.db'}"
    world = Hostile(url)
    with world.runner, cloaca.web.serve(url, token=TOKEN) as server:
        yield world, server


PAGES = [
    "",
    "executions",
    "executions?label.wave={markup}&error={markup}",
    "executions/{failed}",
    "executions/{failed}#task=fail",
    "executions/{failed}#task={markup}",
    "executions/{failed}/timeline",
    "executions/{failed}/logs",
    "executions/{failed}/context",
    "executions/{failed}/history",
    "executions/{asking}",
    "executions/{waiting}",
    "workflows",
    "workflows/web_hostile",
    "workflows/web_hostile/start?from={failed}",
    "schedules",
    "waiting",
    "compare?a={failed}&b={asking}",
]


def settle(page: Any) -> None:
    """Waits until the page has loaded its data."""
    page.locator("main h1, main h2").first.wait_for()
    page.wait_for_timeout(100)
    page.locator(".loading").first.wait_for(state="detached")


def check_harmless(page: Any) -> None:
    """Asserts that no hostile text has run a script or has become an element or a link."""
    assert page.evaluate("window.hit") is None, page.url
    assert page.locator("img, main script, [onerror], [onload]").count() == 0, page.url
    links = page.locator("a[href]").evaluate_all("all => all.map(one => one.protocol)")
    assert set(links) <= {"http:", "https:"}, page.url
    for link in page.locator("a[target=_blank]").all():
        assert "noopener" in (link.get_attribute("rel") or "noopener")


def test_xss_hostile_values_run_no_script_on_any_page(
    hostile: tuple[Hostile, Any], open_page: Open
) -> None:
    world, server = hostile
    page = open_page(server.link, allows="404 (Not Found)")
    reports: list[str] = []
    page.expose_function("report", lambda report: reports.append(report))
    page.add_init_script(
        "addEventListener('securitypolicyviolation', e => report(e.violatedDirective))"
    )
    shown = ""
    for path in PAGES:
        path = path.format(
            failed=world.failed,
            asking=world.asking,
            waiting=world.waiting,
            markup=quote(MARKUP, safe=""),
        )
        page.goto("about:blank")
        page.goto(server.url + path)
        settle(page)
        for summary in page.locator("main summary").all():
            if summary.is_visible():
                summary.click()
        for name in ("Decide…", "Send…", "What it wrote", "What it saw", "Logs"):
            button = page.get_by_role("button", name=name)
            if button.count():
                button.first.click()
                settle(page)
                check_harmless(page)
                page.keyboard.press("Escape")
        check_harmless(page)
        shown += page.locator("body").inner_text()
    # The page shows the texts unchanged.
    assert shown.count(MARKUP) > 20
    assert LINK in shown
    assert reports == []


#: JavaScript that tries what the security policy forbids, and returns what succeeded.
FORBIDDEN = """async (other) => {
    const done = [];
    const tries = {
        "trusted types": () => trustedTypes.createPolicy("tests", { createScript: (text) => text }),
        "eval": () => eval("1"),
        "markup": () => { document.createElement("p").innerHTML = "<b>text</b>"; },
        "script address": () => { document.createElement("script").src = "assets/app.js"; },
        "inline script": () => {
            const script = document.createElement("script");
            script.append("window.ran = true");
            document.body.append(script);
            if (!window.ran) throw new Error("not run");
        },
        "foreign script": () => import(other),
        "inline style": () => {
            const style = document.createElement("style");
            style.append("main { color: rgb(1, 2, 3); }");
            document.head.append(style);
            const { color } = getComputedStyle(document.querySelector("main"));
            if (color !== "rgb(1, 2, 3)") throw new Error("not used");
        },
        "request": () => fetch(other, { mode: "no-cors" }),
        "image": () => new Promise((resolve, reject) => {
            Object.assign(new Image(), { onload: resolve, onerror: reject, src: other });
        }),
    };
    for (const [name, act] of Object.entries(tries)) {
        try {
            // Code that the debugger runs may call eval; code that a timer runs may not.
            await new Promise((resolve, reject) => setTimeout(async () => {
                try { resolve(await act()); } catch (error) { reject(error); }
            }));
            done.push(name);
        } catch (error) {
            // The policy forbids it.
        }
    }
    return done;
}"""


def test_csp_is_enforced_without_exceptions(hostile: tuple[Hostile, Any], browser: Any) -> None:
    _, server = hostile
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(server.link)
        page.locator("main h1").first.wait_for()
        page.evaluate("""() => {
            window.reports = [];
            addEventListener("securitypolicyviolation", (report) => {
                window.reports.push(report.effectiveDirective);
            });
        }""")
        # Nothing listens on port 9. The policy stops the requests before they are sent.
        assert page.evaluate(FORBIDDEN, "http://127.0.0.1:9/icon.svg") == []
        directives = {
            "script-src-elem",
            "style-src-elem",
            "connect-src",
            "img-src",
            "require-trusted-types-for",
            "trusted-types",
        }
        assert set(page.evaluate("window.reports")) == directives
    finally:
        context.close()


#: Markup with scripts that only the rule against inline scripts stops: trusted types do not cover
#: what the server sends.
INLINE = """<script>window.ran = "script"</script>
<button id="inline" onclick="window.ran = 'attribute'">Inline</button>"""

#: JavaScript that returns the violations of the security policy, after the last one was reported.
REPORTS = "new Promise((resolve) => { setTimeout(() => resolve(window.reports), 200); })"


def test_csp_forbids_inline_scripts_in_the_markup_of_the_page(
    hostile: tuple[Hostile, Any], browser: Any
) -> None:
    _, server = hostile
    context = browser.new_context()

    def answer(route: Any) -> None:
        """Appends `INLINE` to the page that the server sends. The headers stay the same."""
        response = route.fetch()
        route.fulfill(response=response, body=response.text() + INLINE)

    try:
        page = context.new_page()
        page.goto(server.link)
        page.locator("main h1").first.wait_for()
        page.add_init_script("""
            window.reports = [];
            addEventListener("securitypolicyviolation", (report) => {
                window.reports.push(report.effectiveDirective);
            });
        """)
        page.route(f"{server.url}workflows", answer)
        page.goto(f"{server.url}workflows")
        page.locator("main h1").first.wait_for()
        page.locator("#inline").dispatch_event("click")
        assert set(page.evaluate(REPORTS)) == {"script-src-elem", "script-src-attr"}
        assert page.evaluate("window.ran") is None
    finally:
        context.close()


def test_xss_exported_file_runs_no_script(
    hostile: tuple[Hostile, Any], open_page: Open, browser: Any, tmp_path: Path
) -> None:
    world, server = hostile
    page = open_page(server.link, f"executions/{world.failed}")
    page.locator("summary[aria-label='More actions']").click()
    with page.expect_download() as started:
        page.get_by_role("link", name="Export as an HTML file").click()
    file = tmp_path / "export.html"
    started.value.save_as(file)
    # The file is opened from disk, so the server's security policy does not protect it.
    context = browser.new_context()
    try:
        exported = context.new_page()
        asked: list[str] = []
        exported.on("request", lambda request: asked.append(request.url))
        exported.goto(file.as_uri())
        check_file(exported)
        assert asked == [file.as_uri()]
    finally:
        context.close()


def check_file(page: Any) -> None:
    """Asserts that an exported file shows hostile text as plain text."""
    assert page.evaluate("window.hit") is None
    assert page.locator("img, script, svg, a").count() == 0
    assert "onerror" in page.locator("body").inner_text()


class EvilHandler(BaseHTTPRequestHandler):
    """Serves a page of another origin, whose image and form send requests to `target`."""

    target = ""

    def do_GET(self) -> None:
        """Responds with the page."""
        page = f"""<!doctype html><title>evil</title><h1>evil</h1>
            <img src="{self.target}"><iframe name="frame"></iframe>
            <form id="form" method="post" enctype="text/plain" target="frame"
                action="{self.target}"><input name='{{"workflow":"web_hostile","x":"' value='"}}'>
            </form>"""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(page.encode())

    def log_message(self, *_: object) -> None:
        """Logs nothing."""


#: JavaScript that sends requests with and without CORS, and returns what the evil page could read.
ATTACK = """async (target) => {
    const read = [];
    document.getElementById("form").submit();
    navigator.sendBeacon(target, new Blob(["{}"], {type: "text/plain"}));
    const headers = {"Content-Type": "application/json", "X-Cloaca": "1"};
    for (const method of ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]) {
        for (const mode of ["cors", "no-cors"]) {
            for (const credentials of ["include", "omit"]) {
                const body = method === "GET" ? undefined : '{"workflow": "web_hostile"}';
                const own = mode === "cors" && method !== "GET" ? headers : {};
                try {
                    const answer = await fetch(target, {
                        method, mode, credentials, body, headers: own,
                    });
                    read.push(`${answer.type} ${answer.status} ${await answer.text()}`);
                } catch (error) {
                    read.push("refused");
                }
            }
        }
    }
    try {
        const source = new EventSource(target.replace("executions", "stream"));
        await new Promise((resolve) => { source.onopen = source.onerror = resolve; });
        read.push(source.readyState === EventSource.OPEN ? "stream" : "refused");
        source.close();
    } catch (error) {
        read.push("refused");
    }
    return read;
}"""


def attack(hostile: tuple[Hostile, Any], browser: Any, host: str) -> tuple[set[str], list[Any]]:
    """Opens the evil page in a logged-in browser; returns what it read, and the API's responses."""
    _, server = hostile
    evil = ThreadingHTTPServer(("127.0.0.1", 0), EvilHandler)
    EvilHandler.target = f"{server.url}api/v1/executions"
    thread = threading.Thread(target=evil.serve_forever)
    thread.start()
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(server.link)
        page.locator("main h1").first.wait_for()
        page.goto("about:blank")
        answers: list[Any] = []
        context.on("response", lambda answer: answers.append(answer))
        page.goto(f"http://{host}:{evil.server_port}/")
        read = set(page.evaluate(ATTACK, EvilHandler.target))
        return read, [answer for answer in answers if answer.url.startswith(server.url)]
    finally:
        context.close()
        evil.shutdown()
        thread.join()
        evil.server_close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_csrf_page_on_another_port_changes_nothing(
    hostile: tuple[Hostile, Any], browser: Any, host: str
) -> None:
    """Cookies ignore ports, so the browser adds the cookie to requests from another port's page."""
    world, _ = hostile
    before = [str(item) for item in world.runner.list_executions().items]
    read, answers = attack(hostile, browser, host)
    assert read <= {"refused", "opaque 0 "}
    assert answers
    assert {answer.status for answer in answers} <= {401, 403}
    assert [str(item) for item in world.runner.list_executions().items] == before


def test_ray_2026_27482_foreign_page_changes_nothing(
    hostile: tuple[Hostile, Any], browser: Any
) -> None:
    world, server = hostile
    path = f"executions/{world.failed}"
    before = world.runner.get_execution(world.failed)
    evil = ThreadingHTTPServer(("127.0.0.1", 0), EvilHandler)
    EvilHandler.target = f"{server.url}api/v1/{path}"
    thread = threading.Thread(target=evil.serve_forever)
    thread.start()
    context = browser.new_context(user_agent="python-requests/2")
    try:
        page = context.new_page()
        page.goto(server.link)
        page.goto(f"http://127.0.0.1:{evil.server_port}/")
        read = page.evaluate(
            """async (target) => {
                try {
                    const answer = await fetch(target, {method: "DELETE", credentials: "include"});
                    return answer.status;
                } catch (error) { return "refused"; }
            }""",
            EvilHandler.target,
        )
        assert read == "refused"
    finally:
        context.close()
        evil.shutdown()
        thread.join()
        evil.server_close()
    assert str(world.runner.get_execution(world.failed)) == str(before)
