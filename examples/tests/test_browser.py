"""The static page, in headless Chromium: what a person types, chooses, reads and downloads."""

import csv
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from examples.tests.headless import FOLDER, Page, Server, browsing, build, serving
from examples.tests.looking import SCHEMES, WIDTHS, faint, look, misplaced
from export.bundle import open_bundle

REVIEW = "I did not expect much, and the film was lovely."
# With F\u0130LM and BOO\u212a, which Unicode's lower case makes known words: only A-Z may be lowered.
CAPITALS = "A LOVELY F\u0130LM and BOO\u212a ÉCOLE ŒUVRE 👩‍👩‍👧"
ROWS = [
    ["1", 'She said: "see it", and I did.', "a, b"],
    ["2", "A long first half.\r\nThe second, though, is superb;\nI cried.", ""],
    ["3", "Großartig, 素晴らしい, 👩‍👩‍👧 und ÉCOLE.", "x"],
    ["4", "   ", "blank"],
    ["5", "<img src=x onerror=alert(1)> dull", '"'],
]


@pytest.fixture(scope="module")
def site(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built page. Shared: do not change it."""
    return build(bundle, tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[Server]:
    with serving(site) as running:
        yield running


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def driver(downloads: Path) -> Iterator[webdriver.Chrome]:
    with browsing(downloads) as running:
        yield running


@pytest.fixture
def page(driver: webdriver.Chrome, server: Server) -> Iterator[Page]:
    """The page, freshly opened; whatever a test does with it, the console stays clean."""
    opened = Page(driver, server.origin)
    assert opened["status"].text == "Ready"
    yield opened
    assert opened.console() == []


@pytest.fixture(scope="module")
def session(bundle: Path) -> ort.InferenceSession:
    return ort.InferenceSession(bundle / "model.onnx", providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def labels(bundle: Path) -> list[str]:
    names: list[str] = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["labels"]
    return names


def score(session: ort.InferenceSession, texts: Sequence[str]) -> list[tuple[str, list[float], int, int]]:
    """Label, probabilities, tokens and unknown words of each text, from ONNX Runtime in Python."""
    outputs = ["label", "probabilities", "tokens", "unknown"]
    results = (session.run(outputs, {"text": np.array([text], dtype=object)}) for text in texts)
    return [(label[0], row[0].tolist(), int(tokens[0]), int(unknown[0])) for label, row, tokens, unknown in results]


def percents(probabilities: Sequence[float]) -> list[str]:
    return [f"{100 * share:.1f} %" for share in probabilities]


def write(path: Path, rows: Sequence[Sequence[str]], encoding: str = "utf-8", **dialect: Any) -> Path:
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, **dialect).writerows(rows)
    return path


def read(path: Path, **dialect: Any) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, **dialect))


def download(page: Page, folder: Path, name: str) -> Path:
    """Clicks the link and waits for the whole file, which the browser renames into place."""
    path = folder / name
    path.unlink(missing_ok=True)
    page["download"].click()
    page.wait(path.exists)
    return path


def test_every_vector_agrees_in_the_page(
    driver: webdriver.Chrome, server: Server, vectors: list[dict[str, Any]], tolerance: float
) -> None:
    assert_all_agree(Page(driver, f"{server.origin}/?check").check_report(), len(vectors), tolerance)


def test_a_shrunk_model_agrees_as_well(driver: webdriver.Chrome, shrunk_bundle: Path, tmp_path: Path) -> None:
    opened = open_bundle(shrunk_bundle)
    with serving(build(shrunk_bundle, tmp_path / "site")) as small:
        report = Page(driver, f"{small.origin}/?check").check_report()
    assert_all_agree(report, len(opened.vectors()), float(opened.manifest["tolerance"]))


def assert_all_agree(report: str, count: int, tolerance: float) -> None:
    found = re.match(r"([\d,]+) of ([\d,]+) texts agree; largest difference (\S+), ", report)
    assert found, report
    agreeing, total = (int(number.replace(",", "")) for number in found.groups()[:2])
    assert agreeing == total == count
    assert float(found[3]) <= tolerance


def test_the_check_finds_one_wrong_vector(
    driver: webdriver.Chrome, tampered_vectors: Path, site: Path, tmp_path: Path
) -> None:
    shutil.copytree(site, tmp_path / "site")
    shutil.copy(tampered_vectors, tmp_path / "site" / "vectors.jsonl")
    with serving(tmp_path / "site") as server:
        page = Page(driver, server.origin)
        page["check"].click()
        report = page.check_report()
    agreeing, total = (int(number.replace(",", "")) for number in re.findall(r"[\d,]+", report)[:2])
    assert agreeing == total - 1
    assert page["check-report"].get_attribute("data-state") == "error"


def test_the_label_follows_the_typing(page: Page, session: ort.InferenceSession) -> None:
    assert page["verdict"].text == "The label appears here"
    for text in (REVIEW, f"{REVIEW} Zxqvy!"):
        page["text"].send_keys(text.removeprefix(page.text()))
        [(label, probabilities, tokens, unknown)] = score(session, [text])
        page.wait_for_answer(percents(probabilities))
        assert page["verdict"].text == label
        assert page["counts"].text.startswith(f"{tokens} words, {unknown or 'none'} unknown to the model")
    page["text"].send_keys(Keys.CONTROL, "a", Keys.NULL, Keys.BACKSPACE)
    page.wait(lambda: page["verdict"].text == "The label appears here")


def shows_count(page: Page, tokens: int) -> bool:
    return page["counts"].text.startswith(f"{tokens:,} words")


def test_every_string_a_text_box_can_hold_has_an_answer(page: Page, session: ort.InferenceSession) -> None:
    for text, clean in (
        ("lovely\0film", "lovely film"),
        ("a lovely \ud800 film \udc00\ud83d", "a lovely \ufffd film \ufffd\ufffd"),
        (CAPITALS, CAPITALS),
        ("lovely film " * 20_000, "lovely film " * 20_000),
    ):
        page.set_text(text)
        [(label, probabilities, tokens, unknown)] = score(session, [clean])
        page.wait(partial(shows_count, page, tokens))
        assert page["verdict"].text == label
        assert page.percents() == percents(probabilities)
        assert f", {f'{unknown:,}' if unknown else 'none'} unknown" in page["counts"].text


def test_many_unknown_words_are_a_warning(page: Page) -> None:
    page.set_text("zxqvy wvutq xyzzy")
    page.wait(lambda: page["counts"].text == "3 words, 3 unknown to the model: do not lean on this answer.")


def test_a_sample_is_scored_with_one_click(page: Page, session: ort.InferenceSession) -> None:
    for sample in page.driver.find_elements(By.CLASS_NAME, "chip"):
        sample.click()
        text = str(sample.get_property("textContent"))
        assert page.text() == text
        page.wait_for_answer(percents(score(session, [text])[0][1]))


def test_the_page_tells_what_the_manifest_knows(page: Page, labels: list[str]) -> None:
    facts = page["card"].text.split("\n")
    assert facts[:4] == ["Recipe", "gru", "Labels", ", ".join(labels)]
    assert any(fact.endswith("accuracy") for fact in facts)


@pytest.mark.parametrize(
    ("dialect", "encoding"),
    [
        ({"lineterminator": "\r\n"}, "utf-8"),
        ({"delimiter": ";", "lineterminator": "\n"}, "utf-8-sig"),
        ({"delimiter": "\t", "lineterminator": "\n", "quoting": csv.QUOTE_ALL}, "utf-8"),
    ],
)
def test_a_chosen_file_comes_back_with_its_columns_and_ours(
    page: Page, session: ort.InferenceSession, downloads: Path, tmp_path: Path, dialect: dict[str, Any], encoding: str
) -> None:
    header = ["id", "Review", "prediction"]
    file = write(tmp_path / "my reviews.csv", [header, *ROWS], encoding, **dialect)
    page.choose(file)
    assert page["report"].text.startswith("my reviews.csv: 4 of 5 rows in ")
    assert "1 left blank" in page["report"].text
    result = download(page, downloads, "my reviews.scored.csv")
    assert result.read_bytes().startswith(b"\xef\xbb\xbf") == (encoding == "utf-8-sig")
    assert result.read_bytes().endswith(dialect["lineterminator"].encode())
    names, *rows = read(result, delimiter=dialect.get("delimiter", ","))
    assert [name.removeprefix("\ufeff") for name in names] == [*header, "prediction_2", "confidence"]
    assert [row[:3] for row in rows] == ROWS
    for row, (label, probabilities, _, _) in zip(rows, score(session, [row[1] for row in ROWS]), strict=True):
        if row[1].strip():
            assert row[3] == label
            assert float(row[4]) == pytest.approx(max(probabilities), abs=1e-5)
        else:
            assert row[3:] == ["", ""]


def test_the_preview_shows_cells_as_text(page: Page, tmp_path: Path) -> None:
    page.choose(write(tmp_path / "reviews.csv", [["id", "text", "note"], *ROWS]))
    cells = page.driver.find_elements(By.CSS_SELECTOR, "#preview td:first-child")
    assert [cell.get_property("textContent") for cell in cells] == [row[1] for row in ROWS]
    assert page.driver.find_elements(By.CSS_SELECTOR, "#preview img") == []


def test_a_file_can_be_dropped_anywhere(page: Page) -> None:
    page.driver.execute_script("""
        const transfer = new DataTransfer();
        transfer.items.add(new File(["text\\nA lovely film.\\nA dull film.\\n"], "dropped.csv"));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
    """)
    page.wait(lambda: page["report"].text.startswith("dropped.csv: 2 of 2 rows in "))


def test_another_column_can_be_taken_for_the_text(
    page: Page, session: ort.InferenceSession, downloads: Path, tmp_path: Path
) -> None:
    rows = [["A lovely film.", "A film of which nothing good can be said."]]
    page.choose(write(tmp_path / "two.csv", [["short", "long"], *rows]))
    column = Select(page["column"])
    assert column.first_selected_option.text == "long"
    column.select_by_visible_text("short")
    page.wait(lambda: page["result"].is_displayed())
    [_, row] = read(download(page, downloads, "two.scored.csv"))
    assert float(row[3]) == pytest.approx(max(score(session, [row[0]])[0][1]), abs=1e-5)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("text\nGroßartig\n".encode("latin-1"), "the file is not UTF-8; save it as “CSV UTF-8” and try again."),
        (b'id,text\n1,fine\n2,"never closed\n', "record 3: a quote is not closed, or stands where none may be."),
        (b"id,text\n", "there are no rows; the file needs a line with the column names and a row for each review."),
        (b"", "there are no rows; the file needs a line with the column names and a row for each review."),
    ],
)
def test_an_unreadable_file_is_one_sentence_and_the_next_one_is_read(
    page: Page, tmp_path: Path, content: bytes, complaint: str
) -> None:
    (tmp_path / "bad.csv").write_bytes(content)
    page.choose(tmp_path / "bad.csv")
    assert page["report"].text == f"bad.csv: {complaint}"
    page.choose(write(tmp_path / "good.csv", [["text"], ["A lovely film."]]))
    assert page["report"].text.startswith("good.csv: 1 of 1 rows")


def test_ragged_rows_are_kept_and_left_blank(page: Page, downloads: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "ragged.csv", [["id", "text"], ["1", "fine"], ["2"], ["3", "fine", "and more"]])
    page.choose(file)
    _, fine, short, long = read(download(page, downloads, "ragged.scored.csv"))
    assert fine[:2] == ["1", "fine"]
    assert short == ["2", "", "", ""]
    assert long == ["3", "fine", "and more", "", ""]


def test_typing_is_answered_while_a_file_is_scored(page: Page, session: ort.InferenceSession, tmp_path: Path) -> None:
    file = write(tmp_path / "large.csv", [["text"], *[["a dull film " * 200]] * 20_000])
    page["file"].send_keys(str(file))
    page.wait(lambda: page["cancel"].is_displayed())
    page["text"].send_keys(REVIEW)
    page.wait_for_answer(percents(score(session, [REVIEW])[0][1]))
    assert page["running"].is_displayed()
    page["cancel"].click()
    assert page["report"].text == "Cancelled."
    assert not page["job"].is_displayed()


def test_the_keyboard_reaches_everything_and_shows_where_it_is(
    page: Page, session: ort.InferenceSession, downloads: Path, tmp_path: Path
) -> None:
    def press(*keys: str) -> None:
        ActionChains(page.driver).send_keys(*keys).perform()

    def focused() -> str:
        active = page.driver.switch_to.active_element
        style = page.driver.execute_script(
            "return getComputedStyle(arguments[0].closest('.drop') ?? arguments[0]).outlineStyle", active
        )
        assert style == "solid", f"no focus ring on {active.get_attribute('outerHTML')}"
        return active.get_attribute("id") or active.tag_name

    press(Keys.TAB)
    assert focused() == "text"
    press(REVIEW)
    page.wait_for_answer(percents(score(session, [REVIEW])[0][1]))
    press(Keys.TAB)
    assert focused() == "button"
    press(Keys.ENTER)
    page.wait(lambda: page.text() != REVIEW)
    press(*[Keys.TAB] * 4)
    assert focused() == "file"
    page.choose(write(tmp_path / "keys.csv", [["text"], ["A lovely film."]]))  # the picker is the system's own
    press(Keys.TAB)
    assert focused() == "column"
    press(Keys.TAB)
    assert focused() == "download"
    press(Keys.ENTER)
    page.wait((downloads / "keys.scored.csv").exists)
    press(Keys.TAB)
    assert focused() == "check"
    press(Keys.SPACE)
    assert "agree" in page.check_report()


def test_a_screen_reader_is_told(page: Page, session: ort.InferenceSession, tmp_path: Path) -> None:
    page.set_text(REVIEW)
    [(label, probabilities, _, _)] = score(session, [REVIEW])
    page.wait(lambda: page["spoken"].get_property("textContent") == f"{label}, {percents([max(probabilities)])[0]}")
    for live in ("spoken", "status", "report", "check-report"):
        assert page[live].aria_role == "status"
    page.choose(write(tmp_path / "reviews.csv", [["text"], [REVIEW]]))
    for control in ("text", "file", "column", "download", "check"):
        assert page[control].accessible_name


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_no_word_breaks_nothing_overflows_and_all_can_be_read(
    page: Page, tmp_path: Path, width: int, scheme: str
) -> None:
    page.set_text(REVIEW)
    page.choose(write(tmp_path / "reviews.csv", [["id", "text", "note"], *ROWS]))
    page["check"].click()
    page.check_report()
    look(page.driver, width, scheme)
    assert misplaced(page.driver) == []
    assert faint(page.driver) == []
    look(page.driver)


def test_nothing_scrolls_sideways_on_a_phone(page: Page, tmp_path: Path) -> None:
    page.resize(360, 740)
    page.set_text("an" + "endless" * 100 + "word")
    page.choose(write(tmp_path / f"{'long-name-' * 12}.csv", [["id", "a" * 200], *[["1", "word" * 100]] * 3]))
    page["check"].click()
    page.check_report()
    assert page.driver.execute_script("return document.documentElement.scrollWidth") == 360
    page.resize(1280, 800)


def test_no_text_leaves_the_page(site: Path, tmp_path: Path) -> None:
    """From the browser's own log of the network, which holds the worker's requests too, and from the server's."""
    log = tmp_path / "net-log.json"
    file = write(tmp_path / "reviews.csv", [["id", "text", "note"], *ROWS])
    with serving(site) as server:
        with browsing(tmp_path, f"--log-net-log={log}") as driver:
            page = Page(driver, server.origin)
            loaded = len(server.requests)
            page["text"].send_keys(REVIEW)
            page.wait(lambda: page["counts"].text)
            page.choose(file)
            download(page, tmp_path, "reviews.scored.csv")
            assert len(server.requests) == loaded
        assert all(request.startswith("GET ") for request in server.requests)
        events = json.loads(log.read_text(encoding="utf-8"))["events"]
        asked = [event["params"] for event in events if "initiator" in event.get("params", {})]
        ours = [params["url"] for params in asked if params["initiator"] == server.origin]
        assert f"{server.origin}/model.onnx" in ours
        assert [url for url in ours if not url.startswith((f"{server.origin}/", f"blob:{server.origin}/"))] == []


def test_the_worker_is_confined_like_the_page(driver: webdriver.Chrome, site: Path, tmp_path: Path) -> None:
    """The page's policy must hold in the worker too: one of ours that asks another origin is refused."""
    shutil.copytree(site, tmp_path / "site")
    with serving(tmp_path) as other, serving(tmp_path / "site") as server:
        (tmp_path / "site" / "worker.js").write_text(
            f"fetch('{other.origin}/', {{ mode: 'no-cors' }})"
            ".then(() => postMessage({ failure: 'it went out' }), () => postMessage({ failure: 'it was refused' }));"
        )
        page = Page(driver, server.origin)
        assert page["status"].text == "The model could not be loaded: it was refused"
        assert other.requests == []
        assert any("Content Security Policy" in message for message in page.console())


def test_a_missing_model_is_said(driver: webdriver.Chrome, site: Path, tmp_path: Path) -> None:
    shutil.copytree(site, tmp_path / "site")
    (tmp_path / "site" / "model.onnx").unlink()
    with serving(tmp_path / "site") as server:
        page = Page(driver, server.origin)
    assert page["status"].text == "The model could not be loaded: /model.onnx: the server answered 404"
    assert not page["text"].is_enabled()
    page.console()


def test_the_build_refuses_what_is_not_the_bundle_it_says(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "bundle")
    model = tmp_path / "bundle" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"?")
    command: list[str | Path] = ["node", FOLDER / "build.mjs", tmp_path / "bundle", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 2
    assert done.stderr == f"build: {model} is not the file of the manifest; export the bundle again\n"
