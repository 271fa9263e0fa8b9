"""The report in headless Chromium: what a person sees, filters and sorts, and what a hostile file cannot do to it."""

import csv
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from examples.tests.headless import PATIENCE, browsing
from examples.tests.looking import faint, look
from tests.report.test_report import make_bundle
from toolchain.report.html_page import (
    Bars,
    Facts,
    Matrix,
    Note,
    Page,
    Part,
    Rows,
    Section,
    Table,
    Text,
    Texts,
    Tiles,
    Warnings,
    histogram,
    write_page,
)
from toolchain.report.report import write_report
from toolchain.report.shown import visible

ROWS = 50_000
ATTACK = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
HOSTILE = [
    ATTACK,
    '=HYPERLINK("http://127.0.0.1/?x")',
    "{{ 7 * 7 }} ${7 * 7} {% raw %}",
    "</textarea></title></style></svg></table>--><!--]]>",
    "line\u2028separator and paragraph\u2029separator",
    "right \u202eto left\u202c, bell \x07, escape \x1b[31m, next line \x85, zero width \u200b",
    "'\"`&lt;&amp;&#x3c;script&#x3e;",
    "w" * 2**20,
    "<b>" * 2**18,
    "한국어 العربية 👩‍👩‍👧 \ufffe\uffff",
]
LABELS = ("neg</script><script>window.hacked = 1</script>", "pos' onclick='window.hacked = 1")


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Without Chromium these tests cannot be run; where everything has to be run, that is a failure."""
    if missing := [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]:
        why = f"{' and '.join(missing)} not installed: apt-get install chromium chromium-driver"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    with browsing(tmp_path_factory.mktemp("browser")) as running:
        yield running


class Report:
    """An open page; its console has to stay clean."""

    def __init__(self, driver: webdriver.Chrome, file: Path) -> None:
        self.driver = driver
        driver.get_log("browser")  # type: ignore[no-untyped-call]
        driver.get(file.as_uri())

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def wait_for(self, selector: str, text: str) -> None:
        WebDriverWait(self.driver, PATIENCE, poll_frequency=0.05).until(lambda _: self.one(selector).text == text)

    def column(self, number: int) -> list[str]:
        """What stands in a column of the table of rows, on this page of it."""
        cells: list[str] = self.run(
            "return [...document.querySelectorAll('.rows tbody tr')].map((row) => row.cells[arguments[0]].textContent)",
            number,
        )
        return cells

    def sort_button(self, number: int) -> WebElement:
        return self.all(".rows thead button")[number]

    def console(self) -> list[str]:
        log: list[dict[str, Any]] = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in log]


@pytest.fixture(scope="module")
def hostile_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on a file whose names, labels and cells all attack."""
    folder = tmp_path_factory.mktemp("hostile")
    bundle = make_bundle(folder / "bundle", LABELS, note=ATTACK)
    with (folder / f"{ATTACK.replace('/', '')[:40]}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([ATTACK, "text", "label", "prediction", "confidence"])
        for number, text in enumerate(HOSTILE * 2):
            writer.writerow([text[:100_000], text, LABELS[number % 2], LABELS[number % 3 % 2], 0.5 + number / 100])
    write_report(file.name, str(folder / "report.html"), bundle.folder)
    return folder / "report.html"


@pytest.fixture(scope="module")
def plain_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with every kind of part, and a table of 50,000 rows."""
    table = Table("Figures", ("name", "a", "b", "c", "d", "e"), [("one", 1, 2.5, None, "x", 10_000)])
    pieces = [("A ", None), ("fine", 1.0), (" film, ", None), ("dull", -1.0), (" at times", 0.5), (" slow", -0.5)]
    rows = Rows(
        "All rows",
        ("line", "text", "answer", "confidence"),
        (
            range(1, ROWS + 1),
            [f"review {number} {'even' if number % 2 == 0 else 'odd'}" for number in range(1, ROWS + 1)],
            ["neg" if number % 3 else "pos" for number in range(1, ROWS + 1)],
            [None if number == 49_993 else (number * 7919 % ROWS) / ROWS for number in range(1, ROWS + 1)],
        ),
        choices=(2, 1),  # the second has too many values to choose from
    )
    sections = [
        Section("Parts", [Tiles([("Rows", "50,000")]), Note("A note."), Warnings(["Mind it."]), table]),
        Section("Facts", [Facts("Facts", [("Text column", "review")])]),
        Section(
            "Charts",
            [
                Bars("Bars", "Two bars each.", ("neg", "pos"), {"here": (1, 2), "there": (2, 1)}, "rows"),
                Matrix("Matrix", "Four cells.", "label", ("neg", "pos"), [[3, 1], [0, 4]]),
                histogram("Histogram", "Two bins.", (0.0, 0.5, 1.0), (1, 2), "confidence"),
            ],
        ),
        Section("Texts", [Texts("Texts", [Text([("line", "1")], pieces)])]),
        Section("Rows", [rows]),
    ]
    path = tmp_path_factory.mktemp("plain") / "page.html"
    write_page(Page("A page", "With everything", sections), path)
    return path


@pytest.fixture
def hostile(driver: webdriver.Chrome, hostile_file: Path) -> Report:
    return Report(driver, hostile_file)


@pytest.fixture
def plain(driver: webdriver.Chrome, plain_file: Path) -> Iterator[Report]:
    report = Report(driver, plain_file)
    report.wait_for(".count", "50,000 of 50,000 rows")
    yield report
    look(report.driver)
    assert report.console() == []


def test_nothing_in_a_hostile_file_is_run(hostile: Report) -> None:
    assert hostile.run("return window.hacked === undefined")
    for button in hostile.all(".rows thead button"):
        button.click()
    hostile.run("for (const each of document.querySelectorAll('summary')) each.click()")
    assert hostile.run("return window.hacked === undefined")
    # The page's own script and the rows, and no element that the file brought.
    assert hostile.run("return document.querySelectorAll('script').length") == 2
    assert hostile.run("return document.querySelectorAll('img, iframe, object, base, b b, textarea').length") == 0
    assert hostile.run("return document.querySelectorAll('[onclick], [onerror], [onload]').length") == 0
    assert hostile.console() == []


def test_hostile_text_stands_there_as_it_is(hostile: Report) -> None:
    head = hostile.run("return [...document.querySelectorAll('.rows thead button')].map((each) => each.textContent)")
    assert ATTACK in head
    texts = hostile.column(1)
    assert texts[:3] == HOSTILE[:3]
    assert texts[4] == HOSTILE[4]
    assert texts[5] == "right [U+202E]to left[U+202C], bell ␇, escape ␛[31m, next line [U+0085], zero width \u200b"
    assert texts[7] == "w" * 200 + "… (1,048,576 characters)"
    assert set(hostile.column(2)) == set(LABELS)
    quotes = hostile.run("return [...document.querySelectorAll('blockquote')].map((each) => each.textContent)")
    assert HOSTILE[3] in quotes
    assert any(quote.startswith("www") and quote.endswith("more characters)") for quote in quotes)
    labels = hostile.run("return [...document.querySelectorAll('.bars')].map((each) => each.textContent).join()")
    assert LABELS[0] in labels


def test_a_hostile_file_makes_no_heavy_page(hostile: Report, hostile_file: Path) -> None:
    assert hostile_file.stat().st_size < 1_000_000
    look(hostile.driver)
    assert hostile.run("return document.documentElement.scrollWidth") == 1280
    search = hostile.one(".filters input")
    search.send_keys("HYPERLINK")
    hostile.wait_for(".count", "2 of 20 rows")
    assert hostile.column(1) == [HOSTILE[1]] * 2


def test_the_page_cannot_load_run_or_send_anything(driver: webdriver.Chrome, plain_file: Path) -> None:
    plain = Report(driver, plain_file)
    assert plain.run("return performance.getEntriesByType('resource').length") == 0
    refused = plain.driver.execute_async_script(
        """
        const done = arguments[0];
        const script = document.createElement("script");
        script.textContent = "window.hacked = 1";
        document.body.append(script);
        setTimeout("window.hacked = 2");
        const refused = () => setTimeout(() => done(window.hacked ?? "refused"), 100);
        fetch("http://127.0.0.1:9/").then(() => done("it went out"), refused);
        """
    )
    assert refused == "refused"
    complaints = plain.console()
    assert len(complaints) >= 3
    assert all("Content Security Policy" in message for message in complaints)


def test_rows_are_sorted_by_mouse(plain: Report) -> None:
    assert plain.column(0)[:3] == ["1", "2", "3"]
    plain.sort_button(3).click()
    first = [float(value) for value in plain.column(3)]
    assert first == sorted(first)
    assert first[0] == 0
    assert plain.all(".rows th")[3].get_attribute("aria-sort") == "ascending"
    plain.sort_button(3).click()
    first = [float(value) for value in plain.column(3)]
    assert first == sorted(first, reverse=True)
    assert plain.all(".rows th")[3].get_attribute("aria-sort") == "descending"
    plain.sort_button(0).click()
    assert plain.all(".rows th")[3].get_attribute("aria-sort") is None
    assert plain.column(0)[:2] == ["1", "2"]


def test_an_empty_cell_is_last_either_way(plain: Report) -> None:
    plain.one(".filters input").send_keys("review 4999")
    plain.wait_for(".count", "11 of 50,000 rows")
    for _ in range(2):
        plain.sort_button(3).click()
        assert [place for place, value in enumerate(plain.column(3)) if value == ""] == [10]


def test_rows_are_filtered_and_turned_by_keyboard(plain: Report) -> None:
    def press(*keys: str) -> None:
        ActionChains(plain.driver).send_keys(*keys).perform()

    def focused() -> WebElement:
        active = plain.driver.switch_to.active_element
        assert active.value_of_css_property("outline-style") == "solid", active.get_attribute("outerHTML")
        return active

    plain.run("document.querySelector('.legend').tabIndex = -1; document.querySelector('.legend').focus()")
    press(Keys.TAB)
    assert focused() == plain.one(".filters input")
    press("ODD")
    plain.wait_for(".count", "25,000 of 50,000 rows")
    press(Keys.ENTER)  # submits nothing
    press(Keys.TAB)
    assert focused() == plain.one(".filters select")
    press("pos")
    plain.wait_for(".count", "8,333 of 50,000 rows")
    assert plain.column(0)[:3] == ["3", "9", "15"]
    press(Keys.TAB, Keys.TAB, Keys.SPACE)
    assert focused() == plain.sort_button(0)
    press(Keys.SPACE)
    assert plain.column(0)[:2] == ["49995", "49989"]
    press(*[Keys.TAB] * 4)
    assert focused() == plain.all(".pager button")[1]
    press(Keys.ENTER, Keys.ENTER)
    assert plain.one(".pager span").text == "Page 3 of 167"
    ActionChains(plain.driver).key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(Keys.SHIFT).perform()
    assert focused() == plain.all(".pager button")[0]
    press(Keys.ENTER, Keys.ENTER)
    assert plain.one(".pager span").text == "Page 1 of 167"
    assert focused() == plain.all(".pager button")[1]
    plain.one(".filters input").clear()
    plain.one(".filters input").send_keys("no such row")
    plain.wait_for(".count", "0 of 50,000 rows")
    assert plain.one(".pager span").text == "Page 1 of 1"


def test_a_label_is_chosen_by_mouse(plain: Report) -> None:
    choice = Select(plain.one(".filters select"))
    assert [option.text for option in choice.options] == ["all", "neg", "pos"]
    choice.select_by_visible_text("neg")
    plain.wait_for(".count", "33,334 of 50,000 rows")
    assert set(plain.column(2)) == {"neg"}


@pytest.mark.parametrize(("media", "scheme"), [("", "light"), ("", "dark"), ("print", "dark")])
def test_text_can_be_read_in_every_scheme(plain: Report, media: str, scheme: str) -> None:
    look(plain.driver, scheme=scheme, media=media)
    paper = plain.run("return getComputedStyle(document.body).backgroundColor")
    assert paper == (
        "rgb(255, 255, 255)" if media else "rgb(245, 246, 244)" if scheme == "light" else "rgb(17, 23, 22)"
    )
    if not media:
        plain.run("for (const each of document.querySelectorAll('details')) each.open = true")
    assert faint(plain.driver) == []


def test_the_contrast_check_sees_what_is_faint(plain: Report) -> None:
    plain.run("document.querySelector('h1').style.color = '#999999'")
    assert len(faint(plain.driver)) == 1


def test_on_paper_there_is_nothing_to_press(plain: Report) -> None:
    look(plain.driver, media="print")
    assert not any(each.is_displayed() for each in plain.all(".filters, .pager, .sections, details"))
    assert plain.one(".rows tbody tr").is_displayed()


def test_a_screen_reader_finds_its_way(plain: Report) -> None:
    assert plain.one("html").get_attribute("lang") == "en"
    assert plain.run("return [...document.querySelectorAll('th:not([scope])')].length") == 0
    assert plain.run("return [...document.querySelectorAll('th')].every((each) => each.textContent)")
    assert plain.run("return [...document.querySelectorAll('table')].every((each) => each.caption.textContent)")
    assert plain.one(".chart").aria_role == "image"
    assert plain.one(".chart").accessible_name == "Histogram. Two bins."
    assert plain.run("return [...document.querySelectorAll('h1, h2, h3')].map((each) => each.tagName).join()") == (
        "H1,H2,H2,H3,H2,H2,H2"
    )
    assert plain.one(".count").aria_role == "status"
    plain.run("document.querySelector('summary').click()")
    for control in plain.all("input, select, button, .scroll"):
        assert control.accessible_name
    assert len(plain.all("h1")) == 1
    assert plain.one("figure details table").get_property("rows")


def test_nothing_scrolls_sideways_on_a_phone(plain: Report) -> None:
    look(plain.driver, 360)
    assert plain.run("return document.documentElement.scrollWidth") == 360


def test_what_cannot_be_seen_ends_in_no_chart(tmp_path: Path) -> None:
    every = "".join(map(chr, [*range(0x300), *range(0x2000, 0x2070), 0xD800, 0xDFFF, 0xFFFE, 0xFFFF, 0x1FFFE]))
    parts: list[Part] = [
        Bars(every, every, (every, "b"), {every: (1, 2)}, every),
        histogram(every, every, (0, 1), (1,), every),
    ]
    write_page(Page(every, every, [Section(every, parts)]), tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "\0" not in html
    assert "\u202e" not in html
    assert visible("a\0b\u202ec\n") == "a␀b[U+202E]c\n"
