"""Chromium without a screen, or a reason why there is none."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)


def require() -> tuple[str, str]:
    """The browser and its driver; skips with a reason, but fails where scripts/test should have installed them."""
    found = shutil.which("chromium"), shutil.which("chromedriver")
    if found[0] and found[1]:
        return found[0], found[1]
    reason = "no chromium and chromedriver on the path; as root, with apt, scripts/test installs them"
    if os.environ.get("HF_TRAINPIPE_NEEDS_BROWSER"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def browser(
    profile: Path, *, width: int = 1100, height: int = 900, dark: bool = False, scale: float = 1
) -> Iterator[Any]:
    """A selenium driver whose page is ``width`` CSS pixels wide."""
    from selenium import webdriver

    chromium, driver = require()
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    root = ("--no-sandbox",) if os.geteuid() == 0 else ()
    for flag in (*FLAGS, *root, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    running = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    try:
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
        running.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        running.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        yield running
    finally:
        running.quit()
