"""A real browser: the system's Chromium through Playwright; without either, tests are skipped."""

import shutil

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser():
    """Chromium, started once."""
    api = pytest.importorskip(
        "playwright.sync_api", reason="no page was looked at in a browser: playwright is missing"
    )
    found = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no page was looked at in a browser: there is no chromium on the path")
    with api.sync_playwright() as playwright:
        # A sandbox needs rights that containers do not have; the pages are our own.
        running = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield running
        running.close()
