"""The web view in a real browser, at the size of a phone, a laptop and a projector."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from livestack.faces.web.publish import Publisher
from livestack.faces.web.server import WebServer
from tests.astrometry.test_grid import map_at, wcs_of
from tests.fake_session import FakeSession, place_stars
from tests.waiting import until

pytest.importorskip("selenium", reason="selenium is not installed (extra `test`)")
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browsing import SIZES, Page, needs_browser

TOKEN = "secret-of-the-host"

pytestmark = needs_browser


@pytest.fixture
def session() -> Iterator[FakeSession]:
    """Six frames, one refused."""
    fake = FakeSession(1500, 980)
    for _ in range(6):
        fake.step()
    yield fake
    fake.stop()


@pytest.fixture
def server(session: FakeSession, driver: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    """The server, believing that phones can reach it."""
    monkeypatch.setattr(WebServer, "is_open", True)
    running = WebServer(session.slot, session.controls, "127.0.0.1", 0, TOKEN)
    running.start()
    yield running
    driver.get("about:blank")
    running.stop()


@pytest.mark.parametrize("size", ["phone", "laptop", "projector"])
def test_page_follows_the_session_at_every_size(
    driver: Any, session: FakeSession, server: WebServer, size: str
) -> None:
    page = Page(driver, server.public_url + ("#projector" if size == "projector" else ""), size)
    until(lambda: page.ask("return Boolean(livestack.viewer.stack && livestack.viewer.frame)"))
    time.sleep(0.2)
    assert page.text("frames") == "5"
    before = page.picture()
    assert before.std() > 5
    for _ in range(4):
        session.step()
    until(lambda: page.text("frames") == "8")  # one of the four is refused
    until(lambda: not np.array_equal(before, page.picture()))
    assert not page.ask("return document.documentElement.scrollWidth > window.innerWidth")
    assert page.text("exposure") == "4 min of light"
    if size == "projector":
        until(lambda: page.ask("return document.getElementById('join-code').naturalWidth > 0"))
        assert not page.is_shown("panel")
    # What can be pressed is large enough for a finger, and on the screen.
    for button in driver.find_elements(By.TAG_NAME, "button"):
        if button.is_displayed() and button.rect["x"] >= 0:
            assert button.rect["height"] >= 34
    page.shoot(size)
    assert page.faults() == []
    assert page.complaints() == []


def test_divider_shows_the_single_frame(driver: Any, session: FakeSession, server: WebServer) -> None:
    page = Page(driver, server.public_url)
    until(lambda: page.ask("return Boolean(livestack.viewer.stack && livestack.viewer.frame)"))
    time.sleep(0.2)
    stack = page.picture()
    divider = page.find("divider")
    divider.send_keys(Keys.END)  # by keyboard
    until(lambda: divider.get_attribute("aria-valuenow") == "100")
    until(lambda: not np.array_equal(stack, page.picture()))
    frame = page.picture()
    # One frame is noisier than five: the spread of the sky, clipped at black in both.
    spread = [np.subtract(*np.percentile(p.sum(axis=1), [75, 25])) for p in (frame, stack)]
    assert spread[0] > 1.3 * spread[1]
    divider.send_keys(Keys.HOME)
    until(lambda: np.array_equal(stack, page.picture()))
    actions = webdriver.ActionChains(driver)  # by mouse
    actions.click_and_hold(divider).move_by_offset(400, 0).release().perform()
    until(lambda: 30 < int(divider.get_attribute("aria-valuenow")) < 60)
    page.shoot("divider")


def test_zoom_to_true_pixels(driver: Any, session: FakeSession, server: WebServer) -> None:
    page = Page(driver, server.public_url)
    until(lambda: page.ask("return Boolean(livestack.viewer.stack)"))
    whole = page.ask("return livestack.viewer.zoom")
    assert whole == pytest.approx(1016 / 1500, rel=0.01)
    page.find("zoom-full").click()
    until(lambda: page.ask("return livestack.viewer.sharpTiles") >= 6)
    assert page.ask("return livestack.viewer.zoom") >= 1
    canvas = page.find("view")
    canvas.send_keys("1")
    assert page.ask("return livestack.viewer.zoom") == 1
    until(lambda: page.text("zoom-word") == "100 %")  # said with the next picture
    time.sleep(0.4)
    # A screen pixel is a pixel of the stack: compare with the session's own array.
    origin = page.ask(
        "const v = livestack.viewer; return [v.centre[0] - v.size[0] / 2, v.centre[1] - v.size[1] / 2].map(Math.round)"
    )
    shown = page.ask("""const d = livestack.viewer.context.getImageData(300, 200, 64, 48).data;
        return Array.from(d).filter((_, i) => i % 4 < 3);""")
    found = np.array(shown, float).reshape(48, 64, 3)
    assert session.snapshot.region is not None
    truth = session.snapshot.region(origin[0] + 299, origin[1] + 199, 66, 50).astype(float)
    best = max(
        np.corrcoef(found.mean(axis=2).ravel(), truth[y : y + 48, x : x + 64].mean(axis=2).ravel())[0, 1]
        for x in range(3) for y in range(3)
    )  # fmt: skip
    assert best > 0.85
    at = page.ask("return livestack.viewer.centre[0]")
    canvas.send_keys(Keys.ARROW_RIGHT)
    assert page.ask("return livestack.viewer.centre[0]") > at
    page.shoot("zoom")
    page.find("zoom-full").click()
    assert page.ask("return livestack.viewer.zoom") == pytest.approx(whole)
    webdriver.ActionChains(driver).double_click(canvas).perform()
    until(lambda: page.ask("return livestack.viewer.zoom") >= 1)
    assert page.complaints() == []


def test_pinch_and_drag_with_fingers(driver: Any, session: FakeSession, server: WebServer) -> None:
    page = Page(driver, server.public_url, "phone")
    until(lambda: page.ask("return Boolean(livestack.viewer.stack)"))
    before = page.ask("return livestack.viewer.zoom")

    def fingers(kind: str, *places: tuple[int, int]) -> None:
        points = [{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(places)]
        driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    fingers("touchStart", (180, 400), (210, 400))
    for spread in range(10, 90, 10):
        fingers("touchMove", (180 - spread, 400), (210 + spread, 400))
    fingers("touchEnd")
    after = page.ask("return livestack.viewer.zoom")
    assert after > 2.5 * before
    centre = page.ask("return livestack.viewer.centre[0]")
    fingers("touchStart", (300, 500))
    fingers("touchMove", (250, 500))
    fingers("touchMove", (200, 500))
    fingers("touchEnd")
    assert page.ask("return livestack.viewer.centre[0]") > centre
    assert page.ask("return window.visualViewport.scale") == 1  # the page itself did not zoom


def test_connection_lost_and_found(
    driver: Any, session: FakeSession, server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(driver, server.public_url)
    assert not page.is_shown("link")
    port = server._port
    server.stop()
    until(lambda: page.is_shown("link"))
    assert page.text("link") == "Reconnecting…"
    page.shoot("reconnecting")
    session.step()
    again = WebServer(session.slot, session.controls, "127.0.0.1", port, TOKEN)
    again.start()
    try:
        until(lambda: page.text("frames") == "6")
        assert not page.is_shown("link")
        session.step()
        until(lambda: page.text("frames") == "7")
        number = again._site.encoder.view.number if again._site else None
        until(lambda: page.ask("return livestack.viewer.stack.src").endswith(f"-{number}.jpg"))
    finally:
        driver.get("about:blank")
        again.stop()


def test_host_controls_and_public_sees(driver: Any, session: FakeSession, server: WebServer) -> None:
    page = Page(driver, server.host_url)
    until(lambda: driver.current_url.endswith("/host"))
    assert TOKEN not in driver.page_source
    assert TOKEN not in page.ask("return document.cookie")  # out of reach of scripts
    until(lambda: page.text("host-pause") == "Pause")
    page.find("host-pause").click()
    until(lambda: page.text("host-answer") == "pause: done.")
    until(lambda: page.text("host-pause") == "Resume")
    page.find("host-public").find_element(By.TAG_NAME, "summary").click()
    note = page.find("host-note")
    note.send_keys("Light from <b>2.5 million</b> years ago", Keys.ENTER)
    until(lambda: ("note", "Light from <b>2.5 million</b> years ago") in session.asked)
    page.find("host-frames").find_element(By.TAG_NAME, "summary").click()
    until(lambda: len(driver.find_elements(By.CSS_SELECTOR, "#host-frame-rows tr")) == 6)
    driver.find_element(By.CSS_SELECTOR, "#host-frame-rows .stacked td:last-child button").click()
    until(lambda: ("remove", "Light_0005.fits") in session.asked)
    page.ask(
        "const e = document.getElementById('host-background'); e.value = 0.2; e.dispatchEvent(new Event('input'));"
    )
    until(lambda: ("stretch", 0.2, 1.5) in session.asked)
    page.shoot("host")
    page.find("host-stop").click()
    driver.switch_to.alert.dismiss()  # asked first, and nothing happened
    assert ("stop",) not in session.asked
    assert page.complaints() == []

    public = Page(driver, server.public_url)
    until(lambda: public.text("tagline") == "Light from <b>2.5 million</b> years ago")  # as words, not as markup
    assert public.text("exposure").startswith("paused")
    assert not driver.find_elements(By.ID, "host-pause")


@pytest.mark.parametrize("size", ["phone", "laptop"])
def test_the_host_taps_a_comet(driver: Any, session: FakeSession, server: WebServer, size: str) -> None:
    """What is followed is the pixel of the picture under the finger, however large it is shown."""
    page = Page(driver, server.host_url, size)
    until(lambda: driver.current_url.endswith("/host") and page.ask("return Boolean(livestack.viewer.stack)"))
    comet = (870.0, 410.0)
    page.ask("livestack.viewer.zoomTo(1.3 * livestack.viewer.zoom, 200, 150)")
    if not page.is_shown("host-follow"):
        page.find("more").click()
    page.ask("document.getElementById('host-follow').click()")  # while the panel still slides in
    until(lambda: page.text("host-banner").startswith("Tap the comet"))
    until(lambda: page.is_shown("panel") == (size == "laptop"))
    page.shoot(f"follow-{size}")
    page.tap(*comet)
    until(lambda: any(words[0] == "follow" for words in session.asked))
    (_, *place) = next(words for words in session.asked if words[0] == "follow")
    zoom = page.ask("return livestack.viewer.zoom")
    np.testing.assert_allclose(place, comet, atol=1 + 1 / zoom)
    assert page.find("host-follow").get_attribute("aria-pressed") == "false"
    until(lambda: page.text("host-banner") == "follow: done.")
    assert page.complaints() == []


def test_controls_begin_at_what_is_in_force(driver: Any, session: FakeSession, server: WebServer) -> None:
    """Sliders at the stretch of the session; the choice of stacks only while an object is followed."""
    session.controls.set_stretch(0.07, 2.3)
    page = Page(driver, server.host_url)
    until(lambda: page.text("host-background-word") == "0.07" and page.text("host-saturation-word") == "2.3")
    assert not page.is_shown("host-show")
    session.publish(follows=True)
    until(lambda: page.is_shown("host-show"))
    pressed = "#host-show [aria-pressed=true]"
    until(lambda: driver.find_element(By.CSS_SELECTOR, pressed).text == "Both")
    driver.find_element(By.CSS_SELECTOR, "#host-show [data-which=object]").click()
    until(lambda: ("show", "object") in session.asked)
    until(lambda: driver.find_element(By.CSS_SELECTOR, pressed).text == "Comet")
    page.shoot("show")
    assert page.complaints() == []


def test_visitor_is_refused_every_control(driver: Any, session: FakeSession, server: WebServer) -> None:
    page = Page(driver, server.public_url)
    driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    codes = driver.execute_async_script(
        """const done = arguments[1], body = JSON.stringify({ text: "x", background: 0.1, saturation: 1 });
        const order = { method: "POST", headers: { "Content-Type": "application/json" }, body: body };
        Promise.all(arguments[0].map((a) => fetch("host/do/" + a, order).then((r) => r.status))).then(done);""",
        ["pause", "resume", "save", "stop", "target", "note", "object", "stretch", "remove", "follow", "show"],
    )
    assert codes == [403] * 11
    assert page.ask("return fetch('host/state.json').then((r) => r.status)") == 403
    driver.get(server.public_url + "host")
    assert "secret link" in driver.page_source
    assert session.asked == []


def test_looking_back_how_it_grew(driver: Any, session: FakeSession, server: WebServer) -> None:
    page = Page(driver, server.public_url)
    for _ in range(4):
        session.step()
        frames = str(session.snapshot.n_stacked)
        until(lambda frames=frames: page.text("frames") == frames)
    until(lambda: page.is_shown("growth"))
    page.find("scrub").send_keys(Keys.HOME)
    until(lambda: page.ask("return Boolean(livestack.viewer.past)"))
    assert page.text("scrub-word") == "after 5 frames"
    session.step()  # the past stays while the present goes on
    until(lambda: page.text("frames") == str(session.snapshot.n_stacked))
    assert page.text("scrub-word") == "after 5 frames"
    page.find("scrub-live").click()
    assert page.text("scrub-word") == "now"
    assert not page.ask("return Boolean(livestack.viewer.past)")


def test_everything_can_be_reached_and_is_named(driver: Any, session: FakeSession, server: WebServer) -> None:
    page = Page(driver, server.public_url)
    until(lambda: page.is_shown("divider"))
    unnamed = page.ask(
        """return Array.from(document.querySelectorAll("button, input, [role=slider], [role=img], img")).filter((e) =>
          !(e.getAttribute("aria-label") || e.textContent.trim() || e.getAttribute("alt") || (e.labels || []).length)
          ).map((e) => e.outerHTML);"""
    )
    assert unnamed == []
    reached = set()
    body = driver.find_element(By.TAG_NAME, "body")
    body.click()
    for _ in range(14):
        webdriver.ActionChains(driver).send_keys(Keys.TAB).perform()
        reached.add(page.ask("return document.activeElement.id"))
    assert {"view", "divider", "zoom-full", "night", "projector", "scrub"} - reached <= {"scrub"}
    assert page.find("news").get_attribute("aria-live") == "polite"
    ratios = page.ask(
        """const light = (c) => { const v = c.match(/[\\d.]+/g).slice(0, 3).map((x) => { x /= 255;
            return x <= 0.03928 ? x / 12.92 : Math.pow((x + 0.055) / 1.055, 2.4); });
          return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
        const panel = light(getComputedStyle(document.getElementById("panel")).backgroundColor);
        return Array.from(document.querySelectorAll("#panel h2, #panel dt, #panel dd, #panel p")).map((e) =>
          (light(getComputedStyle(e).color) + 0.05) / (panel + 0.05));"""
    )
    assert min(ratios) > 4.5  # WCAG 2.2 AA
    page.find("night").click()
    assert page.find("night").get_attribute("aria-pressed") == "true"
    page.shoot("night")
    page.find("night").click()


def test_stars_by_tap(driver: Any, session: FakeSession, server: WebServer) -> None:
    page = Page(driver, server.public_url)
    until(lambda: page.ask("return Boolean(livestack.viewer.stack && livestack.viewer.frame)"))
    time.sleep(0.2)
    plain = page.picture()
    assert not page.is_shown("stars-toggle")  # nothing was measured yet
    session.measure(60)
    until(lambda: page.is_shown("stars-toggle"))
    assert np.array_equal(plain, page.picture())
    page.find("stars-toggle").click()
    until(lambda: page.text("stars-word") == "2 of 120 measured stars vary in 60 frames.")
    until(lambda: not np.array_equal(plain, page.picture()))
    assert not page.is_shown("panel")
    page.shoot("stars")

    def tap(star: int) -> None:
        """Where the star was painted, in whatever way it came there."""
        page.tap(*place_stars(1500, 980)[star, :2])
        until(lambda: page.text("star-title").lower() == f"star {star}")

    tap(3)
    assert page.text("star-word").startswith("Faded by 0.1")
    assert page.find("star-chart").get_attribute("aria-label").startswith("Light curve: Faded by")
    drawn = len(driver.find_elements(By.CSS_SELECTOR, "#star-chart .point"))
    assert drawn == 60
    session.measure(130)  # it grows by itself
    until(lambda: len(driver.find_elements(By.CSS_SELECTOR, "#star-chart .point")) == 130)
    assert page.text("star-word").startswith("Faded by 0.3")
    page.shoot("star")
    time.sleep(0.5)  # a second tap at once would zoom
    tap(0)
    assert page.text("star-word").startswith("Steady within ")
    page.find("zoom-full").click()  # rings and taps follow the picture
    time.sleep(0.5)
    visible = page.ask(
        """const v = livestack.viewer, [w, h] = v.size;
        return livestack.stars.list.rings.filter((r) => Math.abs(r[1] - v.centre[0]) * v.zoom < w / 2 - 60 &&
          Math.abs(r[2] - v.centre[1]) * v.zoom < h / 2 - 160).map((r) => r[0]);"""
    )
    tap(next(star for star in visible if star != 0))
    page.find("zoom-full").click()
    page.find("stars-close").click()
    until(lambda: np.array_equal(plain, page.picture()))
    assert page.is_shown("panel")
    assert page.complaints() == []


@pytest.mark.parametrize("size", ["phone", "laptop"])
def test_stars_by_keyboard(driver: Any, session: FakeSession, server: WebServer, size: str) -> None:
    session.measure(90)
    page = Page(driver, server.public_url, size)
    until(lambda: page.ask("return Boolean(livestack.viewer.stack)"))
    home = page.ask("return [livestack.viewer.zoom, ...livestack.viewer.size]")

    def press(*keys: str) -> None:
        webdriver.ActionChains(driver).send_keys(*keys).perform()

    def focus() -> str:
        return str(page.ask("const e = document.activeElement; return e.id || 'star ' + e.dataset.star"))

    until(lambda: page.is_shown("stars-toggle"))
    page.find("stars-toggle").send_keys(Keys.ENTER)
    until(lambda: page.is_shown("stars-table"))
    for _ in range(8):
        press(Keys.TAB)
        if focus() == "star 3":
            break
    assert focus() == "star 3"
    press(Keys.ENTER)
    until(lambda: page.is_shown("star-chart"))
    assert focus() == "star-title"
    assert page.find("star-title").get_attribute("aria-describedby") == "star-word"
    assert not page.ask("return document.documentElement.scrollWidth > window.innerWidth")
    for button in driver.find_elements(By.TAG_NAME, "button"):
        if button.is_displayed() and button.rect["x"] >= 0:
            assert button.rect["height"] >= 34
    page.shoot(f"star-{size}")
    press(Keys.ESCAPE)
    until(lambda: page.is_shown("stars-list"))
    assert focus() == "star 3"
    session.measure(91)  # the table is made anew, and the focus stays
    until(lambda: "91 frames" in page.text("stars-word"))
    assert focus().startswith("star ")
    page.find("night").click()
    page.shoot(f"stars-night-{size}")
    page.find("night").click()
    press(Keys.ESCAPE)
    until(lambda: not page.is_shown("stars"))
    assert focus() == "stars-toggle"
    assert page.ask("return [livestack.viewer.zoom, ...livestack.viewer.size]") == home
    session.publish(curves=None)  # a new target
    until(lambda: not page.is_shown("stars-toggle"))
    assert page.complaints() == []


def test_published_page_works_from_any_web_server(driver: Any, session: FakeSession, tmp_path: Path) -> None:
    import threading
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    Publisher(session.slot, tmp_path / "site").write(session.snapshot)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "site"))) as static:
        thread = threading.Thread(target=static.serve_forever)
        thread.start()
        try:
            page = Page(driver, f"http://127.0.0.1:{static.server_port}/")
            until(lambda: page.ask("return Boolean(livestack.viewer.stack && livestack.viewer.frame)"))
            assert page.text("frames") == "5"
            assert page.complaints() == []
            driver.get("about:blank")
        finally:
            static.shutdown()
            thread.join()


def test_the_sky_over_the_picture(driver: Any, session: FakeSession, server: WebServer) -> None:
    page = Page(driver, server.public_url)
    until(lambda: page.ask("return Boolean(livestack.viewer.stack && livestack.viewer.frame)"))
    page.ask("localStorage.clear()")
    time.sleep(0.2)
    plain = page.picture()
    for name in ("labels", "grid", "sky", "depth", "place", "cursor"):
        assert not page.is_shown(name)
    sky = map_at(56.75, 24.1, 5.0, 20.0, bends=True)
    session.solve(sky, limit_mag=17.3, sky_mag=20.1, limits=((4, 15.9), (40, 17.3)))
    until(lambda: page.is_shown("labels"))
    until(lambda: not np.array_equal(plain, page.picture()))
    assert page.text("sky-word").startswith("You are looking at ")
    assert page.text("depth-word") == "Faintest star now: 17.3 mag"
    assert "1.4 mag fainter than after the first 4 frames" in page.text("depth-more")
    assert "20.1 mag/arcsec²" in page.text("dark-word")

    # every place in the picture, against astropy
    places = np.array([(x, y) for x in (0, 400, 1499) for y in (0, 333, 979)])
    found = np.array(page.ask("return arguments[0].map((p) => livestack.sky.place(p[0], p[1]))", places.tolist()))
    back = wcs_of(sky).all_world2pix(found, 0)
    np.testing.assert_allclose(back, places, atol=0.1)

    def drawn() -> dict[str, tuple[float, float]]:
        return {d[0]: (d[1], d[2]) for d in page.ask("return livestack.sky.drawn.map((d) => [d.label.name, d.x, d.y])")}

    until(lambda: "Alcyone" in drawn())
    boxes = page.ask("return livestack.sky.drawn.map((d) => d.box)")
    for k, a in enumerate(boxes):
        for b in boxes[:k]:
            assert a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3]
    at = page.ask("const b = livestack.viewer.canvas.getBoundingClientRect(); return [b.left, b.top]")

    def tap(x: float, y: float) -> None:
        pointer = webdriver.ActionChains(driver)
        pointer.w3c_actions.pointer_action.move_to_location(round(at[0] + x), round(at[1] + y))
        pointer.w3c_actions.pointer_action.click()
        pointer.perform()

    tap(*drawn()["Alcyone"])
    until(lambda: page.text("place-title") == "Alcyone")
    assert page.text("place-facts") == "Star η Tau · mag 2.9 · in Taurus"
    assert "03h 47m 29" in page.text("place-where")
    page.shoot("sky-card")
    page.find("place-close").click()
    assert not page.is_shown("place")

    before = drawn()["Alcyone"]
    page.ask("livestack.viewer.zoomTo(1.5, arguments[0], arguments[1])", *before)
    time.sleep(0.3)
    np.testing.assert_allclose(drawn()["Alcyone"], before, atol=1)  # names follow the picture
    page.ask("livestack.viewer.pan(-37, 21)")
    time.sleep(0.3)
    np.testing.assert_allclose(np.subtract(drawn()["Alcyone"], before), (-37, 21), atol=1)
    page.ask("livestack.viewer.fit()")
    named = page.picture()
    page.find("grid").click()
    assert page.find("grid").get_attribute("aria-pressed") == "true"
    until(lambda: not np.array_equal(named, page.picture()))
    page.find("labels").click()
    until(lambda: not drawn())
    page.shoot("sky-grid")
    page.find("labels").click()
    time.sleep(0.4)  # a second tap at once would zoom
    tap(500, 600)
    until(lambda: page.is_shown("place"))
    x, y = page.ask("return livestack.viewer.toPicture(arguments[0], arguments[1])", 500, 600)
    ra, dec = wcs_of(sky).all_pix2world([[x, y]], 0)[0]
    assert page.text("place-facts") == f"{ra:.4f}°, +{dec:.4f}°"
    session.solve(None)
    until(lambda: not page.is_shown("labels"))
    for name in ("grid", "sky", "depth", "place"):
        assert not page.is_shown(name)
    assert not page.ask("return livestack.sky.place(1, 1)")
    assert page.complaints() == []


def test_the_host_reads_the_place_under_the_cursor(driver: Any, session: FakeSession, server: WebServer) -> None:
    sky = map_at(56.75, -0.4, 5.0, 20.0)
    session.solve(sky)
    page = Page(driver, server.host_url)
    until(lambda: driver.current_url.endswith("/host") and page.ask("return Boolean(livestack.sky.told)"))
    pointer = webdriver.ActionChains(driver)
    pointer.w3c_actions.pointer_action.move_to_location(401, 333)
    pointer.perform()
    until(lambda: page.is_shown("cursor"))
    x, y = page.ask("return livestack.viewer.toPicture(401, 333)")
    place = SkyCoord(*wcs_of(sky).all_pix2world([[x, y]], 0)[0], unit="deg")
    ra = place.ra.to_string(unit="hour", precision=2, pad=True, fields=3).replace("m", "m ").replace("h", "h ")
    assert page.text("cursor").startswith(ra)
    assert page.text("cursor").endswith(f"{place.ra.deg:.4f}°, {place.dec.deg:+.4f}°".replace("-", "−"))
    assert "livestack, 87 stars" in page.text("sky-facts")


@pytest.mark.parametrize("size", ["phone", "landscape"])
def test_buttons_of_the_sky_fit_on_a_phone(driver: Any, session: FakeSession, server: WebServer, size: str) -> None:
    session.solve(map_at(56.75, 24.1, 5.0, 20.0))
    session.measure(60)
    page = Page(driver, server.public_url, size)
    until(lambda: page.is_shown("labels") and page.is_shown("stars-toggle"))
    width, height = SIZES[size]
    for button in driver.find_elements(By.CSS_SELECTOR, "#tools button"):
        box = button.rect
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert box["height"] >= 44
        assert box["y"] + box["height"] <= height
        assert page.ask("return arguments[0].scrollWidth <= arguments[0].clientWidth + 1", button)
    page.shoot(f"sky-{size}")


def test_visitors_read_their_own_language(driver: Any, session: FakeSession, server: WebServer) -> None:
    """The browser's first, or the one that is chosen by hand; the host's page stays as it is."""
    agent = driver.execute_script("return navigator.userAgent")
    try:
        driver.execute_cdp_cmd("Network.setUserAgentOverride", {"userAgent": agent, "acceptLanguage": "de-AT,en"})
        page = Page(driver, server.public_url)
        until(lambda: page.text("frames-word") == "Bilder gestapelt")
        assert page.text("exposure") == "2 min 30 s Licht"
        assert "Wolken dämpften die Sterne" in page.text("refused-list")
        assert page.find("night").get_attribute("title").startswith("Rotlicht")
        assert page.ask("return document.documentElement.lang") == "de"
        page.shoot("german")
        page.ask("const e = document.getElementById('language'); e.value = 'pl'; e.dispatchEvent(new Event('change'));")
        until(lambda: page.ask("return Boolean(window.livestack && livestack.status)"))
        until(lambda: page.text("frames-word") == "złożonych klatek")  # five: Polish counts in three ways
        host = Page(driver, server.host_url, ready="window.livestackHost && livestack.status")
        assert host.text("frames-word") == "frames stacked"
    finally:
        driver.execute_script("localStorage.clear()")
        driver.execute_cdp_cmd("Network.setUserAgentOverride", {"userAgent": agent, "acceptLanguage": "en-US,en"})


def test_overlay_is_words_on_nothing(driver: Any, session: FakeSession, server: WebServer) -> None:
    page = Page(driver, server.public_url + "overlay", "projector", ready="document.body.dataset.frames === '5'")
    assert page.ask("return getComputedStyle(document.body).backgroundColor") == "rgba(0, 0, 0, 0)"
    assert page.text("frames") == "5"
    session.step()
    until(lambda: page.text("frames") == "6")
    page.shoot("overlay")
    assert page.complaints() == []


def test_projector_turns_between_stack_frame_and_reason(driver: Any, session: FakeSession, server: WebServer) -> None:
    page = Page(driver, server.public_url + "#projector", "projector")
    until(lambda: page.ask("return Boolean(livestack.viewer.stack && livestack.viewer.frame)"))
    assert not page.is_shown("why")
    page.ask("livestack.turn(1)")
    until(lambda: page.find("divider").get_attribute("aria-valuenow") == "100")
    page.ask("livestack.turn(2)")
    until(lambda: page.is_shown("why"))
    assert page.text("why-word").startswith("After 5 frames")
    page.shoot("why")
    page.ask("livestack.turn(0)")
    assert not page.is_shown("why")
    assert page.complaints() == []


def test_a_warning_sounds_once(driver: Any, session: FakeSession, server: WebServer) -> None:
    page = Page(driver, server.host_url, ready="window.livestackHost && livestack.status")
    assert not page.find("host-sound").is_selected()
    page.ask("document.getElementById('host-sound').click()")
    assert page.ask("return livestackHost.sounded") == 1  # so that one knows how it sounds
    session.publish(warnings=("clouds are coming",))
    until(lambda: page.ask("return livestackHost.sounded") == 2)
    session.step()
    until(lambda: page.text("frames") == "6")
    time.sleep(1.2)  # the state was asked for again
    assert page.ask("return livestackHost.sounded") == 2
    page.ask("document.getElementById('host-sound').click()")
