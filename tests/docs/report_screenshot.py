"""The pictures of the report in the documentation: python -m tests.docs.report_screenshot BUNDLE.

BUNDLE is a `gru` trained on the embedded sample and exported with `--format all`, as `make demo` does.
"""

import base64
import contextlib
import sys
import tempfile
from pathlib import Path

from selenium import webdriver

from examples.tests.headless import browsing
from toolchain.report.report import write_report
from toolchain.scoring.job import Options, score_file
from toolchain.scoring.scorer import Scorer

ROOT = Path(__file__).parents[2]
WIDTH = 1200
# Picture -> the preferred scheme, the heading at its top, and how many pixels of the page it shows.
PICTURES = {"report.png": ("light", "Against the labels", 1560), "report-dark.png": ("dark", "Overview", 890)}


def take(bundle: Path) -> None:
    """Writes docs/report.png and docs/report-dark.png."""
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        Path("bundle").symlink_to(bundle)
        with Scorer("bundle", "cpu") as scorer:
            score_file(scorer, str(ROOT / "data" / "sample_test.csv"), "reviews.scored.csv", Options())
        page = Path(scratch) / "report.html"
        write_report("reviews.scored.csv", str(page), Path("bundle"))
        with browsing(Path(scratch)) as driver:
            driver.get(page.as_uri())
            for name, (scheme, heading, height) in PICTURES.items():
                (ROOT / "docs" / name).write_bytes(_picture(driver, scheme, heading, height))


def _picture(driver: webdriver.Chrome, scheme: str, heading: str, height: int) -> bytes:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": WIDTH, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    top = driver.execute_script(
        "return [...document.querySelectorAll('h2')].find((each) => each.textContent === arguments[0]).offsetTop",
        heading,
    )
    clip = {"x": 0, "y": top - 12, "width": WIDTH, "height": height, "scale": 1}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    return base64.b64decode(shot["data"])


if __name__ == "__main__":
    take(Path(sys.argv[1]).resolve())
