"""A vocabulary as text, as a JSON list and as a JSON object; what is none gets one short line that says how."""

import io
import json
import pickle
from pathlib import Path

import pytest
import torch

from toolchain.errors import UsageError
from toolchain.models.vocabularies import read_vocabulary

WORDS = ["<unk>", "<pad>", "the", "na\u00efve", "a\u0085b", "[x]", "\ud55c\uad6d"]


def refusal(file: Path, data: bytes) -> str:
    file.write_bytes(data)
    with pytest.raises(UsageError) as refused:
        read_vocabulary(file)
    line = str(refused.value)
    assert line.startswith(f"{file}: ")
    assert "\n" not in line
    assert len(line) < 500 + len(str(file))
    return line


@pytest.mark.parametrize(
    "data",
    [
        "\n".join(WORDS) + "\n",
        "\n".join(WORDS),
        "\ufeff" + "\r\n".join(WORDS) + "\r\n",
        json.dumps(WORDS),
        json.dumps(WORDS, ensure_ascii=False, indent=1),
        json.dumps({word: index for index, word in enumerate(WORDS)}),
        json.dumps({word: WORDS.index(word) for word in sorted(WORDS)}),
    ],
    ids=["lines", "without the last end", "Windows", "list", "indented", "object", "object in another order"],
)
def test_every_way_to_write_it_gives_the_words_by_id(data: str, tmp_path: Path) -> None:
    file = tmp_path / "vocab"
    file.write_bytes(data.encode())
    assert read_vocabulary(file) == WORDS


def test_json_holds_words_with_line_feeds_and_the_text_says_so(tmp_path: Path) -> None:
    words = ["<unk>", "<pad>", "\n", "a\nb", ""]
    (tmp_path / "vocab.json").write_text(json.dumps(words), encoding="utf-8")
    assert read_vocabulary(tmp_path / "vocab.json") == words
    said = refusal(tmp_path / "vocab.txt", "\n".join(words).encode())
    assert "lines 3 and 4 both hold ''" in said
    assert "A word that holds a line feed needs JSON" in said


@pytest.mark.parametrize("words", [{"<unk>": 0, "<pad>": 1}, ["<unk>"]], ids=["a dictionary", "a list"])
def test_a_pickle_is_never_read_and_says_how_to_write_the_file(words: object, tmp_path: Path) -> None:
    saved = io.BytesIO()
    torch.save(words, saved)
    for data in (pickle.dumps(words), saved.getvalue()):
        said = refusal(tmp_path / "vocab.pt", data)
        assert "a pickle or what torch.save wrote, and reading that could run code" in said
        assert 'json.dump(TEXT.vocab.itos, open("vocab.json", "w"))' in said


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (json.dumps([f"word {n}" for n in range(50_000)]), "expected <unk> and <pad> first"),
        (json.dumps(["x" * 900_000, "y"]), "xxx …"),
        (" ".join(WORDS * 9_999), "expected <unk> and <pad> first"),
        ('["<unk>", "<pad>"', "not valid JSON"),
        ('["<unk>", "<pad>", 7]', "holds 7 in place of a word"),
        ('{"<unk>": 0, "<pad>": 1, "a": 1}', "gives '<pad>' and 'a' the same id 1"),
        ('{"<unk>": 0, "<pad>": 1, "a": 3}', "gives 'a' the id 3; expected every whole number from 0 to 2 once"),
        ('{"<unk>": 0, "<pad>": 1, "a": "2"}', "gives 'a' the id '2'"),
        ('["<unk>", "<pad>", "a", "a"]', "entries 3 and 4 both hold 'a'"),
    ],
)
def test_what_is_no_vocabulary_is_refused_in_one_short_line(data: str, said: str, tmp_path: Path) -> None:
    assert said in refusal(tmp_path / "vocab", data.encode())


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file or directory; expected the vocabulary"):
        read_vocabulary(tmp_path / "none.txt")
