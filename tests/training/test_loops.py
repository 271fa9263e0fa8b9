"""Training: the documented loops with their defects fixed, the same checkpoint for the same seed, the best one kept."""

import csv
import json
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from tests.conftest import TRAINED_EPOCHS, TrainedSample, narrow
from toolchain.corpus.corpus import batch_tensors, iterators, load_corpus
from toolchain.corpus.reviews import Source, read_reviews, sample_folder
from toolchain.errors import UsageError
from toolchain.models.classifiers import BasicGRU, build_model
from toolchain.models.recipes import RECIPES
from toolchain.models.snapshot import load_snapshot
from toolchain.training.loops import Epoch, Settings, evaluate, fit

NARROW = {name: narrow(recipe) for name, recipe in RECIPES.items()}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hundred sample reviews with three labels of our own."""
    reviews = read_reviews(sample_folder() / "sample_train.csv")
    path = tmp_path_factory.mktemp("data") / "small.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "Body", "Sentiment"])
        for number, (text, label) in enumerate(zip(reviews.texts[:300], reviews.labels[:300], strict=True)):
            writer.writerow([number, text, "mixed" if number % 3 == 0 else label])
    return path


def settings(epochs: int = 1, seed: int = 0) -> Settings:
    return Settings(epochs=epochs, batch_size=32, learning_rate=1e-3, layers=1, seed=seed, device="cpu")


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_seed_gives_the_same_checkpoint_twice_and_another_seed_another(
    recipe: str, small: Path, tmp_path: Path
) -> None:
    states = []
    for run, seed in enumerate((7, 7, 8)):
        corpus = load_corpus(Source(str(small)), NARROW[recipe], seed)
        fit(corpus, NARROW[recipe], settings(seed=seed), tmp_path / str(run))
        states.append(load_snapshot(tmp_path / str(run)).state)
    first, second, other = states
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first if first[name].shape == other[name].shape)


def test_any_labels_are_classes_in_the_order_of_their_names(small: Path, tmp_path: Path) -> None:
    corpus = load_corpus(Source(str(small)), NARROW["gru"], 0)
    assert corpus.labels == ("mixed", "neg", "pos")
    metrics = fit(corpus, NARROW["gru"], settings(), tmp_path)
    assert load_snapshot(tmp_path).specification.labels == ("mixed", "neg", "pos")
    assert sum(metrics["reviews"].values()) == 300
    assert metrics["reviews"]["test"] == 30
    assert metrics["reviews"]["validation"] == 54


def test_the_best_checkpoint_is_kept_and_its_figures_are_its_own(trained: TrainedSample) -> None:
    with (trained.folder / "history.csv").open(encoding="utf-8") as file:
        history = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert len(history) == TRAINED_EPOCHS
    best = min(history, key=lambda row: row["validation_loss"])
    metrics = json.loads((trained.folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["epoch"] == best["epoch"]
    assert metrics["validation_loss"] == pytest.approx(best["validation_loss"], abs=1e-6)
    snapshot = load_snapshot(trained.folder)
    assert snapshot.training == metrics
    _, _, test_batches = iterators(trained.corpus, 64, 0)
    loss, accuracy = evaluate(snapshot.build(), test_batches)
    assert loss == pytest.approx(metrics["test_loss"], abs=1e-5)
    assert accuracy == pytest.approx(metrics["test_accuracy"])


def test_the_gru_learns_what_a_bag_of_words_cannot(trained: TrainedSample) -> None:
    """The sample's labels lie in the order of the words: ten points and more between the two on the held-out part."""
    gru = trained.metrics["test_accuracy"]
    bag = bag_of_words_accuracy(trained)
    assert gru >= 90.0
    assert bag <= gru - 10.0


def bag_of_words_accuracy(trained: TrainedSample) -> float:
    """Logistic regression over word counts, trained to convergence on the same training part."""
    corpus = trained.corpus
    size = len(corpus.vocabulary)

    def counts(dataset: object) -> tuple[torch.Tensor, torch.Tensor]:
        examples = dataset.examples  # type: ignore[attr-defined]
        stoi = corpus.train.fields["text"].vocab.stoi
        rows = torch.zeros(len(examples), size)
        for row, example in zip(rows, examples, strict=True):
            for token in example.text:
                row[stoi[token]] += 1
        return rows, torch.tensor([example.label for example in examples])

    rows, labels = counts(corpus.train)
    weight, bias = torch.zeros(size, 2, requires_grad=True), torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(rows @ weight + bias, labels) + 1e-4 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    test_rows, test_labels = counts(corpus.test)
    return 100 * float(((test_rows @ weight + bias).argmax(1) == test_labels).float().mean())


