"""The report and the movie in headless Chromium, as a reader has them."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mlcore.evaluation.evaluate import evaluate_split
from mlcore.evaluation.gradcam import GradCamMatch
from mlcore.evaluation.projection import project
from mlcore.options.engine import EvaluationOptions
from mlcore.protocols import PlaceTable, Split
from mlcore.reporting.figures.movie import save_movie
from mlcore.reporting.report.content import ReportContent
from mlcore.reporting.report.page import save_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]
NAME = "<img src=x onerror=alert(1)>.jpg"
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


class Dataset:
    def load_image(self, index):
        generator = torch.Generator().manual_seed(index)
        return torch.randint(0, 256, (3, 24, 32), dtype=torch.uint8, generator=generator)

    def image_name(self, index):
        return f"{index} {NAME}"


def table(size, first, conditions):
    generator = np.random.default_rng(first)
    return PlaceTable(
        index=np.arange(size) + first,
        positions_m=generator.uniform(0, 60, (size, 2)),
        traversal=np.zeros(size, dtype=np.int64),
        traversals=("t",),
        condition=np.arange(size) % len(conditions),
        conditions=conditions,
    )


@pytest.fixture(scope="module")
def results():
    generator = np.random.default_rng(0)
    split = Split(references=table(30, 1000, ("c",)), queries=table(60, 0, ("sun", "night")))
    embeddings = [generator.normal(size=(size, 4)).astype(np.float32) for size in (30, 60)]
    options = EvaluationOptions()
    return split, evaluate_split(*embeddings, split, options, name="trained"), embeddings[1]


@pytest.fixture(scope="module")
def report(results, tmp_path_factory):
    split, found, queries = results
    heat = np.eye(3, dtype=np.float32)
    gradcam = [
        GradCamMatch(
            query=int(found.query_index[row]),
            reference=int(found.reference_index[row]),
            query_map=heat,
            reference_map=heat,
            distance_m=float(found.distance_m[row]),
            embedding_distance=0.5,
        )
        for row in (0, 1)
    ]
    path = tmp_path_factory.mktemp("report") / "report.html"
    content = ReportContent(
        title=NAME,
        config="seed = 0",
        environment={"command": NAME},
        metrics=[{"step": step, "loss": 1 / step} for step in (1, 2, 3)],
        results=[found],
        split=split,
        dataset=Dataset(),
        within_m=10.0,
        pictured=12,
        gradcam=gradcam,
        projections=[("trained", project(queries))],
    )
    save_report(content, path)
    return path


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # A container's root has no sandbox of Chromium's; the page is our own.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, report):
    """Return a function that opens the report; nothing may be said or asked for meanwhile."""
    said, pages = [], []

    def open_page(path=report, viewport=DESKTOP, **settings):
        page = browser.new_page(viewport=viewport, **settings)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("request", lambda request: said.append(request.url[:80]))
        page.goto(path.as_uri())
        said[:] = [text for text in said if text != path.as_uri()]
        said[:] = [text for text in said if not text.startswith("data:image/")]
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert not [text for text in said if not text.startswith("data:image/")]


def shown(page):
    return page.locator("#shown-text").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_it_opens_and_fits_the_screen(open_page, viewport, scheme):
    page = open_page(viewport=viewport, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("h1").inner_text() == NAME
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    assert page.evaluate(
        "[...document.images].every((one) => !one.src || one.naturalWidth > 0)"
    )


def contrast(page, selector):
    """Return the contrast (WCAG 2.2) of an element's text with the paper."""
    colours = page.evaluate(
        "(selector) => [getComputedStyle(document.querySelector(selector)).color,"
        " getComputedStyle(document.body).backgroundColor]",
        selector,
    )
    levels = []
    for colour in colours:
        values = [int(part) / 255 for part in colour[4:-1].split(",")]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
        levels.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(levels) + 0.05) / (min(levels) + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(open_page, scheme):
    page = open_page(color_scheme=scheme)
    for selector in (
        "body",
        ".lead",
        "a",
        ".verdict.right, .key.right",
        ".key.wrong",
        ".bound",
    ):
        assert contrast(page, selector) >= 4.5, selector


def test_pointing_at_a_query_shows_its_pictures(open_page):
    page = open_page()
    for place in (3, 7):
        point = page.locator(f"#query-{place}")
        point.hover(force=True)
        text = shown(page)
        assert text == point.get_attribute("aria-label")
        assert NAME in text
        for part in ("query", "reference"):
            image = page.locator(f"#shown-{part}")
            assert image.evaluate("(one) => one.naturalWidth") == 32
            assert NAME in image.get_attribute("alt")
    line = page.locator("#error")
    assert line.get_attribute("x1") == point.get_attribute("transform")[10:].split()[0]


def test_keys_go_through_the_queries(open_page):
    page = open_page()
    page.locator("#pictured").focus()
    labels = [point.get_attribute("aria-label") for point in page.locator(".query").all()]
    assert shown(page) == labels[0]
    for key, place in (
        *(("ArrowRight", 1), ("ArrowDown", 2), ("ArrowLeft", 1), ("End", 11)),
        *(("ArrowRight", 0), ("ArrowUp", 11), ("Home", 0)),
    ):
        page.keyboard.press(key)
        assert shown(page) == labels[place]
        selected = page.locator('.query[aria-selected="true"]')
        assert selected.count() == 1
        active = page.locator("#pictured").get_attribute("aria-activedescendant")
        assert active == selected.get_attribute("id") == f"query-{place}"
    page.keyboard.press("Escape")
    assert page.locator("#shown").is_hidden()


def test_everything_that_acts_is_reached_by_tab(open_page):
    page = open_page()
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.name"))
    assert {"condition", "outcome", "pictured", "previous", "next"} <= reached


def test_a_phone_shows_every_column_of_accuracy(open_page):
    page = open_page(viewport=PHONE)
    region = page.locator("#results .scroll").first
    assert region.evaluate("one => one.scrollWidth <= one.clientWidth")


def right_edge(page, region):
    """Return the mean brightness of the 4 px at the right edge of a table's head."""
    box = region.bounding_box()
    clip = {"x": box["x"] + box["width"] - 4, "y": box["y"], "width": 4, "height": 8}
    shot = page.screenshot(clip=clip)
    return float(np.asarray(Image.open(io.BytesIO(shot)).convert("L")).mean())


def test_a_phone_shows_that_a_wide_table_scrolls_and_keeps_its_first_column(open_page):
    page = open_page(viewport=PHONE, color_scheme="light")
    region = page.locator("#results .scroll").nth(1)
    region.scroll_into_view_if_needed()
    assert region.evaluate("one => one.scrollWidth > one.clientWidth")
    assert right_edge(page, region) < 235
    region.evaluate("one => one.scrollTo(9999, 0)")
    assert right_edge(page, region) > 250
    name = region.locator("th[scope='row']").first
    assert name.bounding_box()["x"] == region.bounding_box()["x"]
    last = region.locator("thead th").last.bounding_box()
    assert last["x"] + last["width"] <= PHONE["width"]


def test_filters_hide_what_is_not_chosen(open_page, results):
    page = open_page()
    _, found, _ = results
    night = found.condition == 1
    right = found.distance_m < 10
    page.get_by_role("checkbox", name="sun").uncheck()
    visible = page.locator(".query:visible").all()
    assert {point.get_attribute("data-condition") for point in visible} == {"1"}
    assert page.locator('tbody[data-condition="0"]:visible').count() == 0
    assert page.locator('tbody[data-condition="1"]:visible').count() == 2
    assert page.locator('.chart[data-condition="0"]:visible').count() == 0
    status = page.locator("#count").inner_text()
    assert status.startswith(f"{night.sum()} of 60 queries on the map; ")
    assert (
        f"; {right[night].sum()} of {night.sum()} queries of these conditions are right"
        in status
    )
    page.get_by_role("checkbox", name="wrong").uncheck()
    assert page.locator(".query.wrong:visible").count() == 0
    assert page.locator(".match.wrong:visible").count() == 0
    assert page.locator("#count").inner_text().startswith(f"{(night & right).sum()} of 60")
    for _ in range(3):
        assert "(night): right, " in shown(page)
        page.locator("#next").click()
    page.get_by_role("checkbox", name="night").uncheck()
    assert "no condition is selected" in page.locator("#count").inner_text()
    assert page.locator("#shown").is_hidden()
    page.get_by_role("checkbox", name="sun").check()
    assert "(sun): right, " in shown(page)


def test_it_prints_in_black_on_white_without_what_only_acts(open_page, tmp_path):
    page = open_page(color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    for selector in (".filters", "nav", ".steps"):
        assert page.locator(selector).is_hidden()
    assert page.locator("#places").is_visible()
    page.pdf(path=tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").stat().st_size > 10_000


def test_a_movie_plays(browser, tmp_path):
    frames = (np.full((64, 96, 3), 20 * number, dtype=np.uint8) for number in range(10))
    save_movie(frames, tmp_path / "movie.mp4", frames_per_second=5)
    page_file = Path(tmp_path, "page.html")
    page_file.write_text('<video src="movie.mp4" muted></video>')
    page = browser.new_page()
    page.goto(page_file.as_uri())
    about = page.evaluate(
        """async () => {
            const video = document.querySelector("video");
            await video.play();
            return [video.videoWidth, video.videoHeight, video.duration];
        }"""
    )
    page.close()
    assert about == [96, 64, pytest.approx(2.0, abs=0.1)]
