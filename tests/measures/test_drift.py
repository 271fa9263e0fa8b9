"""Drift: what a bundle knows of its own text, and what `score` says of a file that does not look like it."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import toolchain.scoring.job
from data.make_korean_sample import write_reviews
from export.bundle import InvalidBundle, open_bundle
from export.forms import softmax
from export.spec import Specification
from tests import tiny
from tests.conftest import score_command
from tests.stopping import stop_after
from toolchain.cli.app import app
from toolchain.corpus.corpus import load_corpus
from toolchain.corpus.reviews import Source
from toolchain.measures.drift import (
    BINS,
    CONFIDENCE,
    LABELS,
    LARGE_SHIFT,
    MIN_TEXTS,
    RESOLUTION,
    TOKENS,
    UNKNOWN,
    Reference,
    Statistics,
    bundle_reference,
    describe,
    find_drift,
    shift,
    text_reference,
)
from toolchain.models.snapshot import Snapshot, load_snapshot
from toolchain.release.release import export_snapshot
from toolchain.scoring.job import Options, Summary, score_file
from toolchain.scoring.journal import JOURNAL
from toolchain.scoring.scorer import Scorer
from toolchain.training.loops import fit

WORDS = Specification(("neg", "pos"), "gru", 4, 4)


def texts(
    count: int, seed: int, length: float = 5.0, unknown: float = 0.04
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Token counts, unknown counts and probabilities of generated texts."""
    random = np.random.default_rng(seed)
    tokens = random.lognormal(length, 0.6, count).astype(int) + 1
    positive = random.beta(0.8, 0.8, count)
    return tokens, random.binomial(tokens, unknown), np.stack([1 - positive, positive], axis=1)


def test_a_bin_holds_a_tenth_of_the_reference() -> None:
    reference = Reference.of("validation", *texts(1000, seed=0))
    for name in (TOKENS, UNKNOWN, CONFIDENCE):
        counts = reference.statistics.histograms[name]
        assert len(counts) == BINS
        assert sum(counts) == 1000
        assert all(80 <= count <= 125 for count in counts), name


def test_the_index_is_that_of_the_definition() -> None:
    # (0.6 - 0.4) ln(0.6 / 0.4) + (0.4 - 0.6) ln(0.4 / 0.6) = 0.4 ln 1.5, with half a text added to each count
    found = shift(("a", "b"), (6000, 4000), (4000, 6000))
    here, there = 6000.5 / 10001, 4000.5 / 10001
    assert found.index == pytest.approx(2 * (here - there) * np.log(here / there), rel=1e-12)
    assert found.index == pytest.approx(0.4 * np.log(1.5), rel=1e-3)
    assert shift(("a", "b"), (30, 70), (30, 70)).index == 0.0


def test_bins_that_are_empty_in_both_count_for_nothing() -> None:
    with_empty = shift((1.0, 2.0), (60, 0, 40), (40, 0, 60))
    assert with_empty.index == shift((1.0,), (60, 40), (40, 60)).index
    assert with_empty.limit == shift((1.0,), (60, 40), (40, 60)).limit


def test_few_texts_have_to_be_farther_away() -> None:
    even = [20] * BINS
    assert shift(tuple(range(9)), [500] * BINS, [500] * BINS).limit == LARGE_SHIFT
    # 9 degrees of freedom: (9 + 4 sqrt 18) (1 / 200 + 1 / 200)
    assert shift(tuple(range(9)), even, even).limit == pytest.approx((9 + 4 * 18**0.5) / 100)


@pytest.mark.parametrize("count", [100, 250, 3000])
def test_other_texts_of_the_same_origin_are_no_drift(count: int) -> None:
    reference = Reference.of("validation", *texts(2000, seed=0))
    for seed in range(1, 41):
        drift = find_drift(reference, reference.count(*texts(count, seed)), WORDS)
        assert drift is not None
        assert not drift.warnings, f"seed {seed}"


def test_the_reference_itself_is_at_distance_zero() -> None:
    own = texts(500, seed=3)
    reference = Reference.of("validation", *own)
    drift = find_drift(reference, reference.count(*own), WORDS)
    assert drift is not None
    assert [found.index for found in drift.shifts.values()] == [0.0] * 4
    assert drift.unknown_rate == drift.reference_unknown_rate
    assert not drift.warnings


