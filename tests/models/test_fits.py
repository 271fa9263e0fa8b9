"""What a sample tells of an import: unknown tokens under each tokenizer, the one that fits, accuracy, nonlinearity."""

import csv
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from export.text import TOKENIZERS
from tests.models.test_checkpoints import RecurrentNotebook
from toolchain.cli.app import app
from toolchain.models.importing import Fit, accuracy_by_nonlinearity, best_fit, import_state_dict, measure_fits
from toolchain.models.snapshot import Snapshot

FILLERS = ("the", "film", "was", "a", "story", "of", "people", "it's", "and", "they", "don't", "know", "so", "here")
SIGNS = {"neg": ("dull", "awful", "weak"), "pos": ("fine", "lovely", "superb")}
Cut = Callable[[str], list[str]]


def review(label: str, generator: random.Random) -> str:
    """Sentences as people write them: capitals, marks at the words, an apostrophe."""
    words = generator.choices(FILLERS, k=12) + generator.choices(SIGNS[label], k=4)
    generator.shuffle(words)
    marked = [word + generator.choices(["", ",", ".", "!", "..."], weights=[6, 2, 2, 1, 1])[0] for word in words]
    return " ".join(marked).capitalize()


def basic_english(text: str) -> list[str]:
    """The marks that torchtext's `basic_english` sets apart, and those that it drops."""
    text = text.lower()
    for mark in ("'", ".", ",", "(", ")", "!", "?"):
        text = text.replace(mark, f" {mark} ")
    return text.replace(";", " ").replace(":", " ").split()


def pieces(text: str) -> list[str]:
    """What a morphological analyser does: words cut into stems and endings."""
    return [piece for word in text.lower().split() for piece in (f"{word[:2]}|", f"|{word[2:]}") if len(piece) > 1]


class Notebook:
    """A sample of labelled reviews, and a model that counts signs, over the vocabulary that `cut` gives."""

    def __init__(self, folder: Path, cut: Cut) -> None:
        generator = random.Random(0)
        self.labels = [("neg", "pos")[number % 2] for number in range(300)]
        self.texts = [review(label, generator) for label in self.labels]
        counts = Counter(token for text in self.texts for token in cut(text))
        self.words = ["<unk>", "<pad>", *(word for word, _ in counts.most_common())]
        self.state, self.vocab, self.sample = folder / "model.pt", folder / "vocab.txt", folder / "sample.csv"
        self.vocab.write_text("\n".join(self.words) + "\n", encoding="utf-8")
        with self.sample.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *zip(self.texts, self.labels, strict=True)])
        self.save("tanh")

    def save(self, nonlinearity: str) -> None:
        """h = f(h + sign of the word), of which the output is the label."""
        model = RecurrentNotebook("rnn", nn.RNN(1, 2, batch_first=True, nonlinearity=nonlinearity))
        with torch.no_grad():
            model.embed = nn.Embedding(len(self.words), 1)
            signs = [self._sign(word) for word in self.words]
            model.embed.weight.copy_(torch.tensor(signs).unsqueeze(1))
            model.rnn.weight_ih_l0.copy_(torch.tensor([[0.1], [-0.1]]))  # type: ignore[operator, union-attr]
            model.rnn.weight_hh_l0.copy_(torch.eye(2))  # type: ignore[operator, union-attr]
            for name in ("bias_ih_l0", "bias_hh_l0"):
                getattr(model.rnn, name).zero_()
            model.out.weight.copy_(torch.tensor([[-4.0, 4.0], [4.0, -4.0]]))
            model.out.bias.zero_()
        torch.save(model.state_dict(), self.state)

    def _sign(self, word: str) -> float:
        signs = {"neg": -1.0, "pos": 1.0}
        return next((signs[label] for label, words in SIGNS.items() if word.strip(".,!") in words), 0.0)

    def imported(self, tokenizer: str = "attached", labels: Sequence[str] = ("neg", "pos")) -> Snapshot:
        return import_state_dict(self.state, self.vocab, labels, TOKENIZERS[tokenizer]).snapshot  # type: ignore[index]


