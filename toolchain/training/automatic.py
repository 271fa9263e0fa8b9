"""`--recipe auto`: where a training starts and how long it is, chosen by the data's language, rows and length."""

import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from export.spec import Specification
from export.text import TOKENIZERS, Tokenizer, TokenizerName
from toolchain.corpus.checks import is_unsegmented
from toolchain.corpus.corpus import Corpus, load_corpus
from toolchain.corpus.reviews import Reviews, Source, read_training_reviews
from toolchain.errors import UsageError
from toolchain.models.recipes import AUTO, FORMER, RECIPES, Recipe
from toolchain.models.restoring import load_trained
from toolchain.models.snapshot import Snapshot
from toolchain.scoring.default import IN_THE_BOX
from toolchain.training.linear_start import pairs_for
from toolchain.training.starting import check_start

NO_START = "none"
ENGLISH = 0.75
"""Share of the words that the model in the box knows of text that it can be a start for. Of English tweets, text
messages and product reviews it knows 89 to 96 %, of a few lines of German, French and Spanish 39 to 50 %."""
SURVEYED = 2_000
"""Reviews that are looked at, spread over all of them."""
STEPS = 1_000
"""Updates in which a trained model gets used to new reviews; few reviews are read more often for them."""
OWN_STEPS = 1_600
"""Updates that a model needs that starts from nothing."""
TOKENS = 12_000_000
"""Training text of all epochs together, beyond which there are no more than needed: ten minutes of two cores."""
MUCH = 4_000_000
"""Tokens of labelled reviews from which a model that starts from nothing is a language model of them first."""
UNITS_A_PASS, MOST_PASSES = 128, 4
"""A model that starts from nothing goes over unlabelled text as a language model once for so many of its units, and so
often at most. One that goes over text as often as that needs no word vectors to begin with."""
UNLABELLED = 1
"""Passes over all text, unlabelled text too, in which a trained model goes on as a language model."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of a model that were asked for; None leaves one to the recipe."""

    layers: int = 1
    hidden: int | None = None
    embedding: int | None = None

    def of(self, recipe: Recipe) -> Recipe:
        """The recipe with these sizes."""
        return replace(recipe, hidden=self.hidden or recipe.hidden, embedding=self.embedding or recipe.embedding)

    def those_of(self, start: Specification) -> "Sizes":
        """The sizes of a model to start from. Raises `UsageError` where others were asked for."""
        asked = {
            "layers": None if self.layers == 1 else self.layers,
            "hidden": self.hidden,
            "embedding": self.embedding,
        }
        for name, size in asked.items():
            if size not in (None, own := getattr(start, name)):
                raise UsageError(
                    f"--{name} {size}: the model to start from has {own}; leave --{name} out, or: --start none"
                )
        return Sizes(start.layers, start.hidden, start.embedding)


@dataclass(frozen=True)
class Plan:
    """What is trained, on what, from what; `reason` says in a line why, empty where nothing was left open.

    `reviews` are those of the corpus before it was split, without those of a test set of its own.
    """

    reviews: Reviews
    corpus: Corpus
    recipe: Recipe
    layers: int
    start: Snapshot | None = None
    reason: str = ""


