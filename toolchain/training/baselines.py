"""What a model has to beat, on the same reviews: twenty lines of scikit-learn."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torchtext import data

from export.text import Tokenizer
from toolchain.corpus.corpus import Corpus
from toolchain.measures.standing import Result, Standing

MAX_TOKENS = 20_000_000
"""Training text beyond it is left out: so much takes a minute or two, and more of it helps little."""
MAX_COEFFICIENTS = 8_000_000
"""Of all labels together; the features that stand in most reviews are kept."""
INVERSE_PENALTY = 10.0
"""Of the squared coefficients (`C`). Ten and sublinear counts are better than scikit-learn's defaults on reviews."""


class Baselines(NamedTuple):
    """Answers [test reviews] of either kind beside the true labels [test reviews], as indices of the labels."""

    truth: NDArray[np.int64]
    majority: NDArray[np.int64]
    linear: NDArray[np.int64]
    features: str

    def beside(self, answers: NDArray[np.int64], truth: NDArray[np.int64], labels: Sequence[str]) -> Standing:
        """How a model stands that gave these `answers` [reviews] to the same reviews, maybe in another order."""
        return Standing(
            part="test",
            reviews=len(truth),
            majority_label=labels[int(self.majority[0])],
            majority=Result.of(self.majority, self.truth, labels),
            features=self.features,
            baseline=Result.of(self.linear, self.truth, labels),
            model=Result.of(answers, truth, labels),
        )


def answer_by_baselines(corpus: Corpus, tokenizer: Tokenizer) -> Baselines:
    """The most common label of the training and the validation part, and logistic regression over TF-IDF of both.

    The model beside them has seen both as well. The features are words and word pairs, scikit-learn's own; where each
    character is a token they are runs of one to three characters.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    seen = _some(corpus.train.examples + corpus.validation.examples)
    labels = [example.label for example in seen]
    ((most_common, _),) = Counter(labels).most_common(1)
    truth = np.array([example.label for example in corpus.test], np.int64)
    characters = tokenizer.unit == "characters"
    shape: dict[str, Any] = {"ngram_range": (1, 2)}
    if characters:
        shape = {"analyzer": "char", "ngram_range": (1, 3), "lowercase": tokenizer.lowercase}
    vectorizer = TfidfVectorizer(**shape, sublinear_tf=True, max_features=MAX_COEFFICIENTS // len(corpus.labels))
    pipeline = make_pipeline(vectorizer, LogisticRegression(C=INVERSE_PENALTY, max_iter=1_000))
    majority = np.full_like(truth, most_common)
    try:
        pipeline.fit([_joined(example.text, characters) for example in seen], labels)
        linear = pipeline.predict([_joined(example.text, characters) for example in corpus.test]).astype(np.int64)
    except ValueError:  # not one word of two letters, or one label alone: nothing to be told apart
        linear = majority
    return Baselines(truth, majority, linear, "runs of up to 3 characters" if characters else "words and word pairs")


def _some(examples: list[data.Example]) -> list[data.Example]:
    """Every so-manieth example, so that they hold `MAX_TOKENS` tokens or fewer; all where they do anyway."""
    tokens = sum(len(example.text) for example in examples)
    return examples[:: max(1, -(-tokens // MAX_TOKENS))]


def _joined(tokens: Sequence[str], characters: bool) -> str:
    return ("" if characters else " ").join(tokens)