@pytest.mark.parametrize(
    ("cut", "tokenizer"),
    [
        (lambda text: text.lower().split(), "attached"),
        (TOKENIZERS["isolated"].tokenize, "isolated"),
        (TOKENIZERS["dropped"].tokenize, "dropped"),
        (TOKENIZERS["characters"].tokenize, "characters"),
        (basic_english, "isolated"),
    ],
    ids=["str.split", "isolated", "dropped", "characters", "basic_english"],
)
def test_the_tokenizer_that_made_the_vocabulary_is_proposed(cut: Cut, tokenizer: str, tmp_path: Path) -> None:
    notebook = Notebook(tmp_path, cut)
    fits = measure_fits(notebook.imported(), notebook.texts)
    assert best_fit(fits).tokenizer == tokenizer
    assert list(fits) == list(TOKENIZERS)
    assert all(fit.accuracy is None for fit in fits.values())
    if cut is not basic_english:
        assert fits[tokenizer].unknown == pytest.approx(0)


def test_the_figures_are_shares_of_tokens_and_of_the_training_text(tmp_path: Path) -> None:
    notebook = Notebook(tmp_path, str.split)
    notebook.vocab.write_text("<unk>\n<pad>\na\n.\nb.\n", encoding="utf-8")
    state = torch.load(notebook.state, weights_only=True)
    torch.save({**state, "embed.weight": torch.zeros(5, 1)}, notebook.state)
    fits = measure_fits(notebook.imported(), ["a b.", "A c . b"], ["neg", None])
    reached = {"attached": 1, "isolated": 1 + 1 / 2, "dropped": 1, "characters": 1 + 1 / 2}
    assert fits["attached"].unknown == 2 / 6
    assert fits["isolated"].unknown == 3 / 7
    assert fits["dropped"].unknown == 3 / 5
    assert fits["attached"].unreachable == 0
    assert fits["isolated"].unreachable == pytest.approx(1 - reached["isolated"] / (1 + 1 / 2 + 1 / 3))
    assert fits["dropped"].unreachable == pytest.approx(1 - reached["dropped"] / (1 + 1 / 2 + 1 / 3))
    assert all(fit.accuracy in (0, 100) for fit in fits.values())


def test_the_accuracy_is_that_of_the_labels_under_each_tokenizer(tmp_path: Path) -> None:
    notebook = Notebook(tmp_path, TOKENIZERS["isolated"].tokenize)
    fits = measure_fits(notebook.imported(), notebook.texts, notebook.labels)
    assert fits["isolated"].accuracy == 100
    assert fits["attached"] == Fit("attached", fits["attached"].unknown, 0.0, fits["attached"].accuracy)
    assert fits["attached"].unknown > 0.3
    assert (fits["attached"].accuracy or 0) < 100
    foreign = measure_fits(notebook.imported(), notebook.texts, ["other"] * 300)
    assert foreign["isolated"].accuracy is None


def test_the_labels_tell_a_relu_from_a_tanh(tmp_path: Path) -> None:
    notebook = Notebook(tmp_path, lambda text: text.lower().split())
    assert accuracy_by_nonlinearity(notebook.imported(), notebook.texts, [None] * 300) == {}
    measured = accuracy_by_nonlinearity(notebook.imported(), notebook.texts, notebook.labels)
    assert set(measured) == {"tanh", "relu"}
    assert measured["tanh"] == 100


# --- the command -----------------------------------------------------------------------------------------------------

