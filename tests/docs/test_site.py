"""The site of the documentation builds, asks nothing of the network, and fits a phone."""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from selenium.webdriver.support.ui import WebDriverWait

import toolchain
from examples.tests.headless import PATIENCE, browsing, serving
from examples.tests.looking import WIDTHS, look
from tests.docs.pages import DOCS, ROOT

REPOSITORY = "https://example.org/toolchain"
DRAWN = "return document.querySelector('pre.mermaid') === null"  # which the theme replaces by the diagram
# What leaves the window sideways; a block of code or a table that is wider scrolls by itself.
OVERFLOWING = """
const width = document.documentElement.clientWidth;
const scrolls = (at) => at && (/auto|scroll|hidden/.test(getComputedStyle(at).overflowX) || scrolls(at.parentElement));
const wide = [...document.querySelectorAll(".md-content *")].filter(
  (element) => element.getBoundingClientRect().right > width + 1 && !scrolls(element),
);
const page = document.documentElement.scrollWidth;
return [...wide.map((each) => each.outerHTML.slice(0, 80)), ...(page > width ? [`the page is ${page} wide`] : [])];
"""


class Loaded(HTMLParser):
    """What a page makes the browser load."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        urls = [values.get("src"), values.get("href") if tag == "link" and values.get("rel") != "canonical" else None]
        self.urls += [url for url in urls if url]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without a warning."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            **{"NO_MKDOCS_2_WARNING": "1", "REPOSITORY_URL": REPOSITORY},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_loads_nothing_from_elsewhere_and_says_what_it_is_of(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > len(list(DOCS.glob("*.md")))  # one each, and 404.html
    for page in pages:
        assert not [url for url in Loaded(page).urls if re.match(r"(https?:)?//", url)], page
        shown = page.read_text(encoding="utf-8")
        assert f"toolchain {toolchain.__version__}" in shown
        assert f'href="{REPOSITORY}"' in shown


def test_every_page_fits_a_phone_and_a_desk(site: Path, tmp_path: Path) -> None:
    if missing := [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]:
        why = f"{' and '.join(missing)} not installed: apt-get install chromium chromium-driver"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    with serving(site) as server, browsing(tmp_path) as driver:
        for page in sorted(site.glob("*.html")):
            for width in WIDTHS:
                look(driver, width)
                driver.get(f"{server.origin}/{page.name}")
                WebDriverWait(driver, PATIENCE, poll_frequency=0.05).until(lambda _: driver.execute_script(DRAWN))
                assert driver.execute_script(OVERFLOWING) == [], f"{page.name} at {width} px"
