"""A real browser for tests: found, started, and a page in it as a visitor sees and uses it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from tests.waiting import until

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars"
)
SIZES = {"phone": (390, 844), "landscape": (844, 390), "laptop": (1366, 768), "projector": (1920, 1080)}
SHOTS = os.environ.get("LIVESTACK_SHOTS")
"""A folder for screenshots, for those who want to look."""
AXE = os.environ.get("LIVESTACK_AXE")
"""Where axe-core's `axe.min.js` lies (npm), for those who want the pages judged by it."""
LIVE = "window.livestack && livestack.status"
"""True on a page of a session that has heard of it."""

needs_browser = pytest.mark.skipif(not (BROWSER and DRIVER), reason="chromium and chromedriver are not installed")


def open_browser(profile: Path, downloads: Path | None = None) -> Any:
    """Start a browser with a profile of its own; skips where it does not start."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    if downloads is not None:
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    try:
        browser = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    except WebDriverException as error:
        pytest.skip(f"the browser does not start here: {error.msg}")
    browser.set_page_load_timeout(20)
    browser.set_script_timeout(60)
    return browser


class Page:
    """What a visitor sees and does."""

    def __init__(self, driver: Any, url: str, size: str = "laptop", ready: str = LIVE) -> None:
        self.driver = driver
        self.resize(size)
        driver.get_log("browser")
        driver.get(url)
        until(lambda: self.ask(f"return Boolean({ready})"))

    def resize(self, size: str) -> None:
        width, height = SIZES[size]
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size in ("phone", "landscape")},
        )

    def ask(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def find(self, name: str) -> Any:
        return self.driver.find_element(By.ID, name)

    def text(self, name: str) -> str:
        return str(self.find(name).text)

    def is_shown(self, name: str) -> bool:
        return bool(self.find(name).is_displayed())

    def picture(self) -> np.ndarray:
        """The canvas as it is painted, thinned out."""
        script = """const v = livestack.viewer, d = v.context.getImageData(0, 0, v.canvas.width, v.canvas.height).data;
        const out = []; for (let i = 0; i < d.length; i += 4 * 97) out.push(d[i], d[i + 1], d[i + 2]); return out;"""
        return np.array(self.ask(script), dtype=float).reshape(-1, 3)

    def tap(self, x: float, y: float) -> None:
        """Tap where a true pixel of the picture is painted, in whatever way it came there."""
        at = self.ask(
            """const v = livestack.viewer, b = v.canvas.getBoundingClientRect(), [w, h] = v.size;
            return [b.left + w / 2 + (arguments[0] + .5 - v.centre[0]) * v.zoom,
              b.top + h / 2 + (arguments[1] + .5 - v.centre[1]) * v.zoom];""",
            x,
            y,
        )
        pointer = webdriver.ActionChains(self.driver)
        pointer.w3c_actions.pointer_action.move_to_location(round(at[0]), round(at[1]))
        pointer.w3c_actions.pointer_action.click()
        pointer.perform()

    def shoot(self, name: str) -> None:
        if SHOTS:
            self.driver.save_screenshot(str(Path(SHOTS) / f"{name}.png"))

    def complaints(self) -> list[str]:
        """What the browser's console says was wrong: blocked by policy, missing, thrown."""
        return [e["message"] for e in self.driver.get_log("browser") if e["level"] == "SEVERE"]

    def faults(self) -> list[str]:
        """Serious faults of accessibility by axe-core, each with where it is; empty without axe-core."""
        if not AXE:
            return []
        # by the debugger, not by the page: its policy lets in no script but its own
        self.driver.execute_cdp_cmd("Runtime.evaluate", {"expression": Path(AXE).read_text(encoding="utf-8")})
        found = self.driver.execute_async_script(
            "const done = arguments[0]; axe.run(document).then((found) => done(found.violations));"
        )
        return [
            f"{one['id']}: {node['html'][:160]} ({node.get('failureSummary', '')[:200]})"
            for one in found if one["impact"] in ("serious", "critical") for node in one["nodes"]
        ]  # fmt: skip