Run = Callable[..., tuple[object, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run `toolchain import` on a notebook in this process -> exit status, stdout, stderr on one line."""

    def run(notebook: Notebook, *arguments: str | Path, labels: str = "neg,pos") -> tuple[object, str, str]:
        files = ["--state-dict", notebook.state, "--vocab", notebook.vocab, "--labels", labels]
        with pytest.raises(SystemExit) as stop:
            app(["import", *map(str, [*files, "--out", tmp_path / "out", *arguments])], prog_name="toolchain")
        said = capsys.readouterr()
        return stop.value.code, said.out, " ".join(said.err.split())

    return run


def test_a_vocabulary_of_other_tokens_is_a_warning_with_the_tokenizer_that_fits(run: Run, tmp_path: Path) -> None:
    notebook = Notebook(tmp_path, basic_english)
    status, stdout, stderr = run(notebook, "--sample", notebook.sample)
    assert status == 0, stderr
    assert "accuracy" in stdout
    assert "<- chosen" in next(line for line in stdout.splitlines() if "attached" in line)
    assert "of the sample's tokens are unknown with --tokenizer attached: the model was trained on tokens" in stderr
    assert "--tokenizer isolated fits the vocabulary best" in stderr
    status, stdout, stderr = run(notebook, "--sample", notebook.sample, "--tokenizer", "isolated", "--json")
    assert status == 0
    assert '"proposed": "isolated"' in stdout
    assert "fits the vocabulary best" not in stderr


def test_a_vocabulary_that_no_tokenizer_gives_says_what_to_do(run: Run, tmp_path: Path) -> None:
    notebook = Notebook(tmp_path, pieces)
    status, _, stderr = run(notebook, "--sample", notebook.sample)
    assert status == 0
    assert "none of the tokenizers gives all words of the vocabulary: where too few are known, cut texts as" in stderr


def test_a_right_import_warns_of_the_nonlinearity_alone(run: Run, tmp_path: Path) -> None:
    notebook = Notebook(tmp_path, lambda text: text.lower().split())
    status, stdout, stderr = run(notebook, "--sample", notebook.sample)
    assert status == 0
    assert "attached     0.0%   accuracy 100.00 %   <- chosen" in stdout
    assert stderr.count("warning:") == 1
    assert (
        "does not tell the nonlinearity of an RNN; tanh is assumed, else add --nonlinearity relu. Accuracy: 100.00 %"
        in (stderr)
    )
    for quiet in (["--nonlinearity", "tanh"], ["--nonlinearity", "relu"]):
        assert "warning:" not in run(notebook, *quiet)[2]
    assert "tanh is assumed, else add --nonlinearity relu" in run(notebook)[2]


def test_labels_in_the_wrong_order_are_below_chance(run: Run, tmp_path: Path) -> None:
    notebook = Notebook(tmp_path, lambda text: text.lower().split())
    stderr = run(notebook, "--sample", notebook.sample, "--nonlinearity", "tanh", labels="pos,neg")[2]
    assert "accuracy 0.00 % is below chance: --labels may be in the wrong order" in stderr


@pytest.mark.parametrize("labels", ["['neg', 'pos']", '["neg", "pos"]', "('neg', 'pos')", "neg , pos", " neg,pos\n"])
def test_labels_as_python_prints_them_and_with_spaces_are_the_same_labels(
    labels: str, run: Run, tmp_path: Path
) -> None:
    notebook = Notebook(tmp_path, str.split)
    status, stdout, stderr = run(notebook, "--nonlinearity", "tanh", "--json", labels=labels)
    assert status == 0, stderr
    assert '"labels": [ "neg", "pos" ]' in " ".join(stdout.split())


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("neg\npos", "--labels neg\\npos: holds a line break; expected names"),
        ("['neg', 'pos'", "not a list that can be read; write it as neg,pos"),
        ("['neg', 1]", "not a list of names; write it as neg,pos"),
        ("['neg', 'p\\nos']", "a name holds a line break; write them on one line, as neg,pos"),
        ("neg,,pos", "a name is empty"),
        ("a,b," + "x" * 5_000, "3 names for the 2 outputs"),
        ("neg,neg", "expected two or more different ones"),
    ],
)
def test_labels_that_cannot_be_are_refused_in_one_short_line(labels: str, said: str, run: Run, tmp_path: Path) -> None:
    status, _, stderr = run(Notebook(tmp_path, str.split), labels=labels)
    assert status == 2
    assert said in stderr
    assert stderr.startswith("error: ")
    assert len(stderr) < 400 + len(str(tmp_path))
    assert not (tmp_path / "out").exists()
