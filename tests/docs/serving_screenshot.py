"""The picture of the page of `toolchain serve` in the documentation: python -m tests.docs.serving_screenshot BUNDLE.

BUNDLE is one that explains: that of `make demo`.
"""

import sys
import tempfile
import time
from pathlib import Path

from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from examples.tests.headless import browsing
from tests.serving.running import serving

PICTURE = Path(__file__).parents[2] / "docs" / "serving.png"
TEXT = "The first half drags, but the cast is superb and the ending is moving."


def take(bundle: Path, picture: Path = PICTURE, width: int = 1280, scheme: str = "light") -> None:
    """Writes the picture."""
    with tempfile.TemporaryDirectory() as scratch:
        room = Path(scratch)
        with browsing(room) as driver, serving(bundle, room / "log") as service:
            size = {"width": width, "height": 760, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            preference = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", preference)
            driver.get(service.url)
            driver.find_element(By.ID, "text").send_keys(TEXT)
            WebDriverWait(driver, 60).until(lambda _: driver.find_elements(By.CSS_SELECTOR, ".bars .best"))
            time.sleep(2)  # the last letters are answered, and the bars have come to rest
            driver.execute_script("document.activeElement.blur()")
            driver.save_screenshot(str(picture))


if __name__ == "__main__":
    take(Path(sys.argv[1]))
