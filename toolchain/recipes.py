"""The documented systems as settings: what `toolchain train --recipe` can build."""

from dataclasses import dataclass
from typing import Literal

from export.spec import Specification
from export.text import Tokenizer


@dataclass(frozen=True)
class Recipe:
    """One documented system. Sizes in units, `learning_rate` for Adam, `min_freq` and `max_size` for the vocabulary."""

    name: str
    model: Literal["BasicGRU", "BasicRNN", "RNNCellClassifier"]
    embedding: int
    hidden: int
    head: tuple[int, ...]
    dropout: float
    tokenizer: Tokenizer
    max_tokens: int
    min_freq: int
    max_size: int | None
    vocabulary_from: Literal["training and validation", "training"]
    epochs: int
    batch_size: int
    learning_rate: float

    def specification(self, labels: tuple[str, ...], layers: int) -> Specification:
        """What the recipe builds for these labels."""
        return Specification(
            labels=labels,
            cell="gru" if self.model == "BasicGRU" else "rnn",
            embedding=self.embedding,
            hidden=self.hidden,
            layers=layers,
            head=self.head,
            max_tokens=self.max_tokens,
            tokenizer=self.tokenizer,
        )


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="gru",
            model="BasicGRU",
            embedding=128,
            hidden=256,
            head=(),
            dropout=0.5,
            tokenizer=Tokenizer(punctuation="attached"),
            max_tokens=10_000,
            min_freq=5,
            max_size=None,
            vocabulary_from="training and validation",
            epochs=10,
            batch_size=64,
            learning_rate=1e-3,
        ),
        Recipe(
            name="rnn",
            model="BasicRNN",
            embedding=128,
            hidden=256,
            head=(),
            dropout=0.5,
            tokenizer=Tokenizer(punctuation="attached"),
            max_tokens=10_000,
            min_freq=10,
            max_size=10_000,
            vocabulary_from="training",
            epochs=5,
            batch_size=100,
            learning_rate=1e-4,
        ),
        Recipe(
            name="rnn-cell",
            model="RNNCellClassifier",
            embedding=100,
            hidden=300,
            head=(256,),
            dropout=0.0,
            tokenizer=Tokenizer(punctuation="dropped"),
            max_tokens=200,
            min_freq=10,
            max_size=10_000,
            vocabulary_from="training",
            epochs=5,
            batch_size=64,
            learning_rate=1e-4,
        ),
    )
}
