"""What may be scored: strings, with something in them. Whoever gives anything else is told which of the texts it is."""

from collections.abc import Iterable

from export.text import clean, is_blank
from toolchain.errors import UsageError, quoted


def require_strings(texts: Iterable[str]) -> list[str]:
    """The texts, cleaned (see `export.text.clean`). Raises `UsageError` that names the first that is no string."""
    if isinstance(texts, str | bytes):
        raise UsageError("expected a list of texts, not one string; write [text]")
    found = []
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            advice = "decode it first" if isinstance(text, bytes) else "leave it out"
            raise UsageError(
                f"texts[{index}] is not a string but {quoted(repr(text))} ({type(text).__name__}); {advice}"
            )
        found.append(clean(text))
    return found


def require_content(texts: Iterable[str]) -> list[str]:
    """The same, and raises `UsageError` on a blank text: one of white space and U+0000 alone says nothing to score."""
    found = require_strings(texts)
    for index, text in enumerate(found):
        if is_blank(text):
            raise UsageError(f"texts[{index}] is blank; leave it out")
    return found
