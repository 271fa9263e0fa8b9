"""Write the sample data set: small film reviews put together from our own words and sentence patterns.

The sample lets the whole toolchain be tried, tested and measured without fetching anything.  It is built so
that a model which only counts words learns little from it, while a model that reads words in order can learn
it almost perfectly:

* Every opinion pattern works in both directions.  "I expected {a dull} film but got {a lively} one." praises;
  with the two adjectives exchanged, it complains.  Each word of a pattern therefore appears equally often in
  both classes, and each adjective only a little more often in its own class than in the other.
* Patterns come in twins which put the decisive adjective and the refuted one into the same places ("... is
  more dull than lively." and "... is less lively than dull."), so that the place of an adjective, or the
  punctuation mark attached to it, does not give the label away either.
* The other sentences of a review (plot, cast, seats, popcorn) are neutral and drawn without regard to the label.
* The test reviews combine differently from the training reviews.  A fixed seventh of all combinations of pattern
  and adjectives is kept for the test part, so none of its opinion sentences occurs in the training part, yet
  every single word does.  Some pairings of opening phrase and pattern are also kept for the test part.
* No review is a near copy of another one, in either part.

Two files are written, the same bytes on every run:

    sample_train.csv   review,label      reviews labelled ``pos`` or ``neg``, as many of one as of the other
    sample_test.csv    review,label      held-out reviews of the same kind

The reviews to score beside them, reviews.csv and reviews.jsonl, are written by hand.

Usage: python make_sample.py [OUTPUT_FOLDER]     (default: the folder of this script)
"""

import csv
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

SEED = 20_240
TRAIN_REVIEWS = 4_600
TEST_REVIEWS = 800
MIN_WORDS, MAX_WORDS = 15, 30
# A near copy shares more than this part of the runs of RUN words that stand in either review.
MOST_SHARED = 0.35
RUN = 5

# How many opinion sentences use one adjective instead of two, and how many of those affirm it.  Affirming more
# often than denying leaves single words a weak meaning: enough for a small model to start learning from.
SINGLE_SHARE = 0.5
AFFIRMATIVE_SHARE = 0.72
# How many reviews are certain to close with an opinion.
CLOSING_OPINION_SHARE = 0.6

# One in HELD_OUT_EVERY combinations of pattern and adjectives never occurs in the training reviews, nor does one in
# LEAD_HELD_OUT_EVERY pairings of opening phrase and pattern.  (The first has no factor in common with the steps
# in ``opinion``, so that every adjective is held out with some patterns and used in training with others.)
HELD_OUT_EVERY = 7
LEAD_HELD_OUT_EVERY = 4

GOOD = (
    "lively", "graceful", "moving", "witty", "charming", "elegant", "fresh", "clever", "inventive", "honest",
    "absorbing", "delightful",
)  # fmt: skip
BAD = (
    "dull", "clumsy", "boring", "flat", "stale", "awkward", "tedious", "shallow", "uneven", "irritating",
    "muddled", "dreary",
)  # fmt: skip

# In the order of the adjectives, so that a noun is held out together with its adjective.
GOOD_NOUNS = (
    "energy", "grace", "warmth", "wit", "charm", "elegance", "freshness", "cleverness", "invention", "honesty",
    "sparkle", "tenderness",
)  # fmt: skip
BAD_NOUNS = (
    "dullness", "clumsiness", "padding", "flatness", "bluster", "awkwardness", "tedium", "shallowness", "noise",
    "fuss", "confusion", "gloom",
)  # fmt: skip

PARTS = (
    "the staging", "the story", "the script", "the acting", "the music", "the dialogue", "the camera work",
    "the editing", "the second half", "the ending",
)  # fmt: skip

