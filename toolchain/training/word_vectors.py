"""Where the embedding starts without a trained model: skip-gram word vectors of the training and unlabelled text."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.text import PADDING_ID

WINDOW = 5
NEGATIVES = 5
SUBSAMPLING = 1e-4
"""Skip-gram with negative sampling (Mikolov et al. 2013, arXiv:1310.4546), at the settings of its authors' program."""

Progress = Callable[[Iterable[Any], str], Iterable[Any]]


def word_vectors(
    sentences: Sequence[Sequence[str]],
    vocabulary: Sequence[str],
    dimension: int,
    seed: int,
    epochs: int,
    progress: Progress = lambda sentences, title: sentences,
) -> NDArray[np.float32]:
    """Token lists -> vectors [vocabulary, dimension], zero for `<unk>`, `<pad>` and words that do not occur.

    `epochs` passes over the lists, in one thread alone, because with more the vectors are others every time.
    """
    from gensim.models import Word2Vec

    model = Word2Vec(
        vector_size=dimension,
        window=WINDOW,
        negative=NEGATIVES,
        sample=SUBSAMPLING,
        sg=1,
        min_count=1,
        seed=seed,
        workers=1,
    )
    known = set(vocabulary)
    model.build_vocab_from_freq(Counter(word for sentence in sentences for word in sentence if word in known))
    model.train(
        _Passes(sentences, epochs, progress),
        total_examples=len(sentences),
        total_words=sum(map(len, sentences)),
        epochs=epochs,
    )
    vectors = np.zeros((len(vocabulary), dimension), np.float32)
    for index, word in enumerate(vocabulary):
        if index > PADDING_ID and word in model.wv:
            vectors[index] = model.wv[word]
    return vectors


class _Passes:
    """The sentences, to be read once an epoch, each time under `progress`."""

    def __init__(self, sentences: Sequence[Sequence[str]], epochs: int, progress: Progress) -> None:
        self._sentences = sentences
        self._epochs = epochs
        self._progress = progress
        self._passes = 0

    def __iter__(self) -> Iterator[Sequence[str]]:
        self._passes += 1
        yield from self._progress(self._sentences, f"word vectors, pass {self._passes} of {self._epochs}")
