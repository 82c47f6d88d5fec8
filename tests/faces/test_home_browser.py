"""A night of somebody who never types: from home to a running session, a frame taken out, the gallery, the report.

With the real frames where they are (M 27, a colour camera), else with a simulated night; copied in slowly, as a camera
would.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from livestack.faces.home.memory import Memory
from livestack.faces.home.server import HomeServer
from tests.conftest import REAL_FRAMES
from tests.small_sessions import simulate_night
from tests.waiting import until

pytest.importorskip("selenium", reason="selenium is not installed (extra `test`)")
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browsing import LIVE, Page, needs_browser

pytestmark = needs_browser
READY = "document.body && document.body.dataset.ready"


@pytest.fixture
def camera(tmp_path: Path) -> list[Path]:
    """What the camera is going to write: six frames."""
    real = sorted((REAL_FRAMES / "m27_osc_asi224").glob("*.fits"))
    return real or sorted(simulate_night(tmp_path / "camera", frames=6).glob("*.fits"))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[HomeServer]:
    """Home with an empty folder to choose."""
    (tmp_path / "captures" / "m27").mkdir(parents=True)
    server = HomeServer("127.0.0.1", 0, [tmp_path / "captures"], Memory(tmp_path / "state"))
    server.start()
    yield server
    if server.runner.is_running:
        server.runner.kill()
        server.runner.wait(20)
    server.stop()


def press(page: Page, words: str, where: str = "button") -> None:
    """Press the first button that is shown with these words, as soon as there is one."""

    def find() -> Any:
        for one in page.driver.find_elements(By.CSS_SELECTOR, where):
            try:
                if one.is_displayed() and one.is_enabled() and one.text.split("\n")[0] == words:
                    return one
            except StaleElementReferenceException:  # drawn anew meanwhile
                return None
        return None

    button = until(find)
    page.ask("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()


def show_both(page: Page, name: str) -> None:
    """Look at it at the size of a desk and of a phone, by eye and by axe-core; nothing sticks out."""
    for size in ("phone", "laptop"):
        page.resize(size)
        until(lambda: page.ask("return window.innerWidth") == (390 if size == "phone" else 1366))  # noqa: B023
        page.shoot(f"{name}-{size}")
        assert not page.ask("return document.documentElement.scrollWidth > window.innerWidth"), (name, size)
        assert page.faults() == [], (name, size)


@pytest.mark.timeout(600)
def test_a_night_from_home_to_the_report(driver: Any, home: HomeServer, camera: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "captures" / "m27"
    page = Page(driver, home.host_url, ready=f"{READY} && location.pathname === '/home'")

    # the folder, with nothing in it yet
    press(page, "captures", "#roots button")
    press(page, "m27", "#folders button")
    until(lambda: page.text("found-lead").startswith("No frames yet"))
    until(lambda: "looking" not in page.text("checks-word"))
    page.find("presets").find_element(By.CSS_SELECTOR, "[aria-checked=true]").send_keys(Keys.ARROW_RIGHT)
    assert "every two seconds" in page.text("preset-why")
    press(page, "Any camera")
    show_both(page, "home")

    # the session
    press(page, "Start")
    until(lambda: driver.current_url.endswith("/host") and page.ask(f"return Boolean({LIVE})"))
    for number, file in enumerate(camera, start=1):
        shutil.copy(file, folder / file.name)
        until(lambda: page.ask("return livestack.status.frames") == number)  # noqa: B023
    until(lambda: page.ask("return Boolean(livestack.viewer.stack)"))
    assert page.find("host-saturation").get_attribute("value") == "1.5"

    # another stretch
    before = page.picture()
    page.ask("document.getElementById('host-stretch').value = 'linear';"
             "document.getElementById('host-stretch').dispatchEvent(new Event('change'))")  # fmt: skip
    until(lambda: page.text("host-answer") == "It holds from now on.")
    until(lambda: abs(page.picture().mean() - before.mean()) > 3)
    page.ask("document.getElementById('host-stretch').value = 'auto';"
             "document.getElementById('host-stretch').dispatchEvent(new Event('change'))")  # fmt: skip
    until(lambda: abs(page.picture().mean() - before.mean()) < 3)

    # all parts, then a frame taken out
    page.ask("for (const part of document.querySelectorAll('#host > details')) part.open = true")
    rows = "#host-frame-rows tr"
    until(lambda: len(driver.find_elements(By.CSS_SELECTOR, rows)) == len(camera))
    page.ask("document.getElementById('host-frames').scrollIntoView()")  # pictures come when they are looked at
    until(lambda: page.ask("return document.querySelector('#host-frame-rows img').naturalWidth") > 0)
    until(lambda: len(driver.find_elements(By.CSS_SELECTOR, "#host-chart-list svg circle")) > len(camera))
    show_both(page, "host")
    press(page, "Newest frame")
    until(lambda: page.ask("return document.getElementById('host-frame-image').naturalWidth") >= 240)
    page.shoot("frame-laptop")
    press(page, "Close", "#host-frame button")
    press(page, "Take out", f"{rows} button")
    until(lambda: page.ask("return livestack.status.frames") == len(camera) - 1)
    until(lambda: "took it out" in page.text("refused-list"))

    # stopped, and found again
    page.find("host-stop").click()
    driver.switch_to.alert.accept()
    until(lambda: page.is_shown("host-banner") and "has ended" in page.text("host-banner"), timeout_s=200)
    page.find("host-banner").find_element(By.TAG_NAME, "a").click()
    until(lambda: page.ask(f"return Boolean({READY})"))
    until(lambda: driver.find_elements(By.CSS_SELECTOR, ".card"))
    until(lambda: page.ask("return document.querySelector('.card img').naturalWidth") > 0)
    show_both(page, "gallery")
    driver.find_element(By.CSS_SELECTOR, ".card h2 a").click()
    until(lambda: driver.find_elements(By.CSS_SELECTOR, "#one-groups img"))
    assert f"{len(camera) - 1} frames" in page.text("one-lead")
    show_both(page, "session")
    assert [one for one in page.complaints() if "503" not in one] == []  # the session had ended, as was said
    press(page, "Read the report", "#one-actions a")
    until(lambda: "/home/report/" in driver.current_url and "Why stacking works" in driver.page_source)
    page.shoot("report-laptop")
    assert f"{len(camera) - 1}" in driver.find_element(By.TAG_NAME, "body").text
