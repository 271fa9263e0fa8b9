"""The calls that a notebook makes: predict, predict_proba, frames, a scorer that says what it is."""

import numpy as np
import pandas
import polars
import pytest

import toolchain
from toolchain.errors import UsageError
from toolchain.scoring.default import BOX
from toolchain.scoring.scorer import Scorer

GOOD, BAD = "I loved this film.", "I fell asleep and the plot made no sense."


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return toolchain.load(BOX)


def test_labels_and_probabilities_as_other_classifiers_give_them(scorer: Scorer) -> None:
    assert scorer.classes_ == ["neg", "pos"]
    assert scorer.predict([GOOD, BAD]) == ["pos", "neg"]
    probabilities = scorer.predict_proba([GOOD, BAD])
    assert probabilities.shape == (2, 2)
    assert probabilities.dtype == np.float32
    assert [row.argmax() for row in probabilities] == [1, 0]
    assert tuple(probabilities[0].tolist()) == scorer.score([GOOD])[0].probabilities


def test_a_scorer_says_what_it_is(scorer: Scorer) -> None:
    assert repr(scorer) == "<Scorer in the box (auto trained on IMDB), model.cpu.onnx on cpu: neg, pos>"


@pytest.mark.parametrize("missing", [None, float("nan"), pandas.NA, " \t"], ids=["None", "NaN", "NA", "blank"])
def test_a_pandas_frame_gets_two_columns_and_keeps_its_index(scorer: Scorer, missing: object) -> None:
    frame = pandas.DataFrame({"id": [7, 8, 9], "review": [GOOD, missing, BAD]}, index=["a", "b", "c"])
    before = frame.copy()
    scored = scorer.score_frame(frame, "review")
    assert list(scored.columns) == ["id", "review", "prediction", "confidence"]
    assert list(scored.index) == ["a", "b", "c"]
    assert [scored.prediction["a"], scored.prediction["b"], scored.prediction["c"]] == ["pos", None, "neg"]
    assert scored.confidence["a"] == scorer.score([GOOD])[0].confidence
    assert np.isnan(scored.confidence["b"])
    pandas.testing.assert_frame_equal(frame, before)


def test_a_polars_frame_gets_two_columns(scorer: Scorer) -> None:
    scored = scorer.score_frame(polars.DataFrame({"review": [GOOD, None, BAD]}), "review")
    assert scored.columns == ["review", "prediction", "confidence"]
    assert scored["prediction"].to_list() == ["pos", None, "neg"]
    assert scored["confidence"].to_list()[1] is None


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        ({"review": [GOOD]}, "expected a pandas or polars DataFrame, not dict"),
        (pandas.Series([GOOD], name="review"), "expected a pandas or polars DataFrame, not Series"),
        (pandas.DataFrame({"text": [GOOD]}), "no column 'review'; its columns: text"),
        (pandas.DataFrame({"review": [GOOD], "prediction": [1]}), "a column 'prediction' already"),
        (pandas.DataFrame({"review": [GOOD, 5]}), "row 1 of 'review' is not a string but int"),
    ],
    ids=["dict", "series", "no column", "taken", "number"],
)
def test_what_is_no_frame_of_texts_is_refused(scorer: Scorer, frame: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        scorer.score_frame(frame, "review")
