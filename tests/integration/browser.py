"""A real browser that looks at a real `otrta serve`, and notes whatever it complains about."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from otrta_cli.processes import Running, free_port, run_otrta, start_client
from otrta_cli.wallet_link import WalletLink

PHONE = {"width": 360, "height": 740}
DESK = {"width": 1200, "height": 850}


@dataclass
class House:
    """`otrta serve` with money, a gateway and the browser that looks at its page.

    Attributes:
        complaints: errors of scripts, of the console, and of the content security policy.
    """

    proxy: Running
    home: Path
    gateway: str
    browser: Browser
    complaints: list[str] = field(default_factory=list)

    @property
    def wallet(self) -> WalletLink:
        """The wallet, as the commands reach it."""
        return WalletLink(self.home)

    def balance(self) -> dict[str, Any]:
        """What the wallet has."""
        found: dict[str, Any] = self.wallet.act("balance")
        return found

    @contextmanager
    def window(self, *, logged_in: bool = True, **options: Any) -> Iterator[Page]:
        """A window of a browser without memory, logged in by a one-time link."""
        context: BrowserContext = self.browser.new_context(viewport=DESK, **options)
        context.set_default_timeout(20_000)
        page = context.new_page()
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        try:
            if logged_in:
                page.goto(json.loads(run_otrta(self.home, "page", "--json"))["url"])
                page.wait_for_selector("h1:has-text('Overview')")
            yield page
        finally:
            context.close()

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)


@contextmanager
def house(proxy: Running, home: Path, gateway: str) -> Iterator[House]:
    """Open a browser beside a proxy that runs."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.fail("this test needs a browser (Debian, Ubuntu: apt-get install chromium)", pytrace=False)
    with sync_playwright() as playwright:
        # a browser of root has no sandbox, and /dev/shm of a container is small
        browser = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield House(proxy, home, gateway, browser)
        browser.close()


__all__ = ["DESK", "PHONE", "House", "free_port", "house", "start_client"]
