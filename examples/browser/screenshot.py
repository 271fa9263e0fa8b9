"""The pictures of the page in the documentation: python -m examples.browser.screenshot BUNDLE."""

import sys
import tempfile
from pathlib import Path

from examples.tests.headless import Page, browsing, build, serving

ROOT = Path(__file__).parents[2]
REVIEW = (
    "Not a great film by any measure, yet I enjoyed every minute of it: the two leads are a joy to watch, "
    "and the last scene stays with you."
)


def take(bundle: Path) -> None:
    """Writes docs/browser-example.png and docs/browser-example-dark.png."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = build(bundle, Path(scratch))
        with serving(folder) as server, browsing(folder) as driver:
            page = Page(driver, f"{server.origin}/?check")
            page.resize(1280, 1040)
            page["text"].send_keys(REVIEW)
            page.choose(ROOT / "data" / "reviews.csv")
            page.check_report()
            driver.execute_script("document.activeElement.blur()")
            for scheme, name in (("light", "browser-example.png"), ("dark", "browser-example-dark.png")):
                page.set_colours(scheme)
                driver.save_screenshot(str(ROOT / "docs" / name))


if __name__ == "__main__":
    take(Path(sys.argv[1]))
