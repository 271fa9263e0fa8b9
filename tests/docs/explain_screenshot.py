"""The picture of `toolchain explain` in the documentation: python -m tests.docs.explain_screenshot BUNDLE.

BUNDLE is a `gru-lm` trained on IMDB and exported with `--format all`.
"""

import base64
import io
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from examples.tests.headless import browsing
from toolchain.cli.coloring import colored
from toolchain.scoring.explainer import Explainer

PICTURE = Path(__file__).parents[2] / "docs" / "explain.png"
COLUMNS = 96
TEXT = (
    "I expected another dull, predictable thriller and nearly stayed at home. The first act is slow, I admit, "
    "and the dialogue is wooden in places, but then the detective walks in and the film comes alive: her "
    "performance is wonderful, the score is haunting, and the last ten minutes are the best I have seen this "
    "year. Not perfect, but highly recommended."
)


def take(bundle: Path) -> None:
    """Writes docs/explain.png."""
    explainer = Explainer(bundle)
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor", no_color=False
    )
    console.print(colored(explainer.explain([TEXT])[0]))
    svg = console.export_svg(title="toolchain explain - < review.txt")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL).replace("Fira Code", "DejaVu Sans Mono")
    with tempfile.TemporaryDirectory() as scratch:
        page = Path(scratch) / "explain.html"
        page.write_text(f'<meta charset="utf-8"><body style="margin:0">{svg}', encoding="utf-8")
        with browsing(Path(scratch)) as driver:
            size = {"width": 1200, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            driver.get(page.as_uri())
            box = driver.execute_script("return document.querySelector('svg').getBoundingClientRect().toJSON()")
            clip = {"x": 0, "y": 0, "width": box["width"], "height": box["height"], "scale": 1}
            shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    PICTURE.write_bytes(base64.b64decode(shot["data"]))


if __name__ == "__main__":
    take(Path(sys.argv[1]).resolve())
