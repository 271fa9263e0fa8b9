"""One definition of text: Python, TorchScript and ONNX cut every string without U+0000 into the same tokens."""

import dataclasses
import io
import json
import sys
from typing import get_args

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from export.cases import edge_cases
from export.onnx_graph import IR_VERSION, OPSETS, GraphBuilder, tokenize
from export.spec import Classifier, Specification
from export.text import MARKS, SPACES, TOKENIZERS, Tokenizer, TokenizerName, clean, encode, lookup_table
from export.torchscript import torchscript_bytes

TRAPS = {
    "U+0085 next line": "a\u0085b \u0085 c",
    "U+00A0 no-break space": "a\u00a0b \u00a0 c",
    "U+2003 em space": "a\u2003b",
    "U+2028 line separator": "a\u2028b",
    "U+001C file separator": "a\x1cb \x1c",
    "vertical tab and form feed": "a\x0bb\x0cc",
    "lone carriage return": "a\rb\r\r\nc\r",
    "accented capital": "É É",
    "dotted capital i": "İSTANBUL ıI",
    "emoji": "so good 😀👍🏽 👨‍👩‍👧",
    "byte order mark": "\ufeffa\ufeff",
    "empty": "",
    "white space only": " \t\n\v\f\r",
    "no-break space only": "\u00a0",
    "apostrophes": "don't 'tis dogs' ''a'' a''b a'b'c ' '",
    "line breaks": "a<br />b<br/>c<BR />d<br>< br /><br  /><<br />>",
    "every mark": MARKS + MARKS[::-1],
    "specials spelled out": "<pad> <unk> <PAD>",
    "delete and controls": "a\x7fb\x01c\x1f",
    "first and last of every UTF-8 width": "\x01\x7f\x80\u07ff\u0800\uffff\U00010000\U0010ffff",
    "beside the surrogates": "\ud7ff\ue000 \ufffd",
    "noncharacters": "\ufdd0\ufdef\ufffe\uffff\U0001fffe\U0010ffff",
    "Hangul syllables and jamo": "영화가 \u1112\u1161\u11ab글 \u3131\uffa1 좋다!",
    "Chinese and Japanese": "这部电影很好看。\u3000この映画は、すごく「面白い」です!",
    "ideographs beyond the basic plane": "\U00020bb7野家 \U0002a6d6\U00030000",
    "combining marks": "e\u0301 \u0301 a\u0323\u0302 \u304b\u3099",
    "variation selectors": "\u845b\U000e0100 \u2764\ufe0f",
}

# Mostly what breaks tokenizers, and all of Unicode besides; U+0000 and lone surrogates are no text.
_any_character = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
_trap = st.sampled_from(
    ["<br />", "<br", " />", "'", "''", "a'b", "É", "İ", *SPACES, *MARKS, *"aZ\x85\xa0\u2003\x1c\x7f"]
)
_asian = st.sampled_from(["영화", "\u1112\u1161\u11ab", "電影", "すごい", *"가。、\u3000\u3099\u0301\ufffd\U00020bb7"])
_word = st.sampled_from(["word", "Don't", "IT"])
texts = st.lists(st.one_of(_any_character, _trap, _asian, _word), max_size=40).map("".join)


