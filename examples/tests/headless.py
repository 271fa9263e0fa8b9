"""The page of `examples/browser` built, served from this machine and opened in headless Chromium."""

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

FOLDER = Path(__file__).parent.parent / "browser"
PATIENCE = 180.0  # seconds until something that never happens fails


def build(bundle: Path, out: Path) -> Path:
    """Puts the page together in `out`, and gives `out`. Needs the npm packages, which `make test-pages` installs."""
    subprocess.run(["node", FOLDER / "build.mjs", bundle, out], check=True, capture_output=True)
    return out


class Server(ThreadingHTTPServer):
    """Serves a folder on the loopback as `python -m http.server` does, and remembers what was asked of it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
        self.requests: list[str] = []

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(SimpleHTTPRequestHandler):
    server: Server

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        self.server.requests.append(self.requestline)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    with Server(folder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def browsing(downloads: Path, *arguments: str) -> Iterator[webdriver.Chrome]:
    """Headless Chromium that finds no host but this machine and saves into `downloads`."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    fixed = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"]
    for argument in (*fixed, "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", *arguments):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """The open page, as a person meets it."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver = driver
        driver.get(url)
        self.wait(lambda: self["state"].get_attribute("data-state") in ("ready", "error"))

    def __getitem__(self, element_id: str) -> WebElement:
        return self.driver.find_element(By.ID, element_id)

    def wait(self, condition: Callable[[], Any]) -> None:
        WebDriverWait(self.driver, PATIENCE, poll_frequency=0.05).until(lambda _: condition())

    def resize(self, width: int, height: int) -> None:
        """The size of the viewport, in CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def set_colours(self, scheme: str) -> None:
        """`light` or `dark`, as the system would prefer."""
        preference = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", preference)

    def set_text(self, text: str) -> None:
        """Puts any text into the box, also what no keyboard has."""
        box = "document.getElementById('text')"
        self.driver.execute_script(f"{box}.value = {json.dumps(text)}; {box}.dispatchEvent(new Event('input'))")

    def text(self) -> str:
        """What stands in the box."""
        return str(self["text"].get_property("value"))

    def wait_for_answer(self, percents: Sequence[str]) -> None:
        """Waits until the bars show these percentages."""
        self.wait(lambda: self.percents() == list(percents))

    def percents(self) -> list[str]:
        """What stands beside the bars, in the order of the labels."""
        return [value.text for value in self.driver.find_elements(By.CSS_SELECTOR, "#bars dd")]

    def choose(self, file: Path) -> None:
        """Chooses a file and waits for its result or its error."""
        self["file"].send_keys(str(file))
        self.wait(lambda: self["report"].text.startswith(f"{file.name}: "))

    def check_report(self) -> str:
        """What the check against the vectors says when it is through."""
        self.wait(lambda: self["check-report"].text)
        return self["check-report"].text

    def console(self) -> list[str]:
        """The console's warnings and errors since the last call."""
        log: list[dict[str, Any]] = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in log if entry["level"] in ("WARNING", "SEVERE")]
