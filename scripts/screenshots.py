"""Takes screenshots of the web page for the documentation, in both themes: `make screenshots`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
WIDTH = 1200
HEIGHT = 660
#: The size of the picture `phone`.
PHONE = {"width": 390, "height": 760}
#: Maximum size of a picture in bytes. The limit keeps the repository and the documentation small.
MAX_PICTURE = 150_000


def executions(url: str, token: str, query: str) -> list[dict[str, str]]:
    """Returns the executions that match a query."""
    request = Request(
        f"{url}api/v1/executions?{query}", headers={"Authorization": f"Bearer {token}"}
    )
    with urlopen(request) as answer:
        items: list[dict[str, str]] = json.load(answer)["items"]
    return items


def main() -> int:
    """Serves the demo, and takes a picture of each page."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("chromium was not found; hint: apt-get install chromium", file=sys.stderr)
        return 1
    command = [sys.executable, "-m", "cloaca", "ui", "--demo", "--json", "--no-open", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stdout is not None
            text = ""
            while not text.rstrip().endswith("}"):
                text += demo.stdout.readline()
            server = json.loads(text)
            url, token = server["url"], server["token"]
            failed = executions(url, token, "workflow=orders&status=Failed")[0]["id"]
            pages = {
                "attention": "",
                "executions": "executions",
                "execution": f"executions/{failed}#task=validate",
                "timeline": f"executions/{failed}/timeline",
                "waiting": "waiting",
                "rerun": f"workflows/orders/start?from={failed}",
                "compare": f"compare?a=last-success&b={failed}",
                "phone": f"executions/{failed}",
            }
            with sync_playwright() as tools:
                browser = tools.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                for theme in ("light", "dark"):
                    context = browser.new_context(
                        viewport={"width": WIDTH, "height": HEIGHT},
                        color_scheme=theme,
                        timezone_id="Europe/Berlin",
                    )
                    page = context.new_page()
                    page.goto(server["link"])
                    for name, path in pages.items():
                        page.goto("about:blank")
                        size = {"width": WIDTH, "height": HEIGHT}
                        page.set_viewport_size(PHONE if name == "phone" else size)
                        page.goto(url + path)
                        page.locator("main h1").first.wait_for()
                        page.wait_for_timeout(1200)
                        picture = IMAGES / f"ui-{name}-{theme}.png"
                        page.screenshot(path=picture)
                        if picture.stat().st_size > MAX_PICTURE:
                            print(f"{picture.name} is larger than {MAX_PICTURE} bytes")
                            return 1
                    context.close()
                browser.close()
        finally:
            demo.terminate()
    return 0


if __name__ == "__main__":
    sys.exit(main())
