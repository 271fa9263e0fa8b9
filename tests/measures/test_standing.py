"""A model beside what costs nothing: intervals, the line for the terminal, and when it is a warning."""

import json
from dataclasses import replace

import numpy as np
import pytest

from toolchain.measures.standing import Result, Standing, wilson_interval

LABELS = ("neg", "pos")


def result(accuracy: float) -> Result:
    return Result(accuracy, wilson_interval(round(accuracy), 100), accuracy / 100)


STANDING = Standing("test", 100, "neg", result(50), "words and word pairs", result(80), result(90))


@pytest.mark.parametrize(
    ("right", "total", "interval"),  # from statsmodels' proportion_confint(right, total, method="wilson")
    [(90, 100, (82.56, 94.48)), (0, 10, (0.0, 27.75)), (10, 10, (72.25, 100.0)), (4500, 5000, (89.14, 90.80))],
)
def test_the_interval_is_wilsons(right: int, total: int, interval: tuple[float, float]) -> None:
    assert wilson_interval(right, total) == pytest.approx(interval, abs=0.01)


def test_a_rare_label_counts_as_much_as_a_common_one() -> None:
    truth = np.array([0] * 99 + [1])
    majority = Result.of(np.zeros(100, np.int64), truth, LABELS)
    assert majority.accuracy == 99.0
    assert majority.macro_f1 == pytest.approx((2 * 99 / 199 + 0) / 2)


def test_a_label_that_is_nowhere_has_no_part_in_the_mean() -> None:
    truth = np.array([0, 1, 1])
    assert Result.of(truth, truth, ("neg", "pos", "mixed")).macro_f1 == 1.0


def test_plain_values_lead_back() -> None:
    assert Standing.from_json(json.loads(json.dumps(STANDING.to_json()))) == STANDING
    assert json.loads(json.dumps(STANDING.to_json())) == STANDING.to_json()


def test_the_line_names_the_part_and_all_three() -> None:
    line = str(STANDING)
    assert "on the 100 test reviews" in line
    assert "this model 90.0 % (82.6 to 94.5)" in line
    assert "logistic regression 80.0 %" in line
    assert "always 'neg' 50.0 %" in line


@pytest.mark.parametrize(
    ("accuracy", "said"),
    [
        (90, None),
        (80, "no better than TF-IDF"),
        (78, "may be chance on 100 reviews"),
        (60, "60.0 beside 80.0 %: try"),
        (50, "always answering 'neg'"),
    ],
)
def test_a_warning_where_the_model_is_no_better(accuracy: int, said: str | None) -> None:
    warning = replace(STANDING, model=result(accuracy)).warning("try this")
    if said is None:
        assert warning is None
    else:
        assert warning is not None
        assert said in warning
        assert warning.endswith("try this")
