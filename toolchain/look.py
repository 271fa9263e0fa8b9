"""What the HTML pages share: a style sheet, and how a page names the only script and style that it may use; and how the
start of a long text is shown, there and in a terminal."""

import base64
import hashlib
from functools import cache
from pathlib import Path


@cache
def shared_style() -> str:
    """Colours for light and dark, letters, cards, and words for and against. A page's own style comes behind it."""
    return Path(__file__).with_suffix(".css").read_text(encoding="utf-8")


def csp_source(content: str) -> str:
    """A source for a Content-Security-Policy: the SHA-256 of an element's text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def opening(text: str, most: int) -> str:
    """The start of a text, of at most so many characters; it ends between two words unless the last one is so long."""
    if len(text) <= most:
        return text
    start = text[: most + 1]
    end = max(start.rfind(mark) for mark in " \n\t")
    return start[:end].rstrip() if end >= most // 2 else text[:most]
