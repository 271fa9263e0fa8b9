"""Texts on which implementations of one text definition come to differ: the edge cases of every parity proof."""

from collections.abc import Iterator, Sequence

from export.text import MARKS, SPACES

_PLAIN = (
    "A fine film.",
    "Not a fine film, and not a short one either!",
    "I expected nothing and got even less.",
    "don't won't it's the dogs' o'clock rock 'n' roll",
    "'quoted' ''twice'' '''thrice''' ' '' x' 'x",
    "Line one<br /><br />line two<br/>three<BR />four<br>five< br />six<br  />",
    "e-mail: someone@example.org, http://example.org/?q=1&r=[2]#top",
    '"Brilliant" (8/10) -- well... 50% of it; $5 & up * ~ ^ ` | { } \\',
    "UPPER lower MiXeD ÀÉÎ ÄÖÜ ß ẞ İ ı Ÿ Σσς Ǆ ǅ",
    "<pad> <unk> <PAD> <UNK> <pad><unk> < pad > <s> </s> [PAD] \\0",
)
_UNICODE = (
    "caf\u00e9 cafe\u0301 na\u00efve \ufb01lm",
    "nbsp\u00a0here, nel\u0085here, ls\u2028here, ps\u2029here, em\u2003here, ideographic\u3000here",
    "zero\u200bwidth\u200cjoin\u200der\u2060\ufeffmarks",
    "\ufeffstarts with a byte order mark",
    "\u201cquotes\u201d \u2018single\u2019 \u2014 dash \u2026 dots \u00ab guillemets \u00bb \uff01\uff1f",
    "\ud55c\uad6d\uc5b4 \uc601\ud654 \ub9ac\ubdf0 \u1112\u1161\u11ab",
    "\u4e2d\u6587\u7535\u5f71 \u65e5\u672c\u8a9e\u306e\u6620\u753b",
    "\u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u0395\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u05e2\u05d1\u05e8\u05d9\u05ea \u202eright to left\u202c",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22",
    "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1f0\U0001f1f7 \U0001f44d\U0001f3fd \u2764\ufe0f",
    "\U0010ffff \U000e0001 \uffff \ufffe \ufffd \ue000",
    "z\u0351\u036b\u0343a\u0321\u034al\u0488g\u0489o",
)


def edge_cases(vocabulary: Sequence[str], max_tokens: int) -> list[str]:
    """At least 200 texts, all different and without U+0000; some are cut at `max_tokens`.

    Spelled with the vocabulary's own words, so that a wrong step shows in the probabilities and not only in counts.
    """
    words = list(vocabulary[2:50]) or ["word"]
    texts = dict.fromkeys([*_cases(words, max_tokens), *_unicode_upper_case(vocabulary)])
    return list(texts)


def vocabulary_cases(vocabulary: Sequence[str], words_a_text: int) -> list[str]:
    """Texts that together hold every word of the vocabulary once, in its order."""
    words = vocabulary[2:]
    return [" ".join(words[start : start + words_a_text]) for start in range(0, len(words), words_a_text)]


def _unicode_upper_case(vocabulary: Sequence[str]) -> Iterator[str]:
    """Unknown tokens that become words where more than A-Z is lower-cased: KELVIN SIGN to k, I WITH DOT ABOVE to i."""
    for ascii_letter, letter in (("k", "\u212a"), ("i", "\u0130")):
        words = [word for word in vocabulary[2:] if ascii_letter in word][:5]
        yield from (word.replace(ascii_letter, letter) for word in words)


def _cases(words: Sequence[str], max_tokens: int) -> Iterator[str]:
    first, second, third = (words[index % len(words)] for index in (0, 1, 2))
    yield from ("", " ", *SPACES, SPACES, "\r\n\r\n", "\u00a0", "\u3000\u2003", "\u200b", "\x1c\x1d\x1e\x1f")
    yield from _PLAIN
    yield from _UNICODE
    for code in (*range(1, 32), 127, *range(128, 161)):  # every control character but U+0000, ASCII and C1
        yield f"{first}{chr(code)}{second} {chr(code)} {third}"
    for mark in MARKS:
        yield f"{mark}{first}{mark}{second} {mark} {third}{mark}{mark}"
    for mark in MARKS:
        yield f"{first}{mark}"
    for word in words[:20]:
        yield word
        yield word.upper()
    for count in (1, 2, 3, 7, 8, 9, 31, 32, 33, 63, 64, 65, 255, 256, 257):
        yield " ".join(words[(7 * index) % len(words)] for index in range(count))
    for spaces in ("  ", "\t", "\n\n", " \r ", "\x0b\x0c"):
        yield spaces + spaces.join(words[:6]) + spaces
    if max_tokens <= 1_000:  # beyond that the next text, which is cut as well, has to do: each step costs time
        for count in (max_tokens - 1, max_tokens, max_tokens + 1):
            yield " ".join(words[(3 * index) % len(words)] for index in range(count))
    yield " ".join(words[(5 * index) % len(words)] for index in range(20_000))
    yield "x" * 20_000
    yield "!" * 2_000
    yield "<br />" * 500 + first