class Renderings:
    """The three renderings of one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        graph = GraphBuilder()
        tokenize(graph, tokenizer)
        proto = helper.make_graph(
            graph.nodes,
            "tokenizer",
            [helper.make_tensor_value_info("text", TensorProto.STRING, ["N"])],
            [helper.make_tensor_value_info("all_words", TensorProto.STRING, ["N", "T"])],
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
        model: onnx.ModelProto = helper.make_model(proto, ir_version=IR_VERSION, opset_imports=opsets)
        self.session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        specification = Specification(labels=("a", "b"), cell="gru", embedding=1, hidden=1, tokenizer=tokenizer)
        weights = {name: np.zeros(shape, np.float32) for name, shape in specification.weight_shapes(2).items()}
        module = torchscript_bytes(Classifier(specification, ["<unk>", "<pad>"], weights), {})
        self.module = torch.jit.load(io.BytesIO(module))  # type: ignore[no-untyped-call]

    def check(self, text: str) -> None:
        """Token by token, alone and beside a longer text."""
        expected = self.check_alone(text)
        (batch,) = self.session.run(None, {"text": np.array(["x " * (len(text) + 1), text], dtype=object)})
        assert [token for token in batch[1].tolist() if token] == expected

    def check_alone(self, text: str) -> list[str]:
        expected = self.tokenizer.tokenize(text)
        assert self.module.tokenize(text) == expected
        (alone,) = self.session.run(None, {"text": np.array([text], dtype=object)})
        assert alone[0].tolist() == expected
        assert self.tokenizer.count([text, "'", text])[::2] == [len(expected)] * 2
        return expected


RENDERINGS = [
    Renderings(dataclasses.replace(tokenizer, lowercase=lowercase))
    for tokenizer in TOKENIZERS.values()
    for lowercase in (True, False)
]


@pytest.mark.parametrize("trap", TRAPS.values(), ids=TRAPS.keys())
def test_the_known_traps_are_cut_alike(trap: str) -> None:
    for renderings in RENDERINGS:
        renderings.check(trap)


def test_the_edge_cases_of_the_proof_are_cut_alike() -> None:
    for renderings in RENDERINGS:
        for text in edge_cases(["<unk>", "<pad>", "good", "bad", "don't"], max_tokens=50):
            renderings.check(text)


@settings(max_examples=500)
@given(texts)
def test_any_text_is_cut_alike(text: str) -> None:
    for renderings in RENDERINGS:
        renderings.check(text)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_tokens_of_more_texts_than_are_counted_at_once_are_counted_text_by_text(name: TokenizerName) -> None:
    texts = ["", *TRAPS.values(), "don't<br />' 영화 " * 9000, "", *TRAPS.values(), "x" * 300_000, "'", ""]
    assert TOKENIZERS[name].count(texts) == [len(TOKENIZERS[name].tokenize(text)) for text in texts]
    assert TOKENIZERS[name].count([]) == []


def test_all_of_unicode_is_cut_alike_into_characters() -> None:
    """The first two planes whole, the other fifteen in steps; in one long text, as a language without spaces has it."""
    codes = [*range(1, 0xD800), *range(0xE000, 0x20000), *range(0x20000, sys.maxunicode + 1, 97)]
    points = [chr(code) for code in codes]
    renderings = Renderings(Tokenizer(lowercase=False, unit="characters"))
    assert renderings.check_alone("".join(points)) == [point for point in points if point not in SPACES]


@pytest.mark.parametrize(
    ("name", "text", "tokens"),
    [
        ("attached", "It's  GOOD,\tnot bad.<br />Ok", ["it's", "good,", "not", "bad.<br", "/>ok"]),
        ("isolated", "It's  GOOD,\tnot bad.<br />Ok", ["it's", "good", ",", "not", "bad", ".", "<br />", "ok"]),
        ("dropped", "It's  GOOD,\tnot bad.<br />Ok", ["it", "s", "good", "not", "bad", "ok"]),
        ("isolated", "'a' a''b x'", ["'", "a", "'", "a", "'", "'", "b", "x", "'"]),
        ("attached", "É\u00a0Ä \x85", ["É\u00a0Ä", "\x85"]),
        ("dropped", "<br>", ["br"]),
        ("characters", " 좋은\t영화,\n 'OK'<br />É\u3000", [*"좋은영화,'ok'<br/>É\u3000"]),
        ("characters", "\u1112\u1161\u11ab e\u0301", ["\u1112", "\u1161", "\u11ab", "e", "\u0301"]),
    ],
)
def test_a_tokenizer_does_what_it_says(name: TokenizerName, text: str, tokens: list[str]) -> None:
    assert TOKENIZERS[name].tokenize(text) == tokens


def test_u0000_is_read_as_a_space_and_a_lone_surrogate_as_a_replacement() -> None:
    assert clean("a\0b\ud800c") == "a b\ufffdc"
    assert Tokenizer().tokenize("a\0b") == ["a", "b"]
    assert Tokenizer(unit="characters").tokenize("ab\0\udfffc") == ["a", "b", "\ufffd", "c"]


def test_a_text_that_spells_a_special_holds_an_unknown_token() -> None:
    table = lookup_table(["<unk>", "<pad>", "good"])
    assert encode(["<pad>", "<unk>", "good", "else"], table) == [0, 0, 2, 0]


def test_a_tokenizer_of_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of attached, isolated, dropped"):
        Tokenizer(punctuation="bpe")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected one of words, characters"):
        Tokenizer(unit="bytes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected attached where unit is 'characters'"):
        Tokenizer(punctuation="dropped", unit="characters")


def test_every_name_of_a_tokenizer_stands_for_another_one() -> None:
    assert tuple(TOKENIZERS) == get_args(TokenizerName)
    assert len(set(TOKENIZERS.values())) == len(TOKENIZERS)


def test_a_specification_that_names_no_unit_is_one_of_words() -> None:
    specification = Specification(labels=("a", "b"), cell="gru", embedding=1, hidden=1, tokenizer=TOKENIZERS["dropped"])
    values = specification.to_json()
    del values["tokenizer"]["unit"]
    assert Specification.from_json(values) == specification


def test_a_specification_of_characters_survives_json() -> None:
    characters = Specification(labels=("a", "b"), cell="gru", embedding=1, hidden=1, tokenizer=TOKENIZERS["characters"])
    assert Specification.from_json(json.loads(json.dumps(characters.to_json()))) == characters
