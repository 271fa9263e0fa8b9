"""The one definition of text: what a token is, in plain Python.

Training tokenizes with this module; `export.onnx_graph` and `export.torchscript` render the same definition for their
runtimes, and `tests/export/test_text.py` holds the three together. Everything here is defined on ASCII alone (case,
white space, marks), because that is what every runtime agrees on: Unicode tables differ between languages and releases.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

UNKNOWN = "<unk>"
PADDING = "<pad>"
UNKNOWN_ID = 0
PADDING_ID = 1

SPACES = " \t\n\v\f\r"
MARKS = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
LINE_BREAK = "<br />"

# Character classes as both Python's `re` and RE2 read them.
SPACE_CLASS = r" \t\n\v\f\r"
MARK_CLASS = r"!-/:-@\[-`{-~"
WORD = rf"[^{SPACE_CLASS}{MARK_CLASS}]+"
ISOLATED = rf"{LINE_BREAK}|{WORD}(?:'{WORD})*|[{MARK_CLASS}]"

_spaces = SPACES.encode()
_line_break = LINE_BREAK.encode()
_isolated = re.compile(ISOLATED.encode())
_separators = re.compile(rf"(?:{LINE_BREAK}|[{SPACE_CLASS}{MARK_CLASS}])+".encode())
_surrogates = re.compile("[\ud800-\udfff]")
_where_attached = re.compile(rf"[^{SPACE_CLASS}]+")
_where_isolated = re.compile(ISOLATED)
_where_dropped = re.compile(f"{LINE_BREAK}|{WORD}")
_where_characters = re.compile(rf"[^{SPACE_CLASS}]")

# What a byte is when tokens are counted: outside of them, part of a word, or a token by itself.
_OUTSIDE, _IN_WORD, _TOKEN, _APOSTROPHE = range(4)
_COUNTED_AT_ONCE = 1 << 17  # bytes: they stay near the processor

Unit = Literal["words", "characters"]
Punctuation = Literal["attached", "isolated", "dropped"]
TokenizerName = Literal[Punctuation, "characters"]


@dataclass(frozen=True)
class Tokenizer:
    """How a text is cut into tokens.

    `lowercase` maps A-Z to a-z and nothing else. `unit` says what a token is:

    - `words`: what stands between any of the six ASCII white-space characters;
    - `characters`: every code point but those six, for languages whose words are not set apart by spaces, or change
      their endings (Chinese, Japanese, Korean). Nothing is normalized: a letter and its combining mark are two tokens,
      a Hangul syllable written in jamo is two or three.

    `punctuation` says what becomes of the 32 ASCII marks in words; characters know `attached` alone, because there a
    mark is a token of its own anyway:

    - `attached`: nothing, they stay where they are written (`str.split`);
    - `isolated`: each mark is a token, `<br />` is one token, an apostrophe between two word characters stays inside;
    - `dropped`: marks and `<br />` separate tokens and vanish.

    U+0000 is outside the domain (some runtimes end a string there); `tokenize` reads it as a space.
    """

    lowercase: bool = True
    punctuation: Punctuation = "attached"
    unit: Unit = "words"

    def __post_init__(self) -> None:
        if self.unit not in get_args(Unit):
            raise ValueError(f"unit is {self.unit!r}, expected one of {', '.join(get_args(Unit))}")
        if self.punctuation not in get_args(Punctuation):
            raise ValueError(f"punctuation is {self.punctuation!r}, expected one of {', '.join(get_args(Punctuation))}")
        if self.unit == "characters" and self.punctuation != "attached":
            raise ValueError(f"punctuation is {self.punctuation!r}, expected attached where unit is 'characters'")

    def tokenize(self, text: str) -> list[str]:
        """The tokens of `text`, in order; none for a text of white space.

        Works on UTF-8 bytes, where `lower` and `split` are ASCII by definition.
        """
        data = clean(text).encode()
        if self.lowercase:
            data = data.lower()
        if self.unit == "characters":
            return list(data.translate(None, _spaces).decode())
        if self.punctuation == "attached":
            tokens = data.split()
        elif self.punctuation == "isolated":
            tokens = _isolated.findall(data)
        else:
            tokens = [token for token in _separators.split(data) if token]
        return [token.decode() for token in tokens]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where the tokens of `tokenize` stand: start and end of each in `text`, in code points.

        `clean` and lower-casing keep every code point at its place.
        """
        text = clean(text)
        if self.lowercase:
            text = text.encode().lower().decode()
        if self.unit == "characters":
            found = _where_characters.finditer(text)
        elif self.punctuation == "attached":
            found = _where_attached.finditer(text)
        elif self.punctuation == "isolated":
            found = _where_isolated.finditer(text)
        else:
            found = (match for match in _where_dropped.finditer(text) if match[0] != LINE_BREAK)
        return [match.span() for match in found]

    def count(self, texts: Sequence[str]) -> list[int]:
        """How many tokens `tokenize` gives of each text, counted in the bytes of many texts at once."""
        counts: list[int] = []
        some: list[bytes] = []
        size = 0
        for text in texts:
            some.append(clean(text).encode())
            size += len(some[-1])
            if size > _COUNTED_AT_ONCE:
                counts += self._count_bytes(some)
                some, size = [], 0
        return counts + self._count_bytes(some)

    def _count_bytes(self, texts: Sequence[bytes]) -> list[int]:
        """The same of texts in UTF-8."""
        if not texts:
            return []
        kinds = np.frombuffer(b" ".join([*texts, b""]).translate(self._kinds_of_bytes()), np.uint8)
        in_word, tokens = kinds == _IN_WORD, kinds >= _TOKEN
        if self.punctuation == "isolated":
            inside = (kinds[1:-1] == _APOSTROPHE) & in_word[:-2] & in_word[2:]
            in_word[1:-1] |= inside
            tokens[1:-1] &= ~inside
        tokens[1:] |= in_word[1:] & ~in_word[:-1]
        tokens[0] |= in_word[0]
        counts: list[int] = []
        start = 0
        for text in texts:
            counts.append(int(np.count_nonzero(tokens[start : start + len(text)])))
            start += len(text) + 1
        if self.punctuation != "attached":
            # Of a line break three marks and a word were counted, or the word alone; it is one token, or none.
            too_many = 3 if self.punctuation == "isolated" else 1
            lowered = (text.lower() for text in texts) if self.lowercase else texts
            counts = [count - too_many * text.count(_line_break) for count, text in zip(counts, lowered, strict=True)]
        return counts

    def _kinds_of_bytes(self) -> bytes:
        kinds = bytearray([_IN_WORD]) * 256
        if self.unit == "characters":
            kinds = bytearray([_TOKEN]) * 256
            kinds[0x80:0xC0] = bytes([_OUTSIDE]) * 64  # what follows the first byte of a code point
        elif self.punctuation != "attached":
            for mark in MARKS.encode():
                kinds[mark] = _TOKEN if self.punctuation == "isolated" else _OUTSIDE
            if self.punctuation == "isolated":
                kinds[ord("'")] = _APOSTROPHE
        for space in _spaces:
            kinds[space] = _OUTSIDE
        return bytes(kinds)