def plan(
    source: Source,
    recipe: str | None = None,
    seed: int = 0,
    start: str | None = None,
    tokenizer: TokenizerName | None = None,
    sizes: Sizes = Sizes(),
    taught: bool = False,
    read: tuple[Reviews, Reviews | None] | None = None,
) -> Plan:
    """Read `source` for a training with the recipe of this name: one of `RECIPES`, or None for the default, which is
    `auto` for a file of rows and `gru` otherwise.

    `auto` chooses by the data. `start` is then `box`, the place of a snapshot or bundle, or `none`; None leaves it
    open: the model in the box where it knows the words, unless the data are the reviews that it was trained on, or the
    model is `taught` by others. `sizes` are those that were asked for. Reviews that were `read` from the source before
    are not read again. Raises `UsageError` as `load_corpus` and `load_trained` do, and where the options do not go
    together.
    """
    name = recipe or (AUTO.name if source.is_file else "gru")
    if name in FORMER:
        text = f" --unlabelled {shlex.quote(source.unlabelled)}" if source.unlabelled else FORMER[name]
        command = f"toolchain train --recipe {AUTO.name} --data {shlex.quote(source.data)}{text}"
        raise UsageError(f"--recipe {name}: is part of {AUTO.name} now; type: {command}")
    if name not in RECIPES:
        raise UsageError(f"--recipe {name}: expected one of {', '.join(RECIPES)}")
    if name == AUTO.name:
        return _choose(source, read or read_training_reviews(source), seed, start, tokenizer, sizes, taught)
    if start is not None:
        raise UsageError(f"--start: the recipe {name} starts from nothing; use --recipe {AUTO.name}, or leave it out")
    chosen = sizes.of(RECIPES[name])
    chosen = replace(chosen, tokenizer=TOKENIZERS[tokenizer]) if tokenizer else chosen
    if source.unlabelled:
        raise UsageError(f"--unlabelled: the recipe {name} does not use it; use --recipe {AUTO.name}, or leave it out")
    read = read or read_training_reviews(source)
    return Plan(read[0], load_corpus(source, chosen, seed, read), chosen, sizes.layers)


