"""The page of the service as it is sent: nothing from elsewhere, nothing of a bundle as markup."""

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from tests.serving.conftest import InProcess, Serve

ATTACK = "</script><script>hacked = 1</script><img src=x onerror='hacked = 1'>{{script}}"


def test_it_may_run_its_own_script_alone_and_loads_nothing(service: InProcess) -> None:
    response = service.get("/")
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in response.headers["Content-Security-Policy"].split("; "))
    for kind in ("script", "style"):
        (content,) = re.findall(rf"<{kind}>(.*?)</{kind}>", response.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[f"{kind}-src"] == f"'sha256-{digest}'"
    assert (policy["default-src"], policy["connect-src"], policy["frame-ancestors"]) == ("'none'", "'self'", "'none'")
    assert not re.search(r"(src|href)=\"?(https?:)?//", response.text)
    assert not re.search(r" on\w+=| style=", response.text)
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_what_it_shows_of_a_bundle_is_escaped(
    serve: Serve, explaining_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = serve(explaining_bundle)
    manifest: dict[str, Any] = {**service.service.model.bundle.manifest, "training": {"recipe": ATTACK, "data": ATTACK}}
    monkeypatch.setattr(service.service.model, "bundle", FakeManifest(service.service.model.bundle, manifest))
    page = service.get("/").text
    assert page.count("<script>") == 1
    assert "<img" not in page
    assert page.count("&lt;img src=x onerror=&#x27;hacked = 1&#x27;&gt;{{script}}") == 2


class FakeManifest:
    """A bundle whose manifest was changed by somebody who means harm."""

    def __init__(self, bundle: Any, manifest: dict[str, Any]) -> None:
        self.manifest = manifest
        self.specification = bundle.specification


def test_it_asks_for_explanations_where_there_are_some(service: InProcess, serve: Serve, plain_bundle: Path) -> None:
    assert 'data-route="explain"' in service.get("/").text
    assert 'data-route="score"' in serve(plain_bundle).get("/").text