TOKENIZERS: Mapping[TokenizerName, Tokenizer] = {
    "attached": Tokenizer(punctuation="attached"),
    "isolated": Tokenizer(punctuation="isolated"),
    "dropped": Tokenizer(punctuation="dropped"),
    "characters": Tokenizer(unit="characters"),
}
"""What `--tokenizer` names."""


def clean(text: str) -> str:
    """`text` inside the domain every runtime shares: U+0000 becomes a space, a lone surrogate U+FFFD."""
    if "\0" in text:
        text = text.replace("\0", " ")
    return text if text.isascii() else _surrogates.sub("\ufffd", text)


def is_blank(text: str) -> bool:
    """Whether `text` holds nothing but white space (any of Unicode's) and U+0000."""
    return not text.replace("\0", " ").strip()


def lookup_table(vocabulary: Sequence[str]) -> dict[str, int]:
    """Token to id, for the words alone: a text that spells `<pad>` or `<unk>` holds an unknown token, not a special."""
    return {word: index for index, word in enumerate(vocabulary) if index > PADDING_ID}


def encode(tokens: Sequence[str], table: Mapping[str, int]) -> list[int]:
    """The id of each token; `UNKNOWN_ID` for a token that is not in `table`."""
    return [table.get(token, UNKNOWN_ID) for token in tokens]
