"""The pictures in the documentation, of our own sample data: python -m docs.screenshots BUNDLE, from the root.

`docs/screenshots/` has every page twice, in light and in dark: as on a desk, and beside it as on a phone. BUNDLE is
that of `make demo`: the report is about it, the browser example runs it, and the comparison puts it in the place of the
model in the box. The other pictures are of the model in the box. Chromium takes them.
"""

import argparse
import base64
import contextlib
import io
import re
import tempfile
import time
from pathlib import Path

from PIL import Image
from rich.console import Console
from selenium import webdriver
from selenium.webdriver.common.by import By

from examples.tests.headless import Page, browsing, build
from examples.tests.headless import serving as serving_folder
from examples.tests.looking import SCHEMES, look
from tests.serving.running import serving
from toolchain.cli.coloring import colored
from toolchain.judging.comparison import compare_models
from toolchain.report.comparison_page import write_comparison
from toolchain.report.report import write_report
from toolchain.scoring.default import BOX
from toolchain.scoring.explainer import Explainer
from toolchain.scoring.job import Options, score_file
from toolchain.scoring.scorer import Scorer

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "screenshots"
WIDTHS = (1280, 400)
HEIGHT = 1160
GAP = 40
GAP_COLOUR = {"light": "#ffffff", "dark": "#1e2129"}
"""That of the documentation's own pages."""
COLUMNS = 96
REVIEW = "The first half drags, but the cast is superb and the ending is moving."
LONG_REVIEW = (
    "I expected another dull, predictable thriller and nearly stayed at home. The first act is slow, I admit, "
    "and the dialogue is wooden in places, but then the detective walks in and the film comes alive: her "
    "performance is wonderful, the score is haunting, and the last ten minutes are the best I have seen this "
    "year. Not perfect, but highly recommended."
)


def main() -> None:
    """Takes every picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, help="that of make demo: demo/bundle")
    bundle = parser.parse_args().bundle.resolve()
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch), browsing(Path(scratch)) as driver:
        write_pages(bundle)
        for name in ("report", "comparison"):
            driver.get((Path(scratch) / f"{name}.html").as_uri())
            take(driver, name)
        with serving(BOX, Path("log")) as service:
            driver.get(service.url)
            driver.find_element(By.ID, "text").send_keys(REVIEW)
            time.sleep(2)  # the last letters are answered, and the bars have come to rest
            take(driver, "service")
        with serving_folder(build(bundle, Path(scratch) / "site")) as server:
            page = Page(driver, f"{server.origin}/?check")
            page["text"].send_keys(REVIEW)
            page.choose(ROOT / "data" / "sample_test.csv")
            page.check_report()
            take(driver, "browser")
        take_terminal(driver, Path(scratch) / "explain.html")


def write_pages(bundle: Path) -> None:
    """`report.html` and `comparison.html` in the current folder, on the labelled part of the sample."""
    for link, target in (("box", BOX), ("candidate", bundle), ("reviews.csv", ROOT / "data" / "sample_test.csv")):
        Path(link).symlink_to(target)
    with Scorer("box", "cpu") as old, Scorer("candidate", "cpu") as new:
        score_file(new, "reviews.csv", "reviews.scored.csv", Options())
        write_report("reviews.scored.csv", "report.html", Path("candidate"))
        write_comparison(compare_models(old, new, "reviews.csv", Options()), "comparison.html")


def take(driver: webdriver.Chrome, name: str) -> None:
    """The open page from its top, in both widths beside each other, once in each scheme."""
    driver.execute_script("document.activeElement.blur()")
    for scheme in SCHEMES:
        picture = Image.new("RGB", (sum(WIDTHS) + GAP, HEIGHT), GAP_COLOUR[scheme])
        left = 0
        for width in WIDTHS:
            look(driver, width, scheme)
            picture.paste(shot(driver, width, HEIGHT), (left, 0))
            left += width + GAP
        save(picture, f"{name}-{scheme}.png")


def take_terminal(driver: webdriver.Chrome, page: Path) -> None:
    """What `toolchain explain` shows in a terminal."""
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor", no_color=False
    )
    console.print(colored(Explainer(BOX).explain([LONG_REVIEW])[0]))
    svg = console.export_svg(title="toolchain explain - < review.txt")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL).replace("Fira Code", "DejaVu Sans Mono")
    page.write_text(f'<meta charset="utf-8"><body style="margin:0">{svg}', encoding="utf-8")
    look(driver, 1200)
    driver.get(page.as_uri())
    box = driver.execute_script("return document.querySelector('svg').getBoundingClientRect().toJSON()")
    save(shot(driver, box["width"], box["height"]), "explain.png")


def shot(driver: webdriver.Chrome, width: float, height: float) -> Image.Image:
    """The upper left of the page; sizes in pixels."""
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    taken = driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    return Image.open(io.BytesIO(base64.b64decode(taken["data"]))).convert("RGB")


def save(picture: Image.Image, name: str) -> None:
    """With 256 colours: a third of the bytes, and no eye tells."""
    picture.quantize(256, dither=Image.Dither.NONE).save(OUT / name, optimize=True)


if __name__ == "__main__":
    main()
