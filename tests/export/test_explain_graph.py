"""An explaining graph that reads its tables out of another file gives the same bits, and holds no table twice."""

from collections.abc import Sequence
from pathlib import Path

import onnx
import onnxruntime
import pytest

from export import folded
from export.explain_graph import with_tables_of
from export.forms import FORMS
from export.sessions import TABLE_BYTES, open_session, run_text
from export.shrinking import shrink
from export.spec import Classifier
from tests.export.test_bag import TEXTS, VOCABULARY, snapshot

OUTPUTS = ["label", "probabilities", "tokens", "unknown", "words", "shares", "start"]
HOLDER = "model.cpu.onnx"


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return shrink(snapshot(bag=256).classifier(), len(VOCABULARY))


@pytest.fixture(scope="module")
def graphs(classifier: Classifier) -> tuple[bytes, bytes]:
    """What explains, whole, and what scores."""
    return FORMS["onnx-explain"].build(classifier, {}), FORMS["onnx-cpu"].build(classifier, {})


def answers(path: Path) -> list[object]:
    session = open_session(path)
    return [bits(session, texts) for texts in (TEXTS, TEXTS[:1])]


def bits(session: onnxruntime.InferenceSession, texts: Sequence[str] = TEXTS) -> list[object]:
    outputs = run_text(session, OUTPUTS, texts)
    return [output.tolist() if output.dtype == object else output.tobytes() for output in outputs]


def tables(model: bytes) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in onnx.load_model_from_string(model).graph.initializer}


def test_what_both_graphs_hold_stands_in_one_of_them(graphs: tuple[bytes, bytes]) -> None:
    whole, held = graphs
    shared = tables(with_tables_of(whole, HOLDER, held))
    elsewhere = {name for name, tensor in shared.items() if tensor.data_location == onnx.TensorProto.EXTERNAL}
    assert elsewhere == {"embedding.integers", "bag.words.weight", "bag.pairs.weight"}
    for name, tensor in tables(whole).items():
        if name not in elsewhere:
            assert shared[name] == tensor
            assert len(tensor.raw_data) < TABLE_BYTES or tensor.raw_data not in held
            continue
        place = {entry.key: entry.value for entry in shared[name].external_data}
        first = int(place["offset"])
        assert place["location"] == HOLDER
        assert held[first : first + int(place["length"])] == tensor.raw_data


@pytest.mark.parametrize("before", range(4))
def test_tables_at_any_offset_give_the_same_bits(graphs: tuple[bytes, bytes], before: int, tmp_path: Path) -> None:
    whole, held = graphs
    held = b"." * before + held
    (tmp_path / HOLDER).write_bytes(held)
    (tmp_path / "whole.onnx").write_bytes(whole)
    (tmp_path / "shared.onnx").write_bytes(with_tables_of(whole, HOLDER, held))
    assert answers(tmp_path / "shared.onnx") == answers(tmp_path / "whole.onnx")


def test_a_folded_graph_that_is_kept_needs_the_other_file_no_more(
    graphs: tuple[bytes, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, held = graphs
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / HOLDER).write_bytes(held)
    (tmp_path / "shared.onnx").write_bytes(with_tables_of(whole, HOLDER, held))
    first = bits(folded.open_and_keep(tmp_path / "shared.onnx", ["0" * 64], threads=1, check=bits))
    (tmp_path / HOLDER).unlink()
    mapped = folded.open_mapped(["0" * 64], threads=1)
    assert mapped is not None
    assert bits(mapped) == first


def test_a_session_that_is_open_does_not_depend_on_the_other_file(graphs: tuple[bytes, bytes], tmp_path: Path) -> None:
    """Somebody may copy a new bundle over the folder of one that is in use; a table that is mapped would change."""
    whole, held = graphs
    (tmp_path / HOLDER).write_bytes(held)
    (tmp_path / "shared.onnx").write_bytes(with_tables_of(whole, HOLDER, held))
    session = open_session(tmp_path / "shared.onnx")
    before = bits(session)
    with (tmp_path / HOLDER).open("r+b") as file:
        file.write(bytes(len(held)))
    assert bits(session) == before


def test_tables_of_the_loop_stay(graphs: tuple[bytes, bytes]) -> None:
    """onnxruntime-web does not find them in another file."""
    whole, _ = graphs
    model = onnx.load_model_from_string(with_tables_of(whole, HOLDER, whole))
    (loop,) = (attribute.g for node in model.graph.node for attribute in node.attribute if attribute.HasField("g"))
    assert not any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in loop.initializer)
    assert any(len(tensor.raw_data) >= TABLE_BYTES for tensor in loop.initializer)


def test_a_graph_that_shares_no_table_stays_as_it_is(graphs: tuple[bytes, bytes]) -> None:
    whole, _ = graphs
    assert with_tables_of(whole, HOLDER, b"something else") == whole