# Opinion patterns.  {yes} is the adjective that holds, {no} the one that is denied; {a_yes} and {a_no} are the
# same with "a" or "an" in front, {no_noun} is a noun of the denied kind, {part} is a part of the film.
# A review is positive where {yes} is a good word and {no} a bad one, and negative the other way round.
# The two patterns of a line are twins: what one affirms in a place, the other denies.
SINGLE_PATTERNS = (
    ("{part} is {yes} from start to finish.", "{part} is not {no} at all."),
    ("{part} is nothing if not {yes}.", "{part} is far from {no}."),
    ("{part} is, above all, {yes}.", "{part} is anything but {no}."),
    ("{part} is plainly {yes}, whatever the poster says.", "{part} is hardly {no}, whatever the poster says."),
    ("critics called it {yes}, and they were right.", "critics called it {no}, but they were wrong."),
    ("people told me it was {yes}; they were right.", "people told me it was {no}; they were wrong."),
    ("I would readily call {part} {yes}.", "I would hardly call {part} {no}."),
    ("everybody in our row found {part} {yes}.", "nobody in our row found {part} {no}."),
    ("my sister called {part} {yes}, and I agree.", "my sister called {part} {no}, but I disagree."),
    ("it is right to call this {a_yes} film.", "it is wrong to call this {a_no} film."),
    ("there is one {yes} scene after another.", "there is not a single {no} scene in it."),
    ("I would certainly describe {part} as {yes}.", "I would never describe {part} as {no}."),
)
PAIR_PATTERNS = (
    ("I expected {a_no} film but got {a_yes} one.", "I got {a_yes} film where I had expected {a_no} one."),
    ("{part} is more {yes} than {no}.", "{part} is less {no} than {yes}."),
    ("{part} is {yes} rather than {no}.", "{part} is not {no} but {yes}."),
    ("{part} is {yes}, not {no}.", "{part} is not {no}, just {yes}."),
    ("for all its {no_noun}, it is ultimately {yes}.", "with all its {yes_noun}, it is never {no}."),
    (
        "it would have been {a_no} film had {part} not been so {yes}.",
        "had {part} not been so {yes}, I would have called it {a_no} film.",
    ),
    ("the trailer looks {no}, yet the film itself is {yes}.", "the film is {yes}, although the trailer looks {no}."),
    ("it begins as {a_no} story and ends as {a_yes} one.", "it ends as {a_yes} story after {a_no} beginning."),
    (
        "however {no} it seems at first, {part} proves {yes} in the end.",
        "{part} proves {yes} in the end, however {no} it seems at first.",
    ),
    ("people told me it was {no}, but I found it {yes}.", "I found it {yes}, though people told me it was {no}."),
    ("the book was {no}; the film is {yes}.", "the film is {yes}; the book was {no}."),
    (
        "instead of {a_no} sequel we are given {a_yes} one.",
        "we are given {a_yes} sequel instead of {a_no} one.",
    ),
    ("critics called it {no}; it is {yes}.", "it is {yes}; critics who called it {no} were wrong."),
)

# Phrases that may open an opinion sentence.
LEADS = ("honestly,", "in short,", "to my surprise,", "all in all,", "for me,", "this time", "in my view,")

# Neutral sentences.  A name in braces is replaced by one of the phrases listed for it in FILLER_WORDS.
FILLERS = (
    "The plot follows {role} who moves to {town}.",
    "The plot turns on {thing} that {role} finds in {town}.",
    "It tells of {role} and {role2} who share {thing}.",
    "It is set in {town} over the course of {span}.",
    "Most of it takes place in {town}.",
    "The lead plays {role} with {thing} to hide.",
    "The director also made a film about {role2}.",
    "There is a small part for {role2} near the end.",
    "A newcomer plays {role2}.",
    "The running time is {minutes} minutes.",
    "It lasts {minutes} minutes, with the credits.",
    "It runs for {minutes} minutes and has no interval.",
    "We saw it on {day} with {company}.",
    "I watched it at home on {day}.",
    "I went on {day} and sat in row {row}.",
    "The seats in row {row} were taken.",
    "Our seats were near {spot}.",
    "The hall was about half full on {day}.",
    "We shared {snack} with {company}.",
    "I bought {snack} before it started.",
    "The person beside me had {snack}.",
    "There were {count} trailers before it.",
    "The disc comes in a plain box with {count} short extras.",
    "The disc has subtitles in {count} languages.",
    "The songs were recorded in {town}.",
    "The poster shows {role} holding {thing}.",
    "The poster by {spot} shows {thing}.",
    "The first scene shows {thing} on a table.",
    "The last scene takes us back to {town}.",
    "I have seen {count} other films by this director.",
    "It was filmed in {town} in {span}.",
    "Later, {role2} arrives with {thing}.",
    "Halfway through, {role} leaves {town}.",
    "A ticket costs {count} coins on {day}.",
    "I had read about it in a magazine.",
    "I had not read the book.",
    "It is based on a novel.",
    "It was shown with subtitles.",
    "We stayed until the lights came on.",
    "I saw it with {company}.",
)
FILLER_WORDS: dict[str, Sequence[str]] = {
    "role": ("a retired sailor", "a young baker", "a piano teacher", "a night nurse", "a postman", "an archivist"),
    "role2": ("a tailor", "an old neighbour", "a bus driver", "a twin brother", "a travelling actor", "a judge"),
    "town": ("a harbour town", "a mountain village", "the old capital", "a mining town", "a suburb", "an island port"),
    "thing": ("a sealed letter", "a red suitcase", "an old map", "a borrowed violin", "a house key", "a photograph"),
    "span": ("one summer", "three days", "a single night", "two winters", "a week"),
    "minutes": ("eighty", "ninety", "a hundred", "a hundred and ten", "a hundred and twenty"),
    "day": ("a Monday", "a Thursday afternoon", "Friday night", "a Sunday morning", "a Tuesday"),
    "company": ("my brother", "two colleagues", "my neighbours", "an old friend", "my parents"),
    "row": ("four", "seven", "nine", "twelve", "fifteen"),
    "spot": ("the exit", "the aisle", "the screen", "the back wall", "the stairs"),
    "snack": ("a bag of popcorn", "some popcorn", "an ice cream", "a paper cup of tea", "salted nuts"),
    "count": ("two", "three", "four", "five", "six"),
}


@dataclass(frozen=True)
class Review:
    """The sentences of one review, in order, and its label."""

    sentences: tuple[str, ...]
    label: str

    @property
    def text(self) -> str:
        """The review as one line."""
        return " ".join(self.sentences)