def test_each_quantity_warns_by_itself_and_in_plain_words() -> None:
    reference = Reference.of("validation", *texts(2000, seed=0))

    def warnings(tokens: np.ndarray, unknown: np.ndarray, probabilities: np.ndarray) -> list[str]:
        drift = find_drift(reference, reference.count(tokens, unknown, probabilities), WORDS)
        assert drift is not None
        return list(drift.warnings)

    own = f"in the model's validation text it was {100 * reference.statistics.unknown_rate:.1f} %"
    tokens, unknown, probabilities = texts(600, seed=1, unknown=0.38)
    rate = 100 * unknown.sum() / tokens.sum()
    assert warnings(tokens, unknown, probabilities) == [f"{rate:.1f} % of the words are unknown to this model; {own}"]
    (line,) = warnings(*texts(600, seed=1, length=3.0))
    assert "words or fewer; in the model's validation text it was" in line
    tokens, unknown, probabilities = texts(600, seed=1)
    sure = np.clip(np.sign(probabilities - 0.5), 0.001, 0.999)
    (line,) = warnings(tokens, unknown, sure)
    assert "of the answers have a confidence of" in line
    one_sided = np.sort(probabilities, axis=1)
    (line,) = warnings(tokens, unknown, one_sided)
    assert line.startswith(("0.0 % of the answers are neg;", "100.0 % of the answers are pos;"))


def test_fewer_unknown_words_are_nothing_to_warn_of() -> None:
    reference = Reference.of("validation", *texts(2000, seed=0, unknown=0.3))
    drift = find_drift(reference, reference.count(*texts(600, seed=1, unknown=0.01)), WORDS)
    assert drift is not None
    assert drift.shifts[UNKNOWN].large
    assert not drift.warnings


def test_too_few_texts_are_not_judged() -> None:
    reference = Reference.of("validation", *texts(2000, seed=0))
    assert find_drift(reference, reference.count(*texts(MIN_TEXTS - 1, seed=1, unknown=0.9)), WORDS) is None
    assert find_drift(reference, reference.count(*texts(MIN_TEXTS, seed=1, unknown=0.9)), WORDS) is not None


def test_statistics_add_up_however_the_texts_are_parted() -> None:
    tokens, unknown, probabilities = texts(1000, seed=2)
    reference = Reference.of("validation", *texts(300, seed=0))
    whole = reference.count(tokens, unknown, probabilities)
    first, second, third = (
        reference.count(tokens[part], unknown[part], probabilities[part])
        for part in (slice(0, 17), slice(17, 17), slice(17, 1000))
    )
    assert (first + second) + third == first + (second + third) == third + first + second == whole
    assert whole + Statistics() == Statistics() + whole == whole
    assert Statistics.from_json(json.loads(json.dumps(whole.to_json()))) == whole


def test_a_specials_spelling_in_a_text_is_an_unknown_word_as_in_the_graph() -> None:
    reference = text_reference(
        "validation", [["a", "<unk>", "<pad>", "b"], ["b"]], ["<unk>", "<pad>", "a"], np.array([[0.1, 0.9], [0.8, 0.2]])
    )
    assert (reference.statistics.tokens, reference.statistics.unknown) == (5, 4)
    assert reference.statistics.histograms[LABELS] == [1, 1]


@dataclass(frozen=True)
class Trained:
    """A small model, its bundle, and the texts of its validation part."""

    snapshot: Snapshot
    bundle: Path
    validation: list[str]


