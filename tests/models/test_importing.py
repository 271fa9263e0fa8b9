"""The walk-through's own checkpoint: its bare `state_dict` and vocabulary become a snapshot that verifies."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.text import TOKENIZERS
from toolchain.cli.app import app
from toolchain.corpus.reviews import Source, read_texts
from toolchain.errors import UsageError
from toolchain.models.importing import SAMPLE_TEXTS, import_state_dict, measure_deviation
from toolchain.models.snapshot import FILE, Snapshot, load_snapshot, save_snapshot
from toolchain.release.release import export_snapshot
from toolchain.scoring.scorer import Scorer

ATTACHED = TOKENIZERS["attached"]


class NotebookModel(nn.Module):
    """The notebook's class as it stands there: it answers from the last step, padding or not, and drops nothing out."""

    def __init__(self, cell: str, n_layers: int, hidden_dim: int, n_vocab: int, embed_dim: int, n_classes: int) -> None:
        super().__init__()
        self.n_layers = n_layers
        self.hidden_dim = hidden_dim
        self.embed = nn.Embedding(n_vocab, embed_dim)
        self.dropout = nn.Dropout(0.5)
        kind = {"gru": nn.GRU, "rnn": nn.RNN}[cell]
        self.cell = cell
        self.add_module(cell, kind(embed_dim, hidden_dim, num_layers=n_layers, batch_first=True))
        self.out = nn.Linear(hidden_dim, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        h_0 = self._init_state(batch_size=x.size(0))
        x, _ = getattr(self, self.cell)(x, h_0)
        h_t = x[:, -1, :]
        self.dropout(h_t)
        logit: Tensor = self.out(h_t)
        return logit

    def _init_state(self, batch_size: int = 1) -> Tensor:
        weight = next(self.parameters()).data
        return weight.new(self.n_layers, batch_size, self.hidden_dim).zero_()


class Notebook:
    """What is left of a run of the notebook: the model, `TEXT.vocab.itos`, and the two files."""

    def __init__(self, folder: Path, cell: str = "gru", layers: int = 1, classes: int = 2) -> None:
        words = dict.fromkeys(word for text in read_texts(Source("sample")) for word in text.lower().split())
        self.itos = [
            "<unk>",
            "<pad>",
            *list(words)[:300],
            "caf\u00e9",
            "\u00c9t\u00e9",
            "a\u0085b",
            "c\u2028d",
            "e\u00a0f",
        ]
        torch.manual_seed(0)
        self.model = NotebookModel(cell, layers, 24, len(self.itos), 16, classes).eval()
        with torch.no_grad():
            self.model.out.weight.mul_(4)
        self.state_dict = folder / "txtclassification.pt"
        self.vocab = folder / "vocab.txt"
        torch.save(self.model.state_dict(), self.state_dict)
        self.write_vocab()

    def write_vocab(self) -> None:
        """As the README's line does."""
        with open(self.vocab, "wb") as file:
            file.write("\n".join(self.itos).encode() + b"\n")

    def probabilities(self, texts: list[str]) -> np.ndarray:
        """Batches of 64, padded to their longest, `<pad>` steps and all."""
        stoi = {word: index for index, word in enumerate(self.itos)}
        answers = []
        for start in range(0, len(texts), 64):
            rows = [[stoi.get(word, 0) for word in text.lower().split()] for text in texts[start : start + 64]]
            width = max(len(row) for row in rows)
            with torch.no_grad():
                logits = self.model(torch.tensor([row + [1] * (width - len(row)) for row in rows]))
            answers.append(logits.softmax(dim=1).numpy())
        return np.concatenate(answers)


Run = Callable[..., tuple[object, str, str]]


@pytest.fixture
def notebook(tmp_path: Path) -> Notebook:
    return Notebook(tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `toolchain import` in this process -> exit status, stdout, stderr."""

    def run(*arguments: str | Path) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as stop:
            app(["import", *map(str, arguments)], prog_name="toolchain")
        return stop.value.code, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("cell", "layers", "labels"), [("gru", 1, "neg pos"), ("gru", 2, "a b c"), ("rnn", 1, "no yes")]
)
def test_what_the_notebook_saved_exports_and_verifies(tmp_path: Path, cell: str, layers: int, labels: str) -> None:
    notebook = Notebook(tmp_path, cell, layers, len(labels.split()))
    imported = import_state_dict(notebook.state_dict, notebook.vocab, labels.split(), ATTACHED)
    specification = imported.snapshot.specification
    assert (specification.cell, specification.layers, specification.embedding, specification.hidden) == (
        *(cell, layers, 16, 24),
    )
    save_snapshot(imported.snapshot, tmp_path / "snapshot")
    texts = read_texts(Source("sample"))[:50]
    verification = export_snapshot(load_snapshot(tmp_path / "snapshot"), tmp_path / "bundle", ["onnx"], texts)
    assert verification.passed
    with Scorer(tmp_path / "bundle") as scorer:
        predictions = scorer.score(texts)
    for text, prediction in zip(texts, predictions, strict=True):  # alone, a text has no padding
        assert prediction.probabilities == pytest.approx(notebook.probabilities([text])[0], abs=1e-5)
    assert {prediction.label for prediction in predictions} <= set(labels.split())


def test_every_word_keeps_its_id_whatever_it_is_made_of(notebook: Notebook) -> None:
    imported = import_state_dict(notebook.state_dict, notebook.vocab, ["neg", "pos"], ATTACHED)
    assert imported.snapshot.vocabulary == notebook.itos
    assert imported.unreachable == []
    notebook.vocab.write_bytes(b"\xef\xbb\xbf" + notebook.vocab.read_bytes().replace(b"\n", b"\r\n"))
    windows = import_state_dict(notebook.state_dict, notebook.vocab, ["neg", "pos"], ATTACHED)
    assert windows.snapshot.vocabulary == notebook.itos


def test_words_that_no_text_can_produce_keep_their_rows(notebook: Notebook, tmp_path: Path) -> None:
    notebook.itos[5:8] = ["Upper", "two words", "\ttab"]
    notebook.write_vocab()
    imported = import_state_dict(notebook.state_dict, notebook.vocab, ["neg", "pos"], ATTACHED)
    assert imported.unreachable == ["Upper", "two words", "\ttab"]
    vocabulary = imported.snapshot.vocabulary
    assert vocabulary[:6] == notebook.itos[:6]
    assert vocabulary[8:] == notebook.itos[8:]
    tokens = set(ATTACHED.tokenize("Upper two words \ttab " + " ".join(vocabulary)))
    assert not tokens & set(vocabulary[5:8])
    assert export_snapshot(imported.snapshot, tmp_path / "bundle", ["onnx"]).passed


def test_the_deviation_is_that_of_the_notebook_itself(notebook: Notebook) -> None:
    texts = [*read_texts(Source("sample"))[:150], "CAF\u00c9 society", "a\u00a0dull film", "word " * 1500]
    snapshot = import_state_dict(notebook.state_dict, notebook.vocab, ["neg", "pos"], ATTACHED).snapshot
    deviation = measure_deviation(snapshot, texts)
    ours = torch.tensor(snapshot.reference()(texts)).softmax(dim=1).numpy()
    theirs = notebook.probabilities(texts)
    change = np.abs(ours - theirs).max(axis=1)
    assert deviation.texts == 153
    assert deviation.tokenized_differently == 2
    assert deviation.mean_change == pytest.approx(change.mean(), abs=1e-6)
    assert deviation.max_change == pytest.approx(change.max(), abs=1e-6)
    assert deviation.labels_changed == (ours.argmax(axis=1) != theirs.argmax(axis=1)).sum()
    assert deviation.max_change > 0.01


def test_without_padding_and_beyond_ascii_nothing_deviates(notebook: Notebook) -> None:
    snapshot = import_state_dict(notebook.state_dict, notebook.vocab, ["neg", "pos"], ATTACHED).snapshot
    deviation = measure_deviation(snapshot, ["a dull film", "Two FINE words"] * SAMPLE_TEXTS)
    assert deviation.texts == SAMPLE_TEXTS
    assert (deviation.tokenized_differently, deviation.labels_changed) == (0, 0)
    assert deviation.max_change < 1e-6
    with pytest.raises(UsageError, match="no text"):
        measure_deviation(snapshot, [])


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_imports_measures_and_says_what_is_next(run: Run, notebook: Notebook, tmp_path: Path) -> None:
    notebook.itos[5] = "[Upper]"
    notebook.write_vocab()
    out = tmp_path / "imported"
    reviews = tmp_path / "reviews.csv"
    reviews.write_text("words\na dull film\nCAF\u00c9 society\n", encoding="utf-8")
    files = ("--state-dict", notebook.state_dict, "--vocab", notebook.vocab, "--labels", "neg,pos", "--out", out)
    status, stdout, stderr = run(*files, "--sample", reviews, "--text-column", "words")
    assert status == 0, stderr
    assert stdout.startswith("2 texts; tokens that the vocabulary lacks, by tokenizer:\n  attached ")
    assert "of batches of 64, as the documented one does: 1 texts cut into other tokens, " in stdout
    assert "words that cannot occur with --tokenizer attached: 1, such as '[Upper]'" in stderr
    assert f"toolchain export --snapshot {out}" in stderr
    assert load_snapshot(out).specification.labels == ("neg", "pos")


def test_the_help_says_how_to_read_the_labels_off(run: Run) -> None:
    status, stdout, _ = run("--help")
    assert status == 0
    words = " ".join(stdout.replace("│", " ").split())
    assert "LABEL.vocab.itos[1:]" in words
    assert "toolchain import --state-dict model.pt --vocab vocab.txt --labels neg,pos" in words
    assert "--nonlinearity" in words


def test_the_notebook_s_own_file_is_not_overwritten(run: Run, notebook: Notebook, tmp_path: Path) -> None:
    before = notebook.state_dict.read_bytes()
    assert notebook.state_dict.name == FILE
    status, _, stderr = run(
        *("--state-dict", notebook.state_dict, "--vocab", notebook.vocab, "--labels", "neg,pos", "--out", tmp_path)
    )
    assert status == 2
    assert f"would overwrite {notebook.state_dict}; name another folder" in stderr
    assert notebook.state_dict.read_bytes() == before


# --- what does not fit -----------------------------------------------------------------------------------------------


def refusal(notebook: Notebook, labels: tuple[str, ...] = ("neg", "pos")) -> str:
    """The one line with which an import is refused."""
    with pytest.raises(UsageError) as refused:
        import_state_dict(notebook.state_dict, notebook.vocab, labels, ATTACHED)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("labels", [("neg",), ("neg", "pos", "meh"), ("neg", "")])
def test_labels_that_are_not_those_of_the_outputs(notebook: Notebook, labels: tuple[str, ...]) -> None:
    line = refusal(notebook, labels)
    assert "the 2 outputs" in line
    assert "LABEL.vocab.itos[1:]" in line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda itos: "\n".join(itos[:-1]) + "\n", ["for the", "rows of embed in", "TEXT.vocab.itos"]),
        (lambda itos: "\n".join([*itos[:9], itos[8], *itos[10:]]) + "\n", ["lines 9 and 10 both hold"]),
        (lambda itos: "\n".join(itos[2:]) + "\n", ["expected <unk> and <pad>"]),
        (lambda itos: "", ["expected <unk> and <pad>"]),
        (lambda itos: "\n".join(itos).encode("latin-1", "replace"), ["not UTF-8", 'encoding="utf-8"']),
    ],
    ids=["a line short", "a word twice", "no specials", "empty", "Latin-1"],
)
def test_a_vocabulary_that_is_not_the_model_s(
    notebook: Notebook, content: Callable[[list[str]], str | bytes], said: list[str]
) -> None:
    data = content(notebook.itos)
    notebook.vocab.write_bytes(data if isinstance(data, bytes) else data.encode())
    line = refusal(notebook)
    assert all(part in line for part in [str(notebook.vocab), *said]), line


def changed(notebook: Notebook, **tensors: Tensor | None) -> str:
    """The refusal of the notebook's state_dict with these tensors (dots written __), None to leave one out."""
    state = notebook.model.state_dict()
    for name, tensor in tensors.items():
        name = name.replace("__", ".")
        if tensor is None:
            del state[name]
        else:
            state[name] = tensor
    torch.save(state, notebook.state_dict)
    return refusal(notebook)


def test_tensors_that_are_not_the_documented_model_s(notebook: Notebook) -> None:
    assert "out.weight has shape [2, 48], expected [2, 24]" in changed(notebook, out__weight=torch.ones(2, 48))
    assert "gru lacks bias_ih_l0" in changed(notebook, gru__bias_ih_l0=None)
    assert "also holds fc.weight" in changed(notebook, fc__weight=torch.ones(2, 2))
    backward = changed(notebook, gru__weight_hh_l0_reverse=torch.ones(72, 24))
    assert "gru.weight_hh_l0_reverse belongs to a bidirectional layer, which cannot be imported" in backward
    assert "no matrix of an Embedding, [words, 16], as gru.weight_ih_l0 reads" in changed(notebook, embed__weight=None)
    assert "also holds out.bias, out.weight" in changed(notebook, out__weight=torch.ones(2))
    assert "no matrix weight_hh of a recurrent layer" in changed(notebook, gru__weight_hh_l0=torch.ones(()))
    assert "holds 2 recurrent layers, gru, rnn" in changed(notebook, rnn__weight_hh_l0=torch.ones(24, 24))
    assert "neither a GRU nor an RNN" in changed(notebook, gru__weight_hh_l0=torch.ones(48, 24))
    assert "gru.weight_ih_l0 has shape [24, 16], expected [72, 16]" in changed(
        notebook, gru__weight_ih_l0=torch.ones(24, 16)
    )
    assert "not finite" in changed(notebook, out__bias=torch.tensor([0.0, float("nan")]))


def test_files_that_are_no_state_dict(notebook: Notebook, snapshot: Snapshot, tmp_path: Path) -> None:
    file = notebook.state_dict
    whole = file.read_bytes()
    for damaged in (
        b"",
        b"text\n",
        bytes(500),
        whole[:-999],
        whole[: len(whole) // 2],
        b"\x80\x02]q\x00.",
        b"\x80\x02c",
    ):
        file.write_bytes(damaged)
        assert "torch.save(model.state_dict(), FILE)" in refusal(notebook)
    torch.save(notebook.model, file)  # the whole model: reading it would run code
    assert "holds more than tensors (tests.models.test_importing.NotebookModel)" in refusal(notebook)
    torch.save({}, file)
    assert "not a state_dict of a recurrent model (it is empty)" in refusal(notebook)
    torch.save(nn.Linear(2, 2).state_dict(), file)
    assert "not a state_dict of a recurrent model (it holds weight, bias)" in refusal(notebook)
    torch.save([1, 2], file)
    assert "not a state_dict of a recurrent model (it is a list)" in refusal(notebook)
    torch.save(nn.LSTM(4, 4).state_dict(), file)
    assert "weight_hh_l0, [16, 4], belongs to an LSTM, which cannot be imported" in refusal(notebook)
    save_snapshot(snapshot, tmp_path)
    assert "already a snapshot; export it" in refusal(notebook)
    file.unlink()
    assert "no such file" in refusal(notebook)


def test_half_precision_is_read(notebook: Notebook) -> None:
    state = {name: tensor.half() for name, tensor in notebook.model.state_dict().items()}
    torch.save(state, notebook.state_dict)
    imported = import_state_dict(notebook.state_dict, notebook.vocab, ["neg", "pos"], ATTACHED)
    assert all(tensor.dtype == torch.float32 for tensor in imported.snapshot.state.values())
