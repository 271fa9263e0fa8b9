"""The page to type into: one HTML file that loads nothing but the answers of its own service."""

import html
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from toolchain.look import csp_source, shared_style
from toolchain.serving.model import Model
from toolchain.serving.settings import Limits

_ASSETS = Path(__file__).parent / "assets"
_LONG_FACT = 24
_FILM_REVIEWS = {"neg", "pos"}


def render_page(model: Model, limits: Limits) -> str:
    """The page for this model; what comes from its bundle is escaped."""
    facts = "".join(
        f'<div class="{"wide" if len(fact) > _LONG_FACT else ""}"><dt>{html.escape(term)}</dt>'
        f"<dd>{html.escape(fact)}</dd></div>"
        for term, fact in describe(model)
    )
    return _filled(
        _asset("page.html"),
        {
            "policy": html.escape(HEADERS["Content-Security-Policy"].partition("; frame-ancestors")[0]),
            "style": _STYLE,
            "script": _asset("page.js"),
            "route": "explain" if model.explains else "score",
            "characters": str(limits.characters),
            "samples": "" if set(model.scorer.labels) == _FILM_REVIEWS else "hidden",
            "legend": "" if model.explains else "hidden",
            "facts": facts,
        },
    )


def describe(model: Model) -> list[tuple[str, str]]:
    """What a person wants to know of a model, as far as its manifest says."""
    manifest, specification = model.bundle.manifest, model.bundle.specification
    training = manifest.get("training", {})
    accuracy = training.get("test_accuracy")
    facts = {
        "Labels": ", ".join(specification.labels),
        "Recipe": training.get("recipe"),
        "Trained on": training.get("data"),
        "Test accuracy": f"{accuracy:.1f} %" if isinstance(accuracy, int | float) else None,
        "Vocabulary": f"{training['vocabulary']:,} words" if isinstance(training.get("vocabulary"), int) else None,
        "Network": f"{specification.layers} × {specification.cell.upper()} {specification.hidden}",
        "Bundle": (model.identity or "")[:12],
    }
    return [(term, str(fact)) for term, fact in facts.items() if fact]


def _filled(template: str, values: Mapping[str, str]) -> str:
    """`{{name}}` by its value, in one pass: a value is never looked into."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], template)


@cache
def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


_STYLE = shared_style() + _asset("page.css")

HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src '{csp_source(_asset('page.js'))}'; style-src '{csp_source(_STYLE)}'; "
        "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""What the browser may do with the page: run its script, use its style, ask its service."""