def _choose(
    source: Source,
    read: tuple[Reviews, Reviews | None],
    seed: int,
    start: str | None,
    tokenizer: TokenizerName | None,
    sizes: Sizes,
    taught: bool,
) -> Plan:
    start = NO_START if taught and start is None else start
    survey = read[0].texts[:: -(-len(read[0]) // SURVEYED)]
    trained, why = _choose_start(source, start, tokenizer, survey)
    if trained:
        chosen = trained.specification.tokenizer
        sizes = sizes.those_of(trained.specification)
        recipe = _tuned(trained, *_amount(read[0], survey, chosen))
        if source.unlabelled and not taught:
            recipe = replace(recipe, language_model_epochs=UNLABELLED)
    else:
        chosen = TOKENIZERS[tokenizer] if tokenizer else _choose_tokenizer(survey)
        rows, tokens = _amount(read[0], survey, chosen)
        recipe = sizes.of(_from_nothing(chosen, rows, tokens))
        if taught:
            recipe = _student(recipe)
        elif source.unlabelled:
            recipe = _reader(recipe, min(MOST_PASSES, max(1, recipe.hidden // UNITS_A_PASS)))
        elif rows * tokens >= MUCH:
            recipe = replace(_reader(recipe, MOST_PASSES), epochs=3)
    if passes := recipe.language_model_epochs:
        why += f", then {passes} {'pass' if passes == 1 else 'passes'} as a language model over all text"
    recipe = replace(recipe, bag=pairs_for(len(set(read[0].labels))))
    corpus = load_corpus(source, recipe, seed, read, trained.vocabulary if trained else ())
    unit = "; every character is a token" if chosen.unit == "characters" else ""
    reason = (
        f"{why}{unit}; up to {recipe.epochs} epochs of {len(corpus.train):,} reviews, {recipe.batch_size} at a time"
    )
    return Plan(read[0], corpus, recipe, sizes.layers, trained, reason)


def _choose_start(
    source: Source, start: str | None, tokenizer: TokenizerName | None, survey: list[str]
) -> tuple[Snapshot | None, str]:
    """The trained model to start from, and why it is this one or none."""
    if start == NO_START:
        return None, "from nothing, as asked"
    if start is None and source.is_imdb:
        return None, "from nothing: the model in the box was trained on these reviews"
    if start is None and tokenizer == "characters":
        return None, "from nothing: the model in the box reads words"
    trained = load_trained(start or IN_THE_BOX)
    check_start(trained.specification)
    own = trained.specification.tokenizer
    if tokenizer and TOKENIZERS[tokenizer] != own:
        if start is None:
            return None, "from nothing: the model in the box has another tokenizer"
        raise UsageError(f"--tokenizer {tokenizer}: {start} cuts text another way ({own}); leave one of the two out")
    known = known_share(survey, trained)
    name = "the model in the box" if start in (None, IN_THE_BOX) else str(start)
    if start is None and known < ENGLISH:
        return None, f"from nothing: {name}, which reads English, knows {known:.0%} of the words"
    return trained, f"from {name}, which knows {known:.0%} of the words"


def known_share(texts: list[str], trained: Snapshot) -> float:
    """The share of the words in `texts`, tokens with a letter, that stand in the vocabulary; 0 without one."""
    counts = Counter(token for text in texts for token in trained.specification.tokenizer.tokenize(text))
    words = {token: count for token, count in counts.items() if any(character.isalpha() for character in token)}
    vocabulary = set(trained.vocabulary)
    known = sum(count for word, count in words.items() if word in vocabulary)
    return known / max(1, sum(words.values()))


def _choose_tokenizer(survey: list[str]) -> Tokenizer:
    isolated = TOKENIZERS["isolated"]
    counts: Mapping[str, int] = Counter(token for text in survey for token in isolated.tokenize(text))
    return TOKENIZERS["characters"] if is_unsegmented(counts) else isolated


def _amount(reviews: Reviews, survey: list[str], tokenizer: Tokenizer) -> tuple[int, float]:
    """How many reviews there are, and the mean of their tokens."""
    return len(reviews), sum(len(tokenizer.tokenize(text)) for text in survey) / len(survey)


def _tuned(trained: Snapshot, rows: int, tokens: float) -> Recipe:
    """For a start from a trained model of the same sizes: short, gentle, with all that keeps it from forgetting."""
    specification = trained.specification
    sized = replace(
        AUTO,
        embedding=specification.embedding,
        hidden=specification.hidden,
        pooling=specification.pooling,
        max_tokens=specification.max_tokens,
        tokenizer=specification.tokenizer,
        start_rate=0.5,
        vector_epochs=0,
    )
    paced = _paced(sized, rows, tokens, 32 if rows <= 8_000 else 64, STEPS, most=10)
    return replace(paced, patience=max(3, paced.epochs // 2))


def _from_nothing(tokenizer: Tokenizer, rows: int, tokens: float) -> Recipe:
    """For a GRU that has to earn its place beside the linear part: `AUTO` is impatient where it does not."""
    return _paced(replace(AUTO, tokenizer=tokenizer), rows, tokens, 32 if rows <= 4_000 else 64, OWN_STEPS, most=12)


def _reader(recipe: Recipe, passes: int) -> Recipe:
    """For a GRU that begins as a language model of much text: it knows the words, and has an adversary."""
    return replace(
        recipe,
        min_freq=5,
        epochs=4,
        batch_size=64,
        learning_rate=1.5e-3,
        weight_decay=0.02,
        average_decay=0.998,
        patience=2,
        vector_epochs=2 if passes < MOST_PASSES else 0,
        language_model_epochs=passes,
        adversarial=0.03,
    )


def _student(recipe: Recipe) -> Recipe:
    """For a model that learns what others answer, on much text: it need not fear to learn its reviews by heart."""
    return replace(recipe, dropout=0.2, input_dropout=0.1, weight_decay=0.02, average_decay=0.998)


def _paced(recipe: Recipe, rows: int, tokens: float, batch_size: int, steps: int, most: int) -> Recipe:
    """The recipe with so many epochs that they make about so many steps, if the time that the text takes allows."""
    wanted = min(2 + steps * batch_size / rows, TOKENS / (rows * max(tokens, 1)))
    return replace(recipe, batch_size=batch_size, epochs=round(min(most, max(3, wanted))))
