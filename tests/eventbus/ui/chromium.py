"""A headless Chromium of the distribution, driven by Selenium."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --force-color-profile=srgb --hide-scrollbars"
)
_MISSING = "there is no Chromium to drive: apt-get install chromium chromium-driver"


def paths() -> tuple[str, str]:
    """Where the browser and its driver are; skips the test if they are not."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not driver:
        if os.environ.get("CI"):
            pytest.fail(f"{_MISSING} (in CI these tests always run)")
        pytest.skip(_MISSING)
    return browser, driver


@contextmanager
def chromium() -> Iterator[Chrome]:
    """A browser with a new profile; it makes no connection but to the page."""
    browser, driver = paths()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ChromeOptions()
        options.binary_location = browser
        for flag in (*_FLAGS.split(), f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        running = Chrome(options=options, service=Service(driver))
        try:
            yield running
        finally:
            running.quit()


def show(driver: Chrome, width: int, height: int, *, scheme: str = "light", mobile: bool = False) -> None:
    """Give the window a size, and say which colours the person prefers."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def run(driver: Chrome, script: str, *arguments: object) -> Any:
    """The value of a script."""
    return driver.execute_script(script, *arguments)
