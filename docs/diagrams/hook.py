"""A hook of MkDocs: the version and the repository at the foot of every page, and diagrams drawn by a Mermaid that lies
in the built site, so that no page loads anything from elsewhere."""

import html
import os
import subprocess
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

from toolchain import __version__

SCRIPT = "assets/mermaid.min.js"
SOURCE = Path(__file__).parent / "node_modules/mermaid/dist/mermaid.min.js"


def on_config(config: Any) -> Any:
    """Name the version, and link the repository. The theme's own link would ask GitHub for its stars."""
    config.copyright = f"toolchain {__version__}"
    if address := _repository():
        config.copyright += f' · <a href="{html.escape(address)}">Repository</a>'
    return config


def _repository() -> str:
    """The address that REPOSITORY_URL names, or that of the clone; empty where it has none that a browser opens."""
    if address := os.environ.get("REPOSITORY_URL"):
        return address
    asked = ["git", "-C", str(Path(__file__).parent), "remote", "get-url", "origin"]
    try:
        address = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:  # without git
        return ""
    return address.removesuffix(".git") if address.startswith("https://") and "@" not in address else ""


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
