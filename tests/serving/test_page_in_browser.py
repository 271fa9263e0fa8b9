"""The page of the service in headless Chromium: what a person sees while typing, in both widths and colours."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from examples.tests.headless import PATIENCE, browsing
from examples.tests.looking import SCHEMES, WIDTHS, faint, look, misplaced
from tests.serving.running import Running, serving

ATTACK = "a fine <img src=x onerror='window.hacked = 1'></p><script>window.hacked = 1</script> film"
OVERFLOWING = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def running(explaining_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(explaining_bundle, tmp_path_factory.mktemp("page") / "log") as running:
        yield running


@pytest.fixture
def driver(running: Running, tmp_path: Path) -> Iterator[webdriver.Chrome]:
    with browsing(tmp_path) as driver:
        driver.get(running.url)
        yield driver


def type_in(driver: webdriver.Chrome, text: str) -> None:
    box = "document.getElementById('text')"
    driver.execute_script(f"{box}.value = {json.dumps(text)}; {box}.dispatchEvent(new Event('input'))")


def wait_for(driver: webdriver.Chrome, selector: str, text: str) -> None:
    def shown(_: object) -> bool:
        return driver.find_element(By.CSS_SELECTOR, selector).text == text

    WebDriverWait(driver, PATIENCE, poll_frequency=0.05).until(shown)


def test_the_label_follows_the_typing_and_the_words_are_marked(driver: webdriver.Chrome, running: Running) -> None:
    text = "A fine film,  but dull in the end"
    answer = running.post("/explain", {"text": text}).json()
    driver.find_element(By.ID, "text").send_keys(text)
    wait_for(driver, "#verdict", answer["label"])
    wait_for(driver, ".bars .best .figure", f"{100 * answer['confidence']:.1f} %")
    names = [name.text for name in driver.find_elements(By.CSS_SELECTOR, "#bars dt")]
    assert names == list(answer["probabilities"])
    assert driver.find_element(By.ID, "marked").get_property("textContent") == text
    marked = driver.find_elements(By.CSS_SELECTOR, "#marked mark")
    strongest = max(answer["words"], key=lambda word: abs(word["share"]))
    sides = {mark.text.lower(): str(mark.get_attribute("class")) for mark in marked}
    assert sides[strongest["word"]] == ("for-3" if strongest["share"] > 0 else "against-3")
    type_in(driver, "   ")
    wait_for(driver, "#verdict", "The label appears here")
    assert not driver.find_element(By.ID, "marked").get_property("textContent")


def test_a_text_is_shown_and_never_run(driver: webdriver.Chrome) -> None:
    type_in(driver, ATTACK)
    WebDriverWait(driver, PATIENCE).until(lambda _: driver.find_elements(By.CSS_SELECTOR, "#marked mark"))
    assert driver.find_element(By.ID, "marked").get_property("textContent") == ATTACK
    assert driver.execute_script("return window.hacked") is None
    assert not driver.find_elements(By.TAG_NAME, "img")
    log: list[dict[str, Any]] = driver.get_log("browser")  # type: ignore[no-untyped-call]
    assert not [entry for entry in log if entry["level"] in ("WARNING", "SEVERE")]


def test_an_error_is_said_in_its_own_words(driver: webdriver.Chrome) -> None:
    type_in(driver, "x" * 100_001)
    wait_for(driver, "#counts", "No answer: text has 100001 characters; the limit is 100000")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_no_word_breaks_nothing_overflows_and_all_can_be_read(
    driver: webdriver.Chrome, width: int, scheme: str
) -> None:
    look(driver, width, scheme)
    type_in(driver, "a fine film " * 40)
    WebDriverWait(driver, PATIENCE).until(lambda _: driver.find_elements(By.CSS_SELECTOR, "#marked mark"))
    assert misplaced(driver) == []
    assert faint(driver) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_a_word_without_an_end_breaks_and_overflows_nothing(driver: webdriver.Chrome, width: int) -> None:
    look(driver, width)
    type_in(driver, "a fine film " + "w" * 300)
    WebDriverWait(driver, PATIENCE).until(lambda _: driver.find_elements(By.CSS_SELECTOR, "#marked mark"))
    assert driver.execute_script(OVERFLOWING) == 0
