"""What a training run promises beside the loops: precision, patience, weights, calibration, suspects, the command."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchtext import data as torchtext_data
from typer.testing import CliRunner, Result

from export.forms import softmax
from tests import tiny
from tests.tiny import TINY, settings, write_reviews
from toolchain.cli.app import app
from toolchain.corpus.corpus import Corpus, iterators, load_corpus
from toolchain.corpus.reviews import Source
from toolchain.errors import UsageError
from toolchain.models.classifiers import build_model
from toolchain.models.recipes import RECIPES
from toolchain.models.snapshot import Snapshot, load_snapshot
from toolchain.release.release import export_snapshot
from toolchain.scoring.scorer import Scorer
from toolchain.training import loops
from toolchain.training.loops import Epoch, evaluate, fit, predict
from toolchain.training.machine import choose_precision
from toolchain.training.suspects import Suspects

SMALL = replace(TINY, validation_share=0.1)
CALIBRATED = replace(TINY, validation_share=0.6)


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reviews(tmp_path_factory.mktemp("data") / "reviews.csv", 240)


@pytest.fixture(scope="module")
def corpus(reviews: Path) -> Corpus:
    return load_corpus(Source(str(reviews)), SMALL, 0)


# --- precision -------------------------------------------------------------------------------------------------------


def test_a_precision_is_chosen_by_name() -> None:
    cpu = torch.device("cpu")
    assert choose_precision("fp32", cpu) == torch.float32
    assert choose_precision("bf16", cpu) == torch.bfloat16
    assert choose_precision("auto", cpu) in (torch.float32, torch.bfloat16)
    assert choose_precision("auto", torch.device("cuda")) == torch.bfloat16
    with pytest.raises(UsageError, match="--precision fp16: expected auto, fp32 or bf16"):
        choose_precision("fp16", cpu)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_products_are_taken_in_the_precision_and_weights_are_kept_in_full(
    corpus: Corpus, precision: torch.dtype
) -> None:
    torch.manual_seed(0)
    model = build_model(SMALL.model, SMALL.specification(corpus.labels, 1), len(corpus.vocabulary), dropout=0.0)
    products: set[torch.dtype] = set()
    model.out.register_forward_hook(lambda module, inputs, output: products.add(output.dtype))
    seen: set[torch.dtype] = set()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    batches, _, _ = iterators(corpus, 16, 0)
    losses = [
        loops.train(model, optimizer, batches, precision=precision, watch=lambda _, logits: seen.add(logits.dtype))
        for _ in range(3)
    ]
    assert products == {precision}
    assert seen == {torch.float32}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert losses[-1][1] > 90.0


def test_a_run_in_bf16_says_so_and_is_another_than_in_fp32(corpus: Corpus, tmp_path: Path) -> None:
    half, full = (fit(corpus, SMALL, settings(precision=name), tmp_path / name) for name in ("bf16", "fp32"))
    assert (half["precision"], full["precision"]) == ("bfloat16", "float32")
    assert half["validation_loss"] != full["validation_loss"]
    assert half["validation_loss"] == pytest.approx(full["validation_loss"], abs=0.1)


# --- patience --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patience", "epochs", "best"), [(None, 8, 7), (1, 3, 2), (2, 6, 4), (3, 8, 7)], ids=["none", "1", "2", "3"]
)
def test_patience_ends_a_run_that_gets_no_better(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: int | None, epochs: int, best: int
) -> None:
    losses = iter([1.0, 0.9, 0.9, 0.8, 0.85, 0.81, 0.7, 0.75])
    monkeypatch.setattr(loops, "evaluate", lambda model, batches: (next(losses), 50.0))
    ended: list[tuple[int, bool]] = []
    chosen = settings(epochs=8, patience=patience)
    metrics = fit(corpus, SMALL, chosen, tmp_path, on_epoch=lambda epoch, best: ended.append((epoch.epoch, best)))
    assert [number for number, _ in ended] == list(range(1, epochs + 1))
    assert metrics["epoch"] == best == max(number for number, is_best in ended if is_best)
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 1 + epochs


# --- weights of the labels -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unequal(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """One label in ten is rare; half the reviews that say "maybe" and no other have it."""
    path = tmp_path_factory.mktemp("data") / "unequal.csv"
    kinds = ["maybe so,rare", "maybe so,common", *["surely so,common"] * 8]
    path.write_text("text,label\n" + "".join(f"{kinds[n % 10].replace(',', f' w{n % 7},')}\n" for n in range(300)))
    return load_corpus(Source(str(path)), SMALL, 0)


def recall_of_the_rare(corpus: Corpus, folder: Path, class_weights: str) -> float:
    # two in three that say "maybe" are common now: only the weights speak for the rare label
    rare = corpus.labels.index("rare")
    examples = [example for n, example in enumerate(corpus.train) if example.label != rare or n % 2]
    fewer = replace(corpus, train=torchtext_data.Dataset(examples, corpus.train.fields))
    fit(fewer, SMALL, settings(epochs=4, class_weights=class_weights), folder)
    batches, _, _ = iterators(fewer, 16, 0)
    logits, labels = predict(load_snapshot(folder).build(), batches)
    return float((logits.argmax(1) == labels)[labels == rare].mean())


def test_balanced_weights_find_a_rare_label(unequal: Corpus, tmp_path: Path) -> None:
    assert recall_of_the_rare(unequal, tmp_path / "none", "none") < 0.2
    assert recall_of_the_rare(unequal, tmp_path / "balanced", "balanced") > 0.8


def test_balanced_weights_are_one_over_the_share_and_one_in_the_mean(unequal: Corpus) -> None:
    labels = np.array([example.label for example in unequal.train])
    weights = loops._class_weights(unequal, torch.device("cpu")).numpy()
    assert weights == pytest.approx([len(labels) / 2 / (labels == label).sum() for label in (0, 1)])
    assert weights[labels].mean() == pytest.approx(1.0)


def test_a_label_that_the_training_part_lacks_breaks_nothing(unequal: Corpus, tmp_path: Path) -> None:
    rare = unequal.labels.index("rare")
    examples = [example for example in unequal.train if example.label != rare]
    without = replace(unequal, train=torchtext_data.Dataset(examples, unequal.train.fields))
    metrics = fit(without, SMALL, settings(epochs=1, class_weights="balanced"), tmp_path)
    assert np.isfinite(metrics["validation_loss"])


# --- calibration -----------------------------------------------------------------------------------------------------


def fit_and_keep(corpus: Corpus, folder: Path, epochs: int = 4) -> tuple[dict[str, Any], Snapshot, Snapshot]:
    """The metrics, the best checkpoint as its epoch left it, and the published one."""
    kept: list[Snapshot] = []

    def keep(epoch: Epoch, best: bool) -> None:
        if best:
            kept.append(load_snapshot(folder))

    metrics = fit(corpus, CALIBRATED, settings(epochs=epochs), folder, on_epoch=keep)
    return metrics, kept[-1], load_snapshot(folder)


def test_the_published_model_and_its_exports_are_calibrated(tmp_path: Path) -> None:
    """One label in six is wrong, which a model that has read few reviews does not expect."""
    source = write_reviews(tmp_path / "reviews.csv", 400, wrong=range(0, 400, 7))
    corpus = load_corpus(Source(str(source)), CALIBRATED, 0)
    metrics, raw, published = fit_and_keep(corpus, tmp_path / "snapshot")
    temperature = metrics["calibration"]["temperature"]
    assert abs(temperature - 1.0) > 0.05
    texts = [" ".join(example.text) for example in corpus.test]
    expected = raw.reference()(texts) / temperature
    assert np.allclose(published.reference()(texts), expected, atol=1e-5)

    _, validation, test = iterators(corpus, 16, 0)
    for part, batches in (("validation", validation), ("test", test)):
        quality = metrics["calibration"][part]
        (loss, accuracy), (calibrated_loss, calibrated_accuracy) = (
            evaluate(snapshot.build(), batches) for snapshot in (raw, published)
        )
        assert accuracy == calibrated_accuracy
        assert quality["before"]["loss"] == pytest.approx(loss, abs=1e-5)
        assert quality["after"]["loss"] == pytest.approx(calibrated_loss, abs=1e-5)
        assert set(quality["before"]) == set(quality["after"]) == {"loss", "calibration_error"}
    assert metrics["test_loss"] == metrics["calibration"]["test"]["after"]["loss"]
    validation_loss = metrics["calibration"]["validation"]
    assert validation_loss["after"]["loss"] < validation_loss["before"]["loss"]
    assert metrics == published.training == json.loads((tmp_path / "snapshot" / "metrics.json").read_text())

    export_snapshot(published, tmp_path / "bundle", ["onnx"], texts)
    with Scorer(tmp_path / "bundle", "cpu") as scorer:
        assert np.allclose(scorer.submit(texts).result().probabilities, softmax(expected), atol=1e-5)


@pytest.mark.parametrize("count", [160, 240], ids=["96 reviews, too few", "no mistake"])
def test_what_cannot_be_calibrated_is_left_alone(tmp_path: Path, count: int) -> None:
    wrong = range(0, count, 7) if count == 160 else ()
    corpus = load_corpus(Source(str(write_reviews(tmp_path / "reviews.csv", count, wrong))), CALIBRATED, 0)
    metrics, raw, published = fit_and_keep(corpus, tmp_path / "snapshot", epochs=8)
    if count == 160:
        assert len(corpus.validation) < loops.MIN_CALIBRATION_REVIEWS
    else:
        assert len(corpus.validation) >= loops.MIN_CALIBRATION_REVIEWS
        assert metrics["validation_accuracy"] == 100.0
    assert metrics["calibration"]["temperature"] == 1.0
    for part in ("validation", "test"):
        assert metrics["calibration"][part]["before"] == metrics["calibration"][part]["after"]
    assert all(torch.equal(tensor, raw.state[name]) for name, tensor in published.state.items())


# --- suspects --------------------------------------------------------------------------------------------------------


def batch(**answers: tuple[int, int]) -> tuple[Any, Tensor]:
    """Origins with (label, answer) -> a batch and its logits."""
    labels, answered = (torch.tensor(column) for column in zip(*answers.values(), strict=True))
    return SimpleNamespace(origin=list(answers), label=labels), torch.nn.functional.one_hot(answered, 3).float()


def test_a_suspect_is_wrong_in_every_epoch_and_keeps_its_last_answer(tmp_path: Path) -> None:
    suspects = Suspects()
    suspects.watch(*batch(a=(0, 1), b=(1, 0)))
    suspects.watch(*batch(c=(2, 0), d=(1, 1)))
    suspects.end_epoch()
    assert suspects.never_right == {"a": (0, 1), "b": (1, 0), "c": (2, 0)}
    suspects = Suspects(suspects.never_right)  # as a run that is resumed does
    suspects.watch(*batch(d=(1, 0), c=(2, 1), b=(1, 1), a=(0, 2)))
    suspects.end_epoch()
    assert suspects.never_right == {"a": (0, 2), "c": (2, 1)}
    assert suspects.write(["neg", "o,k", "pos"], tmp_path / "suspects.csv") == 2
    assert (tmp_path / "suspects.csv").read_bytes() == b'review,label,answer\na,neg,pos\nc,pos,"o,k"\n'
    suspects.end_epoch()
    suspects.watch(*batch(a=(0, 1)))
    suspects.end_epoch()
    assert suspects.never_right == {}


def test_a_review_without_a_place_is_no_suspect() -> None:
    unnamed, logits = batch(a=(0, 1), b=(0, 1))
    unnamed.origin[0] = None
    suspects = Suspects()
    suspects.watch(unnamed, logits)
    suspects.end_epoch()
    assert suspects.never_right == {"b": (0, 1)}


def test_wrong_labels_are_among_the_suspects(tmp_path: Path) -> None:
    """Nearly all: the first batches, before anything is learned, get some right by chance."""
    planted = range(3, 480, 15)
    source = write_reviews(tmp_path / "reviews.csv", 480, wrong=planted)
    steady = replace(SMALL, dropout=0.0, input_dropout=0.0, word_dropout=0.0, one_cycle=False)
    corpus = load_corpus(Source(str(source)), steady, 0)
    metrics = fit(corpus, steady, settings(epochs=3, batch_size=8), tmp_path / "snapshot")
    in_training = {example.origin for example in corpus.train}
    expected = {f"{source}:{number + 2}" for number in planted} & in_training  # line 1 is the header
    with (tmp_path / "snapshot" / "suspects.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    suspects = {row["review"] for row in rows}
    assert len(rows) == len(suspects) == metrics["suspects"]
    assert suspects <= in_training
    assert len(expected) >= 20
    assert len(expected & suspects) >= 0.75 * len(expected)
    assert len(suspects - expected) <= 0.02 * len(in_training)
    assert all({row["label"], row["answer"]} == {"neg", "pos"} for row in rows)


def test_too_few_epochs_name_no_suspects(corpus: Corpus, tmp_path: Path) -> None:
    assert "suspects" not in fit(corpus, SMALL, settings(epochs=2), tmp_path)
    assert not (tmp_path / "suspects.csv").exists()


# --- the command -----------------------------------------------------------------------------------------------------


def train(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


def error_line(result: Result) -> str:
    """The one line that a command said before it ended with status 2."""
    assert result.exit_code == 2, result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_a_config_gives_the_defaults_and_the_command_line_goes_first(reviews: Path, tmp_path: Path) -> None:
    config = tmp_path / "train.toml"
    config.write_text(
        f'recipe = "gru"\ndata = "{reviews}"\nepochs = 2\nbatch-size = 60\nlr = 0.5\nseed = 3\n'
        f'class_weights = "balanced"\nprecision = "fp32"\nout = "{tmp_path / "of config"}"\njson = true\n'
    )
    result = train("--config", config, "--lr", "0.002", "--out", tmp_path / "snapshot", "--epochs", "1")
    assert result.exit_code == 0, result.stderr
    assert not (tmp_path / "of config").exists()
    metrics = json.loads(result.stdout)
    assert metrics["settings"] == {
        "epochs": 1,
        "batch_size": 60,
        "learning_rate": 0.002,
        "layers": 1,
        "seed": 3,
        "device": "auto",
        "precision": "fp32",
        "patience": None,
        "class_weights": "balanced",
    }
    assert metrics["recipe_settings"] == json.loads(json.dumps(asdict(RECIPES["gru"])))
    assert load_snapshot(tmp_path / "snapshot").training == metrics


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("epocs = 3\n", "train.toml: 'epocs' is no option of this command; see --help"),
        ("[train]\nepochs = 3\n", "train.toml: 'train' is no option of this command; see --help"),
        ("as-json = true\n", "train.toml: 'as-json' is no option of this command; see --help"),
        ("epochs = = 3\n", "train.toml: Invalid value (at line 1, column 10)"),
        ("recipe = gr\xfc\n", "train.toml: 'utf-8' codec can't decode"),
        (None, "train.toml: No such file or directory"),
    ],
    ids=["unknown", "table", "a name of the program's own", "broken", "not UTF-8", "missing"],
)
def test_a_config_that_cannot_be_read_is_one_line(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "train.toml").write_text(content, encoding="latin-1")
    line = error_line(train("--data", "sample", "--config", tmp_path / "train.toml", "--out", tmp_path / "snapshot"))
    assert said in line
    assert not (tmp_path / "snapshot").exists()


@pytest.mark.parametrize("line", ['epochs = "many"', "epochs = 0", "epochs = 1.5", "epochs = [1]", "resume = 5"])
def test_a_value_in_a_config_is_checked_as_on_the_command_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "train.toml").write_text(line)
    result = train("--data", "sample", "--config", tmp_path / "train.toml", "--out", tmp_path / "snapshot")
    assert result.exit_code == 2
    assert f"error: --{line.split()[0]}: " in result.stderr
    assert "Traceback" not in result.stderr


def test_event_files_hold_the_figures_of_the_history(reviews: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    result = train("--data", reviews, "--recipe", "rnn", "--epochs", "2", "--out", tmp_path, "--tensorboard")
    assert result.exit_code == 0, result.stderr
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    with (tmp_path / "history.csv").open(encoding="utf-8") as file:
        history = list(csv.DictReader(file))
    names = {name.replace("_", "/"): name for name in history[0] if name != "epoch"}
    assert set(events.Tags()["scalars"]) == set(names)
    assert {"train/loss", "train/accuracy", "validation/loss", "validation/accuracy", "seconds"} == set(names)
    for tag, name in names.items():
        assert [event.step for event in events.Scalars(tag)] == [1, 2]
        values = [event.value for event in events.Scalars(tag)]
        assert values == pytest.approx([float(row[name]) for row in history], rel=1e-4, abs=1e-5), tag


def test_without_the_option_there_are_no_event_files(reviews: Path, tmp_path: Path) -> None:
    assert train("--data", reviews, "--recipe", "rnn", "--epochs", "1", "--out", tmp_path).exit_code == 0
    assert not (tmp_path / "tensorboard").exists()


def pooled(reviews: Path, folder: Path, hidden: int) -> Sequence[str | Path]:
    options = ["--recipe", "auto", "--start", "none", "--embedding", "8", "--hidden", str(hidden)]
    return ["--data", reviews, "--out", folder, *options, "--epochs", "6", "--lr", "0.03", "--batch-size", "16"]


def test_a_teacher_and_its_student(reviews: Path, tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text("text\n" + "".join(f"a superb and lovely w{n % 9}\n" for n in range(30)))
    result = train(*pooled(reviews, tmp_path / "teacher", 8), "--patience", "3", "--class-weights", "balanced")
    assert result.exit_code == 0, result.stderr
    teacher = load_snapshot(tmp_path / "teacher").training
    assert teacher["settings"]["patience"] == 3
    assert teacher["settings"]["class_weights"] == "balanced"
    assert teacher["unlabelled"] == 0
    taught_by: list[str | Path] = ["--unlabelled", tmp_path / "more.csv", "--teacher", tmp_path / "teacher"]
    result = train(*pooled(reviews, tmp_path / "student", 6), *taught_by)
    assert result.exit_code == 0, result.stderr
    student = load_snapshot(tmp_path / "student").training
    assert student["unlabelled"] == 30
    assert [one["data"] for one in student["teachers"]] == ["reviews.csv"]
    assert student["settings"]["patience"] == TINY.patience
    assert student["reviews"]["train"] == teacher["reviews"]["train"]
    assert student["reviews"]["taught"] == 30


def test_a_start_as_a_language_model_and_an_adversary(reviews: Path, tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text("text\n" + "".join(f"a superb and lovely w{n % 9}\n" for n in range(30)))
    options: list[str | Path] = ["--data", reviews, "--unlabelled", tmp_path / "more.csv", "--batch-size", "16"]
    for name in ("one", "two"):
        result = train(*options, *tiny.SMALL, "--device", "cpu", "--out", tmp_path / name)
        assert result.exit_code == 0, result.stderr
    one, two = (load_snapshot(tmp_path / name) for name in ("one", "two"))
    assert one.training["unlabelled"] == 30
    assert one.training["recipe_settings"]["language_model_epochs"]
    assert one.training["recipe_settings"]["adversarial"]
    assert all(torch.equal(tensor, two.state[name]) for name, tensor in one.state.items())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--recipe", "gru", "--unlabelled", "more.csv"],
            "--unlabelled: the recipe gru does not use it; use --recipe auto",
        ),
        (
            ["--recipe", "gru-pool"],
            "--recipe gru-pool: is part of auto now; type: toolchain train --recipe auto --data {reviews}",
        ),
        (
            ["--recipe", "gru-lm"],
            "--recipe gru-lm: is part of auto now; type: "
            "toolchain train --recipe auto --data {reviews} --unlabelled PATH",
        ),
        (
            ["--recipe", "gru-lm", "--unlabelled", "my texts.csv"],
            "--recipe gru-lm: is part of auto now; type: "
            "toolchain train --recipe auto --data {reviews} --unlabelled 'my texts.csv'",
        ),
        (["--recipe", "auto", "--teacher", "nowhere"], "nowhere: no snapshot here"),
        (["--precision", "fp8"], "--precision fp8: expected auto, fp32 or bf16"),
        (["--recipe", "auto", "--start", "none", "--unlabelled", "none.csv"], "none.csv: No such file or directory"),
    ],
    ids=["no use", "pooled", "language model", "language model and its text", "no teacher", "precision", "no text"],
)
def test_options_that_make_no_sense_are_one_line(
    reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = train("--data", reviews, "--out", tmp_path / "snapshot", *arguments)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert said.format(reviews=reviews) in result.stderr.splitlines()[-1]
    assert not (tmp_path / "snapshot").exists()
