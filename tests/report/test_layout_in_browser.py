"""The report and the comparison as a designer would sign them: on a phone and on a desk, in light and in dark."""

import csv
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from selenium import webdriver
from selenium.webdriver.common.by import By

from examples.tests.headless import browsing
from examples.tests.looking import SCHEMES, WIDTHS, faint, look, misplaced
from tests.explaining import LABELS, WORDS, explaining_bundle, small_snapshot
from toolchain.judging.comparison import compare_models
from toolchain.models.classifiers import build_model
from toolchain.models.snapshot import Snapshot
from toolchain.release.release import export_snapshot
from toolchain.report.comparison_page import write_comparison
from toolchain.report.report import write_report
from toolchain.scoring.job import Options, score_file
from toolchain.scoring.scorer import Scorer

ROWS = 300
PAGES = ("report", "one", "comparison", "long")
LONG_LABELS = ("complaint about the delivery", "praise for the customer service", "question_about_an_open_order")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `report.html` on labelled rows, `one.html` on a single one without a label, `comparison.html`, and
    `long.html` on rows with long labels."""
    folder = tmp_path_factory.mktemp("layout")
    bundle = explaining_bundle(folder / "bundle")
    generator = random.Random(0)
    words = [*WORDS[2:], "unheard", "incomprehensibilities", "영화는", "재미있었다"]
    rows = [
        (f"order {number}", " ".join(generator.choices(words, k=generator.randint(1, 80))), generator.choice(LABELS))
        for number in range(ROWS)
    ]
    write_csv(folder / "reviews.csv", ("order", "review", "label"), rows)
    write_csv(folder / "single.csv", ("review",), [("a fine film",)])
    with Scorer(bundle, "cpu", threads=1) as scorer, Scorer(another(folder / "other"), "cpu", threads=1) as other:
        for name, page in (("reviews", "report"), ("single", "one")):
            scored = str(folder / f"{name}.scored.csv")
            score_file(scorer, str(folder / f"{name}.csv"), scored, Options(probabilities=True))
            write_report(scored, str(folder / f"{page}.html"), bundle)
        comparison = compare_models(scorer, other, str(folder / "reviews.csv"), Options())
    write_comparison(comparison, folder / "comparison.html")
    named = dict(zip(LABELS, LONG_LABELS, strict=True))
    write_csv(folder / "long.csv", ("order", "review", "label"), [(*row[:2], named[row[2]]) for row in rows])
    with Scorer(relabelled(folder / "relabelled"), "cpu", threads=1) as scorer:
        score_file(scorer, str(folder / "long.csv"), str(folder / "long.scored.csv"), Options())
    write_report(str(folder / "long.scored.csv"), str(folder / "long.html"), folder / "relabelled")
    return folder


def relabelled(folder: Path) -> Path:
    """A bundle whose labels are long."""
    snapshot = small_snapshot()
    snapshot = replace(snapshot, specification=replace(snapshot.specification, labels=LONG_LABELS))
    export_snapshot(snapshot, folder, ["onnx-cpu", "onnx-explain"])
    return folder


def write_csv(path: Path, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


def another(folder: Path) -> Path:
    """A bundle of the same shape with other weights."""
    snapshot = small_snapshot()
    torch.manual_seed(1)
    state = build_model(snapshot.model, snapshot.specification, len(WORDS), dropout=0.0).state_dict()
    export_snapshot(Snapshot(snapshot.model, snapshot.specification, WORDS, state, {}), folder, ["onnx-cpu"])
    return folder


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with browsing(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_no_word_breaks_nothing_overflows_and_all_can_be_read(
    name: str, width: int, scheme: str, pages: Path, driver: webdriver.Chrome
) -> None:
    look(driver, width, scheme)
    driver.get((pages / f"{name}.html").as_uri())
    driver.execute_script("for (const each of document.querySelectorAll('details')) each.open = true")
    assert misplaced(driver) == []
    assert faint(driver) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_charts_and_bars_fill_their_column(width: int, pages: Path, driver: webdriver.Chrome) -> None:
    look(driver, width)
    driver.get((pages / "report.html").as_uri())
    shares = driver.execute_script(
        "return [...document.querySelectorAll('.chart, .bars')].map((each) => "
        "each.getBoundingClientRect().width / (each.parentElement.clientWidth - 36))"
    )
    assert len(shares) >= 5
    assert min(shares) > 0.9


def test_side_by_side_parts_are_of_one_height_and_none_stands_alone(pages: Path, driver: webdriver.Chrome) -> None:
    look(driver)
    driver.get((pages / "report.html").as_uri())
    boxes: list[list[float]] = driver.execute_script(
        "return [...document.querySelectorAll('.parts')].flatMap((parts) => [...parts.children].map((each) => {"
        "const box = each.getBoundingClientRect(); return [box.top, box.bottom, box.width / parts.clientWidth] }))"
    )
    narrow = [box for box in boxes if box[2] < 0.9]
    assert len(narrow) >= 6
    for left, right in zip(narrow[::2], narrow[1::2], strict=True):
        assert left[:2] == right[:2]


def test_the_sections_stay_in_reach(pages: Path, driver: webdriver.Chrome) -> None:
    look(driver, 400)
    driver.get((pages / "report.html").as_uri())
    last = driver.find_elements(By.CSS_SELECTOR, ".sections a")[-1]
    driver.execute_script("arguments[0].click()", last)
    top, bottom = driver.execute_script(
        "const box = (name) => document.querySelector(name).getBoundingClientRect();"
        "return [box('.sections').top, box('section:last-of-type h2').top - box('.sections').bottom]"
    )
    assert top == 0
    assert bottom >= 0


def test_the_look_sees_what_a_designer_would(pages: Path, driver: webdriver.Chrome) -> None:
    """The checks above are worth something: each fault is found."""
    look(driver, 400)
    driver.get((pages / "report.html").as_uri())
    driver.execute_script(
        """
        document.querySelector(".lead").textContent = "broken".repeat(20);
        const label = document.querySelector(".chart text");
        label.after(label.cloneNode(true));
        document.querySelector(".tiles dt").style.color = "#aaaaaa";
        document.querySelector("h2").style.width = "500px";
        """
    )
    found = "; ".join(misplaced(driver))
    assert "breaks in P lead" in found
    assert "collide" in found
    assert "wide" in found
    assert len(faint(driver)) == 1