def test_training_batches_are_really_bucketed_by_length(trained: TrainedSample) -> None:
    batches, _, _ = iterators(trained.corpus, 64, 0)
    padded = real = 0
    firsts = []
    for batch in batches:
        ids, lengths, _ = batch_tensors(batch, torch.device("cpu"))
        padded += ids.numel()
        real += int(lengths.sum())
        firsts.append(int(lengths[0]))
    assert padded <= 1.1 * real
    assert firsts != sorted(firsts)  # and still shuffled
    assert firsts != sorted(firsts, reverse=True)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_review_is_answered_from_its_own_last_token(recipe: str) -> None:
    """The source reads the state after the padding, so that a review's score depends on its batch mates."""
    torch.manual_seed(0)
    specification = RECIPES[recipe].specification(("neg", "pos"), layers=2)
    model = build_model(RECIPES[recipe].model, specification, 50, dropout=0.5).eval()
    ids = torch.randint(2, 50, (1, 5))
    alone = model(ids, torch.tensor([5]))
    beside = model(torch.cat([F.pad(ids, (0, 7), value=1), torch.randint(2, 50, (1, 12))]), torch.tensor([5, 12]))
    assert torch.allclose(alone[0], beside[0], atol=1e-6)
    empty = model(torch.ones(1, 3, dtype=torch.long), torch.tensor([0]))
    assert torch.isfinite(empty).all()


def test_dropout_has_an_effect_in_training() -> None:
    """The source calls `self.dropout(h_t)` and throws the result away."""
    torch.manual_seed(0)
    model = BasicGRU(1, 16, 50, 8, 2, dropout_p=0.5)
    ids, lengths = torch.randint(2, 50, (4, 6)), torch.full((4,), 6)
    assert not torch.equal(model(ids, lengths), model(ids, lengths))
    model.eval()
    assert torch.equal(model(ids, lengths), model(ids, lengths))


def test_layers_are_honoured(small: Path, tmp_path: Path) -> None:
    corpus = load_corpus(Source(str(small)), NARROW["rnn-cell"], 0)
    two = Settings(epochs=1, batch_size=64, learning_rate=1e-3, layers=2, seed=0, device="cpu")
    fit(corpus, NARROW["rnn-cell"], two, tmp_path)
    snapshot = load_snapshot(tmp_path)
    assert snapshot.specification.layers == 2
    assert "recurrent.weight_hh_l1" in snapshot.classifier().weights


def test_subnormal_floats_are_flushed_in_a_training_and_not_behind_it(small: Path, tmp_path: Path) -> None:
    def subnormal() -> float:
        return float(torch.tensor([1e-38]) * 1e-3)

    corpus = load_corpus(Source(str(small)), NARROW["gru"], 0)
    seen: list[float] = []
    fit(corpus, NARROW["gru"], settings(), tmp_path, on_epoch=lambda epoch, best: seen.append(subnormal()))
    assert seen
    assert not any(seen)
    assert subnormal() > 0


def test_a_diverging_training_says_so(small: Path, tmp_path: Path) -> None:
    corpus = load_corpus(Source(str(small)), NARROW["gru"], 0)
    wild = Settings(epochs=2, batch_size=32, learning_rate=math.inf, layers=1, seed=0, device="cpu")
    with pytest.raises(UsageError, match="the training diverged; lower --lr"):
        fit(corpus, NARROW["gru"], wild, tmp_path)


def test_every_epoch_is_reported_as_it_ends(small: Path, tmp_path: Path) -> None:
    corpus = load_corpus(Source(str(small)), NARROW["rnn"], 0)
    seen: list[tuple[Epoch, bool]] = []
    fit(corpus, NARROW["rnn"], settings(epochs=2), tmp_path, on_epoch=lambda epoch, best: seen.append((epoch, best)))
    assert [epoch.epoch for epoch, _ in seen] == [1, 2]
    assert seen[0][1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused(small: Path, tmp_path: Path) -> None:
    corpus = load_corpus(Source(str(small)), NARROW["rnn"], 0)
    cuda = Settings(epochs=1, batch_size=32, learning_rate=1e-3, layers=1, seed=0, device="cuda")
    with pytest.raises(UsageError, match="finds no CUDA device"):
        fit(corpus, NARROW["rnn"], cuda, tmp_path)
