"""The systems as settings: what `toolchain train --recipe` can build. Three are documented, `auto` is ours."""

from dataclasses import dataclass
from typing import Literal

from export.spec import Pool, Specification
from export.text import Tokenizer


@dataclass(frozen=True)
class Recipe:
    """One system. Sizes in units, `learning_rate` for Adam, `min_freq` and `max_size` for the vocabulary.

    What stands below `learning_rate` the documented systems do without: pools of states beside the last, dropout of
    words and of input channels (shares), label smoothing (share), weight decay (AdamW's), the largest norm of a
    gradient, a one-cycle schedule up to `learning_rate` and down again, the moving average of the weights (its decay),
    the epochs without a better validation loss after which the training stops, a validation part of another share or
    without a group (film) in common with the training part, passes over all text that make word vectors for the
    embedding to start from, further passes that make the GRU a language model, the size of an adversary's steps, and
    the share of `learning_rate` at which weights of a trained model move that the training starts from, and the rows
    for word pairs of a linear classifier beside the GRU.
    """

    name: str
    model: Literal["BasicGRU", "BasicRNN", "PooledGRU", "RNNCellClassifier"]
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
    pooling: tuple[Pool, ...] = ("last",)
    word_dropout: float = 0.0
    input_dropout: float = 0.0
    label_smoothing: float = 0.0
    weight_decay: float = 0.0
    clip_norm: float | None = None
    one_cycle: bool = False
    average_decay: float | None = None
    patience: int | None = None
    validation_share: float = 0.2
    validation_by_group: bool = False
    vector_epochs: int = 0
    language_model_epochs: int = 0
    adversarial: float = 0.0
    start_rate: float = 1.0
    bag: int = 0

    def specification(self, labels: tuple[str, ...], layers: int) -> Specification:
        """What the recipe builds for these labels."""
        return Specification(
            labels=labels,
            cell="gru" if self.model in ("BasicGRU", "PooledGRU") else "rnn",
            embedding=self.embedding,
            hidden=self.hidden,
            layers=layers,
            head=self.head,
            max_tokens=self.max_tokens,
            tokenizer=self.tokenizer,
            pooling=self.pooling,
            bag=self.bag,
        )


AUTO = Recipe(
    name="auto",
    model="PooledGRU",
    embedding=128,
    hidden=256,
    head=(),
    dropout=0.5,
    tokenizer=Tokenizer(punctuation="isolated"),
    max_tokens=1_000,
    min_freq=1,
    max_size=30_000,
    vocabulary_from="training",
    epochs=4,
    batch_size=64,
    learning_rate=2e-3,
    pooling=("last", "max", "mean"),
    word_dropout=0.1,
    input_dropout=0.3,
    label_smoothing=0.05,
    weight_decay=0.1,
    clip_norm=1.0,
    one_cycle=True,
    average_decay=0.98,
    patience=3,
    validation_share=0.1,
    validation_by_group=True,
    vector_epochs=5,
)
"""What `toolchain.training.automatic` makes a recipe of that suits the data at hand."""

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        AUTO,
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

FORMER = {"gru-pool": "", "gru-lm": " --unlabelled PATH"}
"""Recipes of earlier versions, which snapshots and bundles still name, and what to give `auto` in place of each."""
