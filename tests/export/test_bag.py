"""The bag of words: every form adds what the formula says, whatever the length of a text and of its batch mates."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from export import parity
from export.bundle import open_bundle
from export.cpu_graph import classify_folded, classify_quantized
from export.explain_graph import classify_running
from export.forms import FORMS
from export.onnx_graph import Classify, classify_standard, text_model
from export.shrinking import shrink
from export.spec import PAIR_FACTOR, InvalidClassifier, Pool, Specification
from export.text import PADDING_ID, Tokenizer, encode, lookup_table
from tests.export.batch_mates import answers_beside
from toolchain.models.classifiers import BagOfWords, PooledGRU, build_model, output_parameters
from toolchain.models.restoring import restore_snapshot
from toolchain.models.snapshot import Snapshot, load_snapshot, save_snapshot
from toolchain.models.token_logits import running_logits
from toolchain.release.model_card import architecture
from toolchain.release.release import export_snapshot

VOCABULARY = ["<unk>", "<pad>", *(f"w{index}" for index in range(100)), "!", ".", "'"]
EXACT = [name for name, form in FORMS.items() if form.logit_ulps is not None]
TEXTS = ["", "w1", "w1 w1", "w1 w2", "w2 w1", "unknown", "w3 unknown! w4.", "w5 w6 w7 " * 30]
"""The last one is cut."""


def snapshot(
    layers: int = 1, pooling: tuple[Pool, ...] = ("last", "max", "mean"), bag: int = 64, labels: str = "abc"
) -> Snapshot:
    """Random weights; those of the bag are large, so that it decides many answers."""
    specification = Specification(
        labels=tuple(labels),
        cell="gru",
        embedding=12,
        hidden=16,
        layers=layers,
        pooling=pooling,
        max_tokens=60,
        tokenizer=Tokenizer(punctuation="isolated"),
        bag=bag,
    )
    torch.manual_seed(0)
    model = build_model("PooledGRU", specification, len(VOCABULARY), dropout=0.5, input_dropout=0.3, word_dropout=0.1)
    assert isinstance(model, PooledGRU)
    if model.bag is not None:
        torch.nn.init.normal_(model.bag.words.weight)
        torch.nn.init.normal_(model.bag.pairs.weight)
    return Snapshot("PooledGRU", specification, VOCABULARY, model.state_dict(), {"recipe": "auto"})


def by_formula(trained: Snapshot, text: str) -> NDArray[np.float64]:
    """The term of the bag as `Specification` words it, [classes]."""
    specification, words, pairs = (
        trained.specification,
        *(trained.state[f"bag.{name}.weight"].double().numpy() for name in ("words", "pairs")),
    )
    ids = encode(specification.tokenizer.tokenize(text), lookup_table(trained.vocabulary))[: specification.max_tokens]
    total = np.zeros(len(specification.labels))
    for before, word in zip([PADDING_ID, *ids], ids, strict=False):
        total += words[word] + pairs[(before * PAIR_FACTOR + word) % specification.bag]
    return total / math.sqrt(max(1, len(ids)))


def test_the_term_is_the_sum_over_words_and_pairs_by_the_root_of_their_number() -> None:
    trained = snapshot()
    terms = trained.reference()(TEXTS) - trained.without_bag().reference()(TEXTS)
    wanted = np.stack([by_formula(trained, text) for text in TEXTS])
    assert terms == pytest.approx(wanted, abs=1e-5)
    assert wanted[0].tolist() == [0, 0, 0]
    assert np.abs(terms[3] - terms[4]).max() > 0.1, "the order of words has a part"


@pytest.mark.parametrize(
    ("layers", "pooling", "bag"), [(1, ("last", "max", "mean"), 64), (2, ("last",), 1), (1, ("mean",), 2**12)]
)
def test_a_snapshot_is_published_in_every_form_and_read_back(
    layers: int, pooling: tuple[Pool, ...], bag: int, tmp_path: Path
) -> None:
    """Verified against PyTorch over the edge cases, the shares of every word included."""
    save_snapshot(snapshot(layers, pooling, bag), tmp_path / "snapshot")
    trained = load_snapshot(tmp_path / "snapshot")
    verification = export_snapshot(trained, tmp_path / "bundle", ["all", "pt2"], TEXTS * 3, precision="int8")
    assert {comparison.form for comparison in verification.comparisons} == set(FORMS)
    for comparison in verification.comparisons:
        assert comparison.passed, comparison.failure()
    bundle = open_bundle(tmp_path / "bundle")
    assert bundle.manifest["specification"]["bag"] == bag
    assert f", + words and {bag:,} rows of word pairs" in (tmp_path / "bundle" / "README.md").read_text()
    assert restore_snapshot(bundle).identity == trained.identity


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("weight", ["bag.words.weight", "bag.pairs.weight"])
def test_one_weight_that_is_off_by_a_thousandth_is_refused(name: str, weight: str, tmp_path: Path) -> None:
    trained = snapshot()
    right = trained.classifier()
    table = right.weights[weight].copy()
    table[2 if weight == "bag.words.weight" else (PADDING_ID * PAIR_FACTOR + 2) % 64, 1] *= 1.001  # w0 has the id 2
    wrong = dataclasses.replace(right, weights={**right.weights, weight: table})
    expected = parity.expect(
        *(trained.answer_tokens(), right.specification, right.vocabulary),
        ["w0", "w1 w2", "w0 w3 w4"],
        None,
        trained.sizes_reference(),
    )
    form = FORMS[name]
    verdicts = []
    for classifier in (right, wrong):
        (tmp_path / form.file).write_bytes(form.build(classifier, {}))
        run = form.open(tmp_path / form.file, classifier.specification, classifier.vocabulary, "cpu")
        verdicts.append(parity.compare(name, "cpu", run, expected, form.tolerance, 0.0, form.logit_ulps).passed)
    assert verdicts == [True, False]


@pytest.mark.parametrize("classify", [classify_standard, classify_folded, classify_quantized, classify_running])
def test_padding_leaves_no_trace_in_the_bag(classify: Classify) -> None:
    """However long its batch mates: the answer of a row is the same, bit for bit."""
    model = text_model(snapshot().classifier(), {}, classify)
    results = answers_beside(model, ["w1 w2.", "", "w3 w4 w5 w6 w7"], ("w8", "w8 " * 20, "w8 " * 90))
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_the_logits_after_every_token_are_those_of_the_text_so_far() -> None:
    trained = snapshot()
    model = trained.build()
    assert isinstance(model, PooledGRU)
    ids = torch.tensor([[5, 0, 7, 7, 30, 2]])
    with torch.inference_mode():
        running = running_logits(model, ids, trained.specification.pooling)[0]
        alone = torch.cat([model(ids, torch.tensor([length])) for length in range(ids.shape[1] + 1)])
    assert running.numpy() == pytest.approx(alone.numpy(), abs=1e-5)


def test_a_word_that_shrinking_cuts_is_unknown_to_the_bag_as_well(tmp_path: Path) -> None:
    full = snapshot().classifier()
    small = shrink(full, 40)
    assert np.array_equal(small.weights["bag.words.weight"], full.weights["bag.words.weight"][:40])
    verification = export_snapshot(snapshot(bag=2**10), tmp_path / "bundle", ["all"], ["w1 w2 w3"] * 3, entries=90)
    for comparison in verification.comparisons:
        assert comparison.passed, comparison.failure()


def test_dividing_the_output_parameters_divides_the_logits() -> None:
    """So a temperature is in the bag as in the last layer."""
    model = snapshot().build()
    assert isinstance(model, PooledGRU)
    ids, lengths = torch.tensor([[5, 0, 7, 7], [3, 4, 1, 1], [1, 1, 1, 1]]), torch.tensor([4, 2, 0])
    with torch.no_grad():
        before = model(ids, lengths)
        for parameter in output_parameters(model):
            parameter.div_(4)
        assert torch.allclose(model(ids, lengths), before / 4)


def test_a_new_bag_adds_nothing_and_can_be_trained() -> None:
    bag = BagOfWords(len(VOCABULARY), 64, 3)
    terms = bag(torch.tensor([[5, 0, 7, 7], [3, 4, 1, 1]]), torch.tensor([4, 2]))
    assert not terms.any()
    torch.nn.functional.cross_entropy(terms, torch.tensor([0, 1])).backward()  # type: ignore[no-untyped-call]
    gradient = bag.words.weight.grad
    assert gradient is not None
    assert gradient.abs().sum(1).nonzero().flatten().tolist() == [0, 3, 4, 5, 7], "padding has no part"


def test_in_training_the_recurrence_answers_alone() -> None:
    model = snapshot().build()
    assert isinstance(model, PooledGRU)
    ids, lengths = torch.tensor([[5, 0, 7, 7]]), torch.tensor([4])
    with torch.no_grad():
        answer, term = model(ids, lengths), model.bag(ids, lengths) if model.bag else 0
        assert torch.allclose(model.train()(ids, lengths) + term, answer, atol=1e-6)


def test_a_specification_without_a_bag_is_what_it_was() -> None:
    with_bag = snapshot().specification
    values = with_bag.to_json()
    assert values["bag"] == 64
    assert Specification.from_json(values) == with_bag
    del values["bag"]
    without = Specification.from_json(values)
    assert without.bag == 0
    assert without.to_json() == values
    assert "word pairs" not in architecture(without)


@pytest.mark.parametrize("bag", [-2, 3, 2**25, 64.0, "64"])
def test_a_bag_that_is_no_power_of_two_is_refused(bag: object) -> None:
    with pytest.raises(InvalidClassifier, match=r"bag is .*, expected 0 or a power of two up to 16,777,216"):
        Specification.from_json({**snapshot().specification.to_json(), "bag": bag})
