"""A notebook's vocabulary from a file: a word a line, a JSON list, or a JSON object of words and their ids."""

import json
from pathlib import Path
from typing import Any

from export.text import PADDING, UNKNOWN
from toolchain.errors import UsageError, quoted

_PICKLES = (b"\x80", b"PK\x03\x04")
"""How a pickle begins, and a `torch.save`, which is a ZIP archive with one in it."""

HOW = (
    'write its words as text: open("vocab.txt", "w", encoding="utf-8").write("\\n".join(TEXT.vocab.itos)), '
    'or as JSON: json.dump(TEXT.vocab.itos, open("vocab.json", "w"))'
)


def read_vocabulary(file: Path) -> list[str]:
    """The words by id.

    In text only U+000A ends a word: they may hold the line ends of Unicode, such as U+0085 or U+2028. A word with a
    line feed in it needs JSON. Raises `UsageError` where the file is something else, or no vocabulary.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}; expected the vocabulary: {HOW}") from error
    if data.startswith(_PICKLES):
        raise UsageError(f"{file}: a pickle or what torch.save wrote, and reading that could run code; {HOW}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f'{file}: not UTF-8 at byte {error.start}; write it with encoding="utf-8"') from error
    if text.lstrip()[:1] in ("[", "{"):
        return _checked(_json_words(text, file), file, "entries", "")
    words = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    hint = ". A word that holds a line feed needs JSON: json.dump(TEXT.vocab.itos, open('vocab.json', 'w'))"
    return _checked(words, file, "lines", hint)


def _json_words(text: str, file: Path) -> list[str]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{file}: not valid JSON ({quoted(str(error))}); {HOW}") from error
    if isinstance(values, dict):
        values = _by_id(values, file)
    if odd := [value for value in values if not isinstance(value, str)]:
        raise UsageError(f"{file}: holds {quoted(repr(odd[0]))} in place of a word; {HOW}")
    return list(values)


def _by_id(ids: dict[str, Any], file: Path) -> list[str]:
    """`{word: id}` -> the words by id."""
    words: dict[int, str] = {}
    for word, number in ids.items():
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < len(ids):
            raise UsageError(
                f"{file}: gives {quoted(repr(word))} the id {quoted(repr(number))}; expected every whole number from 0 "
                f"to {len(ids) - 1:,} once"
            )
        if number in words:
            raise UsageError(
                f"{file}: gives {quoted(repr(words[number]))} and {quoted(repr(word))} the same id {number}; expected "
                "every id once"
            )
        words[number] = word
    return [words[number] for number in range(len(words))]


def _checked(words: list[str], file: Path, unit: str, hint: str) -> list[str]:
    if words[:2] != [UNKNOWN, PADDING]:
        raise UsageError(
            f"{file}: starts with {' '.join(quoted(repr(word)) for word in words[:2])[:160]}; expected {UNKNOWN} and "
            f"{PADDING} first, as TEXT.vocab.itos has them"
        )
    index_of: dict[str, int] = {}
    for number, word in enumerate(words, 1):
        if index_of.setdefault(word, number) != number:
            raise UsageError(
                f"{file}: {unit} {index_of[word]} and {number} both hold {quoted(repr(word))}; "
                f"expected every word of TEXT.vocab.itos once{hint if not word else ''}"
            )
    return words
