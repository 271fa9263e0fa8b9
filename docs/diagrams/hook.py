"""A hook of MkDocs: pages with a diagram load Mermaid from the built site; no page loads anything from elsewhere."""

from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

SCRIPT = "assets/mermaid.min.js"
SOURCE = Path(__file__).parent / "node_modules/mermaid/dist/mermaid.min.js"


def on_files(files: Files, config: Any) -> Files:
    """Put Mermaid into the site."""
    if not SOURCE.exists():
        raise PluginError("Mermaid, which draws the diagrams, is not installed; build the documentation by: make docs")
    files.append(File.generated(config, SCRIPT, abs_src_path=str(SOURCE)))
    return files


def on_post_page(output: str, page: Page, config: Any) -> str:
    """Load it before the theme's own script, which otherwise would fetch a copy from the network."""
    if 'class="mermaid"' not in output:
        return output
    script = f'<script src="{get_relative_url(SCRIPT, page.url)}"></script>'
    return output.replace('<script id="__config"', script + '<script id="__config"', 1)
