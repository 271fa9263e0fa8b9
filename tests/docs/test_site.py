"""The site of the documentation builds, and asks nothing of the network."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

from tests.docs.pages import DOCS, ROOT


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


def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(list(DOCS.glob("*.md")))  # one each, and 404.html
    for page in pages:
        assert not [url for url in Loaded(page).urls if re.match(r"(https?:)?//", url)], page
