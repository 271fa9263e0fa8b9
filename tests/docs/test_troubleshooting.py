"""Every message that the page on troubleshooting explains is one that the program prints."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.docs.pages import DOCS, ROOT

ANYTHING = "…"
EXPLAINED = re.findall(r"^### `(.+)`$", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)


def text(node: ast.expr, constants: dict[str, str]) -> str:
    """A string as it is printed: constants of its module by their values, `…` for what else is put into it."""
    if isinstance(node, ast.JoinedStr):
        return "".join(text(value, constants) for value in node.values)
    if isinstance(node, ast.FormattedValue) and isinstance(node.value, ast.Name):
        return constants.get(node.value.id, ANYTHING)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ANYTHING


def messages() -> Iterator[str]:
    """All strings in the sources."""
    for package in ("export", "toolchain"):
        for path in (ROOT / package).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            constants = {
                target.id: str(node.value.value)
                for node in tree.body
                if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
                for target in node.targets
                if isinstance(target, ast.Name)
            }
            nodes = ast.walk(tree)
            yield from (text(node, constants) for node in nodes if isinstance(node, ast.JoinedStr | ast.Constant))


@pytest.fixture(scope="module")
def printed() -> str:
    return "\n".join(messages())


@pytest.mark.parametrize("message", EXPLAINED)
def test_an_explained_message_is_in_the_program(message: str, printed: str) -> None:
    parts = [re.escape(part.strip()) for part in message.split(ANYTHING)]
    assert re.search(".*".join(parts), printed), "no such message in the sources"


def test_the_page_explains_the_messages_that_a_person_is_likely_to_meet() -> None:
    assert len(EXPLAINED) == len(set(EXPLAINED)) >= 30
    assert all(len(message.replace(ANYTHING, "").split()) >= 2 for message in EXPLAINED)
