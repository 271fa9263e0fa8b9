"""A scorer in a child that was forked, in a pickle, and what it refuses: right answers or one line, never a hang."""

import copy
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from export.bundle import MANIFEST
from tests.models.test_checkpoints import TEXTS, notebook, read
from toolchain.errors import UsageError
from toolchain.release.release import export_snapshot
from toolchain.scoring.explainer import Explainer
from toolchain.scoring.scorer import Scorer

SECONDS = 300


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a few words, with the form that explains."""
    folder = tmp_path_factory.mktemp("small")
    imported = read(folder, notebook().state_dict())
    export_snapshot(imported.snapshot, folder / "bundle", ["onnx", "onnx-explain"], TEXTS)
    return folder / "bundle"


def in_a_child(answer: Callable[[], object]) -> object:
    """What `answer` gives in a forked process, or the one line of its `UsageError`; a hang ends the child."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        try:
            said: object = answer()
        except UsageError as error:
            said = f"refused: {error}"
        os.write(write_end, json.dumps(said).encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as stream:
        data = stream.read()
    assert os.waitpid(child, 0)[1] == 0, "the child did not end well"
    return json.loads(data)


pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_scorer_that_was_used_before_a_fork_answers_in_the_child_and_in_the_parent(small: Path) -> None:
    with Scorer(small, threads=2) as scorer:
        before = scorer.score(TEXTS)
        answers = in_a_child(lambda: scorer.score(TEXTS))
        assert answers == json.loads(json.dumps(before))
        grandchild = in_a_child(lambda: in_a_child(lambda: scorer.score(TEXTS[:1])))
        assert grandchild == json.loads(json.dumps(before[:1]))
        assert scorer.score(TEXTS) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_scores_under_way_stay_in_the_process_that_works_on_them(small: Path) -> None:
    with Scorer(small) as scorer:
        pending = scorer.submit(TEXTS)
        said = in_a_child(lambda: len(pending.result().best))
        assert said == (
            "refused: these scores are under way in the process that this one was forked from; submit them here"
        )
        assert len(pending.result().best) == len(TEXTS)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_an_accelerator_is_refused_in_a_child(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Scorer(small) as scorer:
        monkeypatch.setattr(scorer, "provider", "cuda")
        said = str(in_a_child(lambda: len(scorer.score(TEXTS))))
    assert said.startswith("refused: this Scorer was opened on cuda before a fork")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_an_explainer_that_was_used_before_a_fork_explains_in_the_child(small: Path) -> None:
    explainer = Explainer(small)
    before = explainer.explain(TEXTS)[0].confidence
    assert in_a_child(lambda: explainer.explain(TEXTS)[0].confidence) == before
    assert explainer.explain(TEXTS)[0].confidence == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_ends_like_any_process(small: Path) -> None:
    """Python tears down what the child has inherited: sessions with threads of a process that it is not."""
    code = (
        "import os, sys\n"
        "from toolchain.scoring.explainer import Explainer\n"
        "from toolchain.scoring.scorer import Scorer\n"
        f"scorer, explainer = Scorer({str(small)!r}), Explainer({str(small)!r})\n"
        "scorer.score(['w1']), explainer.explain(['w1'])\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    scorer.score(['w1']), explainer.explain(['w1'])\n"
        "    sys.exit(7)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=environment, timeout=SECONDS)
    assert done.returncode == 7


def test_a_pickle_opens_the_bundle_where_it_is_read(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small.parent)
    with Scorer(Path(small.name), threads=1, explain=1) as scorer:
        pickled, before = pickle.dumps(scorer), scorer.score(TEXTS)
    assert len(pickled) < 1_000
    monkeypatch.chdir("/")
    with pickle.loads(pickled) as opened:
        assert opened.score(TEXTS) == before
        assert (opened.explained_words, opened.model) == (1, "model.explain.onnx")
        with copy.deepcopy(opened) as copied:
            assert copied.score(TEXTS) == before
    explainer = Explainer(small)
    again = pickle.loads(pickle.dumps(explainer))
    assert again.explain(TEXTS[:1]) == explainer.explain(TEXTS[:1])


def test_a_pickle_of_another_bundle_is_refused(small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(small, folder)
    with Scorer(folder) as scorer:
        pickled = (pickle.dumps(scorer), pickle.dumps(Explainer(folder)))
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    (folder / MANIFEST).write_text(json.dumps(manifest | {"training": {}}), encoding="utf-8")
    for data in pickled:
        with pytest.raises(UsageError, match=r"not the bundle that this .* was pickled with; pickle it anew"):
            pickle.loads(data)


# --- what may be scored ----------------------------------------------------------------------------------------------

BLANK = ["", " ", "\t\r\n", "\0", "\u00a0\u2003", "\x1c\x85", "\u3000"]


def refusals(small: Path, texts: object) -> list[str]:
    """What `Scorer.score` and `Explainer.explain` say of these texts."""
    lines = []
    with Scorer(small) as scorer:
        for ask in (scorer.score, Explainer(small).explain):
            with pytest.raises(UsageError) as refused:
                ask(texts)  # type: ignore[arg-type]
            lines.append(str(refused.value))
    return lines


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ("one string", "expected a list of texts, not one string; write [text]"),
        (b"bytes", "expected a list of texts, not one string"),
        (["w1", None], "texts[1] is not a string but None (NoneType); leave it out"),
        (["w1", "w2", float("nan")], "texts[2] is not a string but nan (float); leave it out"),
        ([b"w1"], "texts[0] is not a string but b'w1' (bytes); decode it first"),
        (["w1", 7], "texts[1] is not a string but 7 (int)"),
        ([["w1"]], "texts[0] is not a string but ['w1'] (list)"),
        ([{"x": "y" * 10_000}], "texts[0] is not a string but {'x': 'yyy"),
        *((["w1", blank, ""], "texts[1] is blank; leave it out") for blank in BLANK),
    ],
)
def test_what_is_no_text_is_refused_with_its_index(small: Path, texts: object, said: str) -> None:
    for line in refusals(small, texts):
        assert line.startswith(said)
        assert len(line) < 200


def test_other_sequences_of_strings_are_texts(small: Path) -> None:
    with Scorer(small) as scorer:
        before = scorer.score(TEXTS)
        assert scorer.score(tuple(TEXTS)) == scorer.score(np.array(TEXTS)) == before  # type: ignore[arg-type]
        assert scorer.score([]) == []
        assert Explainer(small).explain([]) == []


def test_a_text_of_unknown_words_or_marks_is_none_that_is_blank(small: Path) -> None:
    with Scorer(small) as scorer:
        assert [(p.tokens, p.unknown) for p in scorer.score(["...", "\u200b", "nobody"])] == [(1, 1)] * 3