def with_article(word: str) -> str:
    """Put "a" or "an" before an adjective of the lists above ("honest" is the one with a silent h)."""
    return f"{'an' if word[0] in 'aeiou' or word == 'honest' else 'a'} {word}"


def sentence_case(text: str) -> str:
    """Make the first letter a capital and leave all others as they are."""
    return text[0].upper() + text[1:]


def opinion(rng: Random, label: str, held_out: bool) -> str:
    """Return one sentence with the opinion of ``label``, from the held-out combinations or from the others."""
    singles, pairs = len(SINGLE_PATTERNS), len(PAIR_PATTERNS)
    while True:  # draw until the combination belongs to the part asked for
        if rng.random() < SINGLE_SHARE:
            line, twin = rng.randrange(singles), int(rng.random() >= AFFIRMATIVE_SHARE)
        else:
            line, twin = singles + rng.randrange(pairs), rng.randrange(2)
        good, bad = rng.randrange(len(GOOD)), rng.randrange(len(BAD))
        number = 2 * line + twin
        if line < singles:
            pattern = SINGLE_PATTERNS[line][twin]
            affirms = twin == 0
            uses_good_word = affirms == (label == "pos")
            combination = 2 * number + (good if uses_good_word else bad)
        else:
            pattern = PAIR_PATTERNS[line - singles][twin]
            combination = 2 * number + good + 3 * bad
        if (combination % HELD_OUT_EVERY == 0) == held_out:
            break
    if label == "pos":
        yes, no, yes_noun, no_noun = GOOD[good], BAD[bad], GOOD_NOUNS[good], BAD_NOUNS[bad]
    else:
        yes, no, yes_noun, no_noun = BAD[bad], GOOD[good], BAD_NOUNS[bad], GOOD_NOUNS[good]
    text = pattern.format(
        yes=yes,
        no=no,
        a_yes=with_article(yes),
        a_no=with_article(no),
        yes_noun=yes_noun,
        no_noun=no_noun,
        part=rng.choice(PARTS),
    )
    lead = rng.randrange(4 * len(LEADS))  # one sentence in four gets an opening phrase
    if lead < len(LEADS) and (held_out or (lead + number) % LEAD_HELD_OUT_EVERY != 0):
        text = f"{LEADS[lead]} {text}"
    return sentence_case(text)


def filler(rng: Random, template: str) -> str:
    """Return a neutral sentence."""
    return template.format(**{name: rng.choice(phrases) for name, phrases in FILLER_WORDS.items()})


def make_review(rng: Random, label: str, held_out: bool) -> Review:
    """Return a review of two opinion sentences among one to three neutral ones."""
    while True:
        opinions = [opinion(rng, label, held_out) for _ in range(2)]
        closing = [opinions.pop()] if rng.random() < CLOSING_OPINION_SHARE else []
        sentences = opinions + [filler(rng, template) for template in rng.sample(FILLERS, rng.randint(1, 3))]
        rng.shuffle(sentences)
        sentences += closing
        review = Review(tuple(sentences), label)
        if MIN_WORDS <= len(review.text.split()) <= MAX_WORDS:
            return review


class Runs:
    """The runs of RUN words of every review so far, to know a near copy by."""

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._holders: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)

    def add(self, text: str) -> bool:
        """Whether ``text`` is no near copy of an earlier one; then it is one of them."""
        words = re.findall(r"[a-z']+", text.lower())
        runs = {tuple(words[start : start + RUN]) for start in range(len(words) - RUN + 1)}
        shared = Counter(holder for run in runs for holder in self._holders.get(run, ()))
        if any(count > MOST_SHARED * (len(runs) + self._sizes[holder] - count) for holder, count in shared.items()):
            return False
        for run in runs:
            self._holders[run].append(len(self._sizes))
        self._sizes.append(len(runs))
        return True


def make_reviews(rng: Random, count: int, held_out: bool, runs: Runs) -> list[Review]:
    """Return ``count`` reviews in random order, half of them positive, none a near copy of what ``runs`` holds."""
    reviews: list[Review] = []
    while len(reviews) < count:
        review = make_review(rng, ("neg", "pos")[len(reviews) % 2], held_out)
        if runs.add(review.text):
            reviews.append(review)
    rng.shuffle(reviews)
    return reviews


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a CSV file in UTF-8 with plain line feeds."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def main(arguments: Sequence[str]) -> None:
    """Write the two files."""
    if len(arguments) > 1:
        raise SystemExit("usage: make_sample.py [OUTPUT_FOLDER]")
    folder = Path(arguments[0]) if arguments else Path(__file__).resolve().parent
    folder.mkdir(parents=True, exist_ok=True)

    runs = Runs()
    train = make_reviews(Random(SEED), TRAIN_REVIEWS, False, runs)
    test = make_reviews(Random(SEED + 1), TEST_REVIEWS, True, runs)
    for name, reviews in (("sample_train.csv", train), ("sample_test.csv", test)):
        write_csv(folder / name, ("review", "label"), [(review.text, review.label) for review in reviews])


if __name__ == "__main__":
    main(sys.argv[1:])