@pytest.fixture(scope="module")
def trained_tiny(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("drift")
    corpus = load_corpus(Source(str(tiny.write_reviews(folder / "reviews.csv", 1500))), tiny.TINY, 0)
    fit(corpus, tiny.TINY, tiny.settings(epochs=1), folder / "snapshot")
    snapshot = load_snapshot(folder / "snapshot")
    export_snapshot(snapshot, folder / "bundle", ["onnx-cpu"])
    return Trained(snapshot, folder / "bundle", [" ".join(example.text) for example in corpus.validation])


def write_texts(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("text\n" + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def korean_texts(path: Path, count: int) -> Path:
    write_reviews(path, count, held_out=False)
    return path


def score(bundle: Path, source: Path, **others: Any) -> Summary:
    with Scorer(bundle, "cpu") as scorer:
        return score_file(scorer, str(source), str(source.with_suffix(".scored.csv")), Options(**others))


def test_training_writes_down_what_its_validation_text_is_like(trained_tiny: Trained) -> None:
    snapshot, validation = trained_tiny.snapshot, trained_tiny.validation
    reference = Reference.from_json(snapshot.training["reference"], classes=2)
    assert reference.part == "validation"
    assert reference.statistics.texts == len(validation) == snapshot.training["reviews"]["validation"]
    assert reference.statistics.tokens == sum(len(text.split()) for text in validation)
    answers = softmax(snapshot.reference()(validation))
    assert reference.statistics.histograms[LABELS] == np.bincount(answers.argmax(axis=1), minlength=2).tolist()
    edge = reference.edges[CONFIDENCE][4]
    below = int((answers.max(axis=1) <= (edge + 0.5) / RESOLUTION).sum())
    assert sum(reference.statistics.histograms[CONFIDENCE][:5]) == pytest.approx(below, abs=2)
    metrics = json.loads((trained_tiny.bundle.parent / "snapshot" / "metrics.json").read_text())
    assert metrics["reference"] == snapshot.training["reference"]


def test_the_text_it_was_measured_on_is_at_distance_zero(trained_tiny: Trained, tmp_path: Path) -> None:
    summary = score(trained_tiny.bundle, write_texts(tmp_path / "in.csv", trained_tiny.validation))
    assert summary.drift is not None
    assert summary.drift.texts == summary.drift.reference_texts == len(trained_tiny.validation)
    for name in (TOKENS, UNKNOWN, LABELS):
        assert summary.drift.shifts[name].index == 0.0
    assert summary.drift.shifts[CONFIDENCE].index < 0.01  # a text at an edge may fall to either side of it
    assert not summary.drift.warnings


def test_a_file_in_another_language_is_called_out_in_the_summary(trained_tiny: Trained, tmp_path: Path) -> None:
    korean_texts(tmp_path / "in.csv", 200)
    result = score_command("in.csv", "--bundle", trained_tiny.bundle, "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (summary,) = json.loads(result.stdout)
    drift = summary["drift"]
    assert drift["texts"] == 200
    assert drift["unknown_rate"] > 0.9 > drift["reference_unknown_rate"] + 0.8
    assert drift["shifts"]["unknown"]["index"] > 1
    rate = f"{100 * drift['unknown_rate']:.1f} %"
    assert drift["warnings"][0].startswith(
        f"{rate} of the words are unknown to this model; in the model's validation text"
    )
    messages = " ".join(result.stderr.split())
    for warning in drift["warnings"]:
        assert f"warning: {warning}" in messages


@pytest.mark.parametrize("windows", [1, 4])
def test_a_resumed_run_sees_the_same_drift(
    trained_tiny: Trained, tmp_path: Path, windows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolchain.scoring.job, "WINDOW_ROWS", 32)
    source = korean_texts(tmp_path / "in.csv", 200)
    undisturbed = score(trained_tiny.bundle, source)
    with Scorer(trained_tiny.bundle, "cpu") as scorer:
        output = str(tmp_path / "out.csv")
        stop_after(32 * windows, scorer, source, output)
        resumed = score_file(scorer, str(source), output, Options())
    assert resumed.resumed == 32 * windows
    assert resumed.drift == undisturbed.drift
    assert resumed.drift is not None


def test_a_journal_from_before_there_were_statistics_is_taken_over(
    trained_tiny: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolchain.scoring.job, "WINDOW_ROWS", 64)
    source, output = korean_texts(tmp_path / "in.csv", 200), tmp_path / "out.csv"
    with Scorer(trained_tiny.bundle, "cpu") as scorer:
        stop_after(64, scorer, source, output)
        journal = output.with_name("out.csv.parts") / JOURNAL
        job, *entries = [json.loads(line) for line in journal.read_bytes().splitlines()]
        older = [{name: value for name, value in entry.items() if name != "statistics"} for entry in entries]
        journal.write_text("".join(json.dumps(line) + "\n" for line in [job, *older]))
        summary = score_file(scorer, str(source), str(output), Options())
    assert (summary.rows, summary.resumed) == (200, 64)
    assert summary.drift is not None
    assert summary.drift.texts == 200 - 64


def test_rows_to_standard_output_are_compared_as_well(trained_tiny: Trained, tmp_path: Path) -> None:
    korean_texts(tmp_path / "in.csv", 150)
    result = score_command("in.csv", "-o", "-", "--bundle", trained_tiny.bundle, cwd=tmp_path)
    assert "of the words are unknown to this model" in result.stderr
    assert len(result.stdout.splitlines()) == 151


def test_a_snapshot_without_statistics_makes_a_bundle_that_says_nothing(trained_tiny: Trained, tmp_path: Path) -> None:
    training = {name: value for name, value in trained_tiny.snapshot.training.items() if name != "reference"}
    export_snapshot(replace(trained_tiny.snapshot, training=training), tmp_path / "bundle", ["onnx-cpu"])
    assert "reference text" not in (tmp_path / "bundle" / "README.md").read_text(encoding="utf-8")
    assert bundle_reference(open_bundle(tmp_path / "bundle")) is None
    assert score(tmp_path / "bundle", korean_texts(tmp_path / "in.csv", 150)).drift is None


def test_the_bundle_shows_its_reference(trained_tiny: Trained) -> None:
    opened = open_bundle(trained_tiny.bundle)
    assert "reference" not in opened.manifest["training"]
    reference = bundle_reference(opened)
    assert reference is not None
    line = describe(reference, opened.specification)
    validation = trained_tiny.validation
    mean = sum(len(text.split()) for text in validation) / len(validation)
    assert line.startswith(
        f"{len(validation)} validation texts of {mean:.0f} words in the mean, 0.0 % of them unknown;"
    )
    assert line in (trained_tiny.bundle / "README.md").read_text(encoding="utf-8")
    shown = CliRunner().invoke(app, ["inspect", str(trained_tiny.bundle)])
    assert shown.exit_code == 0, shown.output
    assert line in " ".join(shown.stdout.replace("│", " ").split())  # however wide the table is


def test_a_shrunk_bundle_does_not_pretend_to_know_its_unknown_words(trained_tiny: Trained, tmp_path: Path) -> None:
    texts = [*trained_tiny.validation[:20]]
    export_snapshot(trained_tiny.snapshot, tmp_path / "bundle", ["onnx-cpu"], texts, force=True, entries=12)
    reference = bundle_reference(open_bundle(tmp_path / "bundle"))
    assert reference is not None
    assert UNKNOWN not in reference.edges
    assert "unknown" not in describe(reference, WORDS)
    summary = score(tmp_path / "bundle", korean_texts(tmp_path / "in.csv", 150))
    assert summary.drift is not None
    assert summary.drift.reference_unknown_rate is None
    assert summary.drift.unknown_rate > 0.9
    assert set(summary.drift.shifts) == {TOKENS, CONFIDENCE, LABELS}
    assert not any("unknown" in line for line in summary.drift.warnings)


@pytest.mark.parametrize(
    "damage",
    [
        "nothing",
        {"part": "validation"},
        {"edges": {"tokens": [1], "confidence": ["high"]}},
        {"edges": {"tokens": [1, 2], "confidence": [3]}},
        {"edges": {"tokens": [1], "confidence": [3], "letters": [4]}},
        {"statistics": {"tokens": 10**30, "unknown": 0, "histograms": {}}},
    ],
)
def test_a_damaged_reference_is_an_error_of_one_line(trained_tiny: Trained, tmp_path: Path, damage: Any) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(trained_tiny.bundle, folder)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["reference"] = {**manifest["reference"], **damage} if isinstance(damage, dict) else damage
    if damage == {"part": "validation"}:
        del manifest["reference"]["statistics"]
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(InvalidBundle, match=r"manifest\.json: damaged reference statistics .* export the bundle anew"):
        bundle_reference(open_bundle(folder))
