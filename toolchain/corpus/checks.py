"""What is worth knowing about training data before hours go into it: each finding is one line that says what to do."""

import re
import statistics
from collections.abc import Collection, Mapping, Sequence

FEW_REVIEWS = 200
FEW_OF_A_LABEL = 20
# Of the share that a label would have if all were equally common: with two labels, 10 % of the reviews.
ONE_SIDED = 0.2
SHORT = 3
MANY_UNKNOWN = 0.25
# Characters a token: words set apart have 1.6 to 1.9 in Chinese, Japanese and Korean, what stands between spaces has 3
# in Korean, whole sentences in the others.
UNSEGMENTED = 2.5
# Hangul jamo, kana, Han with its first extension, Hangul syllables, Han for compatibility, half-width kana.
_east_asian = re.compile(
    "[\u1100-\u11ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff66-\uff9d]"
)

Tokens = Sequence[str]


def check_amounts(counts: Mapping[str, int]) -> list[str]:
    """Too few reviews, or too few of a label. `counts` holds every label with the number of its training reviews."""
    findings = []
    total = sum(counts.values())
    if total < FEW_REVIEWS:
        findings.append(
            f"{total:,} training reviews are few: figures change with every --seed; collect {FEW_REVIEWS:,} or more"
        )
    enough = max(FEW_OF_A_LABEL, ONE_SIDED * total / len(counts))
    if rare := sorted((label for label, count in counts.items() if count < enough), key=lambda label: counts[label]):
        more = f", the rarest of {len(rare)} rare ones," if len(rare) > 1 else ""
        findings.append(
            f"the label {rare[0]!r}{more} has {counts[rare[0]]:,} of {total:,} training reviews: it will hardly be "
            "predicted; collect more of it, merge it with another label, or try --class-weights balanced"
        )
    return findings


def check_lengths(texts: Sequence[Tokens]) -> list[str]:
    """Texts that hold next to nothing."""
    median = statistics.median(map(len, texts))
    if median >= SHORT:
        return []
    return [f"half of the training reviews have {median:.0f} tokens or fewer: is --text-column the right column?"]


def check_vocabulary(texts: Sequence[Tokens], vocabulary: Collection[str]) -> list[str]:
    """Many tokens of reviews that the vocabulary was not made for stand outside it."""
    words = set(vocabulary)
    tokens = sum(map(len, texts))
    unknown = sum(token not in words for text in texts for token in text)
    if unknown <= MANY_UNKNOWN * tokens:
        return []
    return [
        f"{unknown / tokens:.0%} of the tokens of the validation reviews are not in the vocabulary, and the model does "
        "not see them: collect more reviews, or try another --tokenizer"
    ]


def check_conflicts(texts: Sequence[Tokens], labels: Sequence[str], origins: Sequence[str]) -> list[str]:
    """Texts that stand in the data more than once, with different labels."""
    first: dict[int, int] = {}
    conflicts: dict[int, int] = {}
    for number, tokens in enumerate(texts):
        earlier = first.setdefault(hash(tuple(tokens)), number)
        if labels[earlier] != labels[number] and list(texts[earlier]) == list(tokens):
            conflicts.setdefault(earlier, number)
    if not conflicts:
        return []
    one, other = min(conflicts.items())
    stand = "1 text stands" if len(conflicts) == 1 else f"{len(conflicts):,} texts stand"
    return [
        f"{stand} in the data with different labels, such as {origins[one]} ({labels[one]}) and {origins[other]} "
        f"({labels[other]}): correct or remove them"
    ]


def is_unsegmented(counts: Mapping[str, int]) -> bool:
    """Whether spaces do not separate the words: the text is Chinese, Japanese or Korean, and its tokens are long.

    `counts` says how often each token stands in the text.
    """
    length = _east_asian_length(counts)
    return length is not None and length > UNSEGMENTED


def check_letters(counts: Mapping[str, int]) -> list[str]:
    """Text that the tokenizer does not suit: words that no space separates, or capitals that it does not lower.

    `counts` says how often each token stands in the training reviews.
    """
    findings = []
    if is_unsegmented(counts):
        findings.append(
            f"the text is Chinese, Japanese or Korean, and its tokens are {_east_asian_length(counts):.1f} letters "
            "long: spaces do not separate its words; train with --tokenizer characters"
        )
    characters = sum(len(token) * count for token, count in counts.items())
    cased = sum(
        count * sum(not c.isascii() and c.lower() != c.upper() for c in token)
        for token, count in counts.items()
        if not token.isascii()
    )
    if cased > 0.01 * characters:  # lower-casing is ASCII alone
        findings.append(
            f"{cased / characters:.1%} of the letters have capitals beyond A-Z, such as É; the tokenizer lower-cases "
            "A-Z alone, so that a word with such a capital is another word"
        )
    return findings


def _east_asian_length(counts: Mapping[str, int]) -> float | None:
    """The mean letters of a token with Chinese, Japanese or Korean ones; None where most characters are others."""
    characters = letters = tokens = 0
    for token, count in counts.items():
        characters += len(token) * count
        if not token.isascii() and (own := len(_east_asian.findall(token))):
            letters += count * own
            tokens += count
    return letters / tokens if letters > 0.5 * characters else None
