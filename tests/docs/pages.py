"""The Markdown pages of the project, taken apart: blocks of code, headings, links, images."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FRONT = [ROOT / name for name in ("README.md", "README.ko.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
PAGES = [page for page in [*FRONT, *sorted(DOCS.glob("*.md"))] if page.exists()]
# The examples in the reference name files of the reader.
UNTESTED = ("docs/commands.md",)
TESTED = [page for page in PAGES if str(page.relative_to(ROOT)) not in UNTESTED]
LANGUAGES = ("bash", "python")

_FENCE = re.compile(r"^( *)(`{3,})([^`]*)$")
_EXCUSE = re.compile(r"<!-- not run: (\S.*) -->")
_LINK = re.compile(r"(!?)\[((?:[^][]|\[[^][]*\])*)\]\(<?([^()<>\s]+)>?\)")


def name(path: Path) -> str:
    """As pytest shows it."""
    return str(path.relative_to(ROOT))


@dataclass(frozen=True)
class Block:
    """A block of code: its language (empty where it names none), and why it is not run, where it says so."""

    page: Path
    line: int
    language: str
    code: str
    excuse: str | None

    @property
    def place(self) -> str:
        """`docs/formats.md:12`, the line of the fence."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Link:
    """A link or an image, with its text (the alternative one of an image)."""

    page: Path
    text: str
    target: str
    image: bool


def blocks(page: Path) -> list[Block]:
    """The blocks of code of a page, in order. A line `<!-- not run: REASON -->` before the fence is the excuse."""
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    fence = None
    for number, line in enumerate(lines, 1):
        mark = _FENCE.match(line)
        if fence is None:
            if mark:
                fence, start = mark, number
        elif mark and mark[2] == fence[2] and not mark[3].strip():
            code = "".join(text.removeprefix(fence[1]) + "\n" for text in lines[start : number - 1])
            excuse = _EXCUSE.search(lines[start - 2]) if start > 1 else None
            found.append(Block(page, start, fence[3].strip(), code, excuse and excuse[1]))
            fence = None
    assert fence is None, f"{page}: the fence of line {start} is not closed"
    return found


def prose(page: Path) -> str:
    """The page without its blocks of code, inline code and comments."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"^ *(```+)[^`\n]*\n.*?^ *\1 *$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def links(page: Path) -> Iterator[Link]:
    """The links and images of a page."""
    for mark, text, target in _LINK.findall(re.sub(r"`[^`\n]*`", "`code`", prose(page))):
        yield Link(page, text, target, mark == "!")


def anchors(page: Path) -> set[str]:
    """What `#…` may name in a page: its headings as GitHub and the site spell them."""
    headings = re.findall(r"^#{1,6} +(.*?)\s*$", prose(page), re.MULTILINE)
    return {slug(heading) for heading in headings}


def slug(heading: str) -> str:
    """`## C++ ONNX Runtime` -> `c-onnx-runtime`: lower case, spaces to hyphens, marks left out."""
    text = unicodedata.normalize("NFC", re.sub(r"[`*]|\[([^]]*)\]\([^)]*\)", r"\1", heading)).lower()
    return re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")
