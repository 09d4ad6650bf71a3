"""A report in a real browser, without a head: it opens, its sliders work by keyboard, nothing goes wrong and nothing leaves."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Page, sync_playwright
from report_pages import WRITTEN, whole_report

from ddpm_cli.render.html.page import save_report

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
ATTACK = "</script><script>window.attacked = 1</script><img src=x onerror=window.attacked=2>"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="neither chromium nor google-chrome is on the path")


class Opened:
    """A page with all that was said and asked for while it was open."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.faults: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.faults.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def shown(self, slider: str) -> list[str]:
        """What the pictures that can be seen are of."""
        return [image.get_attribute("alt") or "" for image in self.page.locator(f"#{slider} img:visible").all()]

    def background(self) -> str:
        return str(self.page.evaluate("getComputedStyle(document.body).backgroundColor"))


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """The report of a whole run with a name and metrics that attack."""
    folder = tmp_path_factory.mktemp("browser")
    report = whole_report(folder)
    log = tuple({**row, ATTACK: 1.0} for row in report.log)
    save_report(replace(report, run=replace(report.run, name=ATTACK), log=log), folder / "report.html", WRITTEN)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=120_000)
        page = browser.new_context(color_scheme="light", viewport={"width": 400, "height": 800}).new_page()
        found = Opened(page)
        page.goto((folder / "report.html").as_uri(), timeout=120_000)
        yield found
        browser.close()


@pytest.mark.parametrize(
    ("slider", "last", "before"),
    [
        ("samples-slider", "Samples at step 100", "Samples at step 60"),
        ("denoising-slider", "Denoising at finished images", "Denoising at t = 20, "),
    ],
)
def test_the_arrow_keys_change_the_picture(opened: Opened, slider: str, last: str, before: str) -> None:
    page = opened.page
    assert opened.shown(slider) == [last]
    page.locator(f"#{slider} input").focus()
    page.keyboard.press("ArrowLeft")
    (now,) = opened.shown(slider)
    assert now.startswith(before)
    assert page.locator(f"#{slider} output").inner_text() in now
    page.keyboard.press("End")
    assert opened.shown(slider) == [last]


def test_the_sliders_are_reached_by_tab_and_show_it(opened: Opened) -> None:
    page = opened.page
    page.locator("#theme").focus()
    focused = []
    for _ in range(25):
        page.keyboard.press("Tab")
        focused.append(page.evaluate("document.activeElement.id"))
        if focused[-1] == "samples-slider-range":
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert focused.index("samples-slider-range") < focused.index("denoising-slider-range")
    for name in ("samples-slider-range", "denoising-slider-range"):
        assert page.locator(f"label[for={name}]").is_visible()


def test_curves_are_drawn_and_tell_their_numbers(opened: Opened) -> None:
    page = opened.page
    assert page.locator(".plotly-graph-div .scatterlayer .trace").count() == 7
    plot = page.locator(".plotly-graph-div").first
    plot.scroll_into_view_if_needed()
    plot.hover()
    page.locator(".plotly-graph-div .hoverlayer .hovertext").first.wait_for()
    told = page.locator(".plotly-graph-div .hoverlayer").first.text_content() or ""
    assert "training" in told
    assert "images" in told


def test_light_and_dark(opened: Opened) -> None:
    page = opened.page
    assert opened.background() == "rgb(255, 255, 255)"
    page.emulate_media(color_scheme="dark")
    dark = opened.background()
    assert dark != "rgb(255, 255, 255)"
    page.locator("#theme").click()
    assert opened.background() == "rgb(255, 255, 255)"
    page.locator("#theme").click()
    assert opened.background() == dark


@pytest.mark.parametrize("width", [320, 400, 1280])
def test_the_page_is_never_wider_than_the_window(opened: Opened, width: int) -> None:
    opened.page.set_viewport_size({"width": width, "height": 800})
    for _ in range(100):  # plotly draws anew a moment after the window has changed
        if opened.page.evaluate("document.documentElement.scrollWidth") <= width:
            return
        opened.page.wait_for_timeout(100)
    raise AssertionError(opened.page.evaluate("document.documentElement.scrollWidth"))


def test_nothing_of_the_run_is_run_nothing_fails_and_nothing_leaves(opened: Opened) -> None:
    assert opened.page.locator("h1").inner_text() == ATTACK
    assert opened.page.evaluate("typeof window.attacked") == "undefined"
    assert opened.faults == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
