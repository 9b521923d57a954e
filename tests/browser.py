"""A real browser for the tests: Debian's Chromium through Playwright; a test file asks for it by
``pytest_plugins = "browser"``."""

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
OFFLINE = "MAP * ~NOTFOUND, " + ", ".join(f"EXCLUDE {host}" for host in LOOPBACK)


@pytest.fixture(scope="module")
def chromium() -> "Iterator[Browser]":
    """The browser, started once a test file; it resolves no name but this machine's."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (Debian: chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", f"--host-resolver-rules={OFFLINE}"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def browser_page(chromium: "Browser") -> "Iterator[Page]":
    """An empty page, with cookies of its own. At its end the test fails of what the page and those that it opened asked
    of another machine, threw, or told the console as an error or a warning."""
    problems: list[str] = []
    with chromium.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB") as context:
        context.on("request", lambda request: None if _is_here(request.url) else problems.append(request.url))
        context.on("console", lambda said: problems.append(said.text) if said.type in ("error", "warning") else None)
        context.on("weberror", lambda thrown: problems.append(str(thrown.error)))
        page = context.new_page()
        page.set_default_timeout(15_000)
        yield page
    assert problems == []


def _is_here(url: str) -> bool:
    address = urlsplit(url)
    return address.scheme in ("file", "data", "blob", "about") or address.hostname in LOOPBACK
