"""One definition of a label: what a field holds, what `--label-map` makes of it, which map is proposed."""

from typing import Any

import pytest

from toolchain.errors import UsageError
from toolchain.measures.labels import LabelMap, LabelReader, describe_unknown, label_name, why_no_label
from toolchain.measures.polarity import propose

NEG_POS = ("neg", "pos")


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("pos", "pos"),
        (" neg\n", "neg"),
        ("", None),
        ("  ", None),
        (None, None),
        (1, "1"),
        (1.0, "1"),
        ("1.0", "1"),
        ("-1.00", "-1"),
        (0.5, "0.5"),
        ("0.5", "0.5"),
        (float("nan"), None),
        (float("inf"), None),
        (True, "true"),
        (False, "false"),
        ("1.0.0", "1.0.0"),
        (["pos"], None),
        ({"a": "pos"}, None),
        (10**30, "1" + "0" * 30),
    ],
)
def test_a_label_is_the_same_in_every_format(value: Any, name: str | None) -> None:
    assert label_name(value) == name


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "no label in column 'label'"),
        (" ", "no label in column 'label'"),
        (["pos"], "the label in column 'label' is a list, expected one label"),
        ({}, "the label in column 'label' is an object, expected one label"),
    ],
)
def test_a_field_without_a_label_has_a_reason(value: Any, why: str) -> None:
    assert why_no_label(value, "label") == why


@pytest.mark.parametrize(
    ("text", "mapped"),
    [
        (None, {"1": "1", "pos": "pos"}),
        ("1=pos,0=neg", {"1": "pos", "0": "neg", "2": "2"}),
        ("4,5=pos,1-2=neg,3=", {"5": "pos", "4": "pos", "1": "neg", "2": "neg", "1.5": "neg", "3": None, "3.5": "3.5"}),
        (" 4, 5 = pos ,1-2=neg", {"4": "pos", "5": "pos", "1": "neg"}),
        ("-1=neg,1=pos,-5--2=neg", {"-1": "neg", "1": "pos", "-3": "neg", "-6": "-6"}),
        ("1.0=pos", {"1": "pos"}),
        ("Positive=pos,NEG=neg", {"Positive": "pos", "positive": "pos", "neg": "neg", "Neg": "neg"}),
        ("a=x,A=y", {"a": "x", "A": "y"}),
        ("0=1,1=0", {"0": "1", "1": "0"}),
        ('"good, really"=pos', {"good, really": "pos"}),
        ("18-24=young", {"18-24": "young", "20": "young"}),
        ("a=b=pos", {"a=b": "pos"}),
    ],
)
def test_a_map_gives_labels_their_names(text: str | None, mapped: dict[str, str | None]) -> None:
    label_map = LabelMap.parse(text)
    assert {name: label_map(name) for name in mapped} == mapped


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1", "--label-map 1: 1 has no label; expected VALUE=LABEL,…"),
        ("1=pos,5", "--label-map 1=pos,5: 5 has no label"),
        ("=pos", "--label-map =pos: a value is missing"),
        ("1=pos,1=neg", "--label-map 1=pos,1=neg: 1 is there twice"),
        ("5-1=pos", "expected ranges from low to high"),
        ("1-3=neg,3-5=pos", "expected ranges from low to high that do not overlap"),
    ],
)
def test_a_map_that_says_nothing_clear_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        LabelMap.parse(text)
    assert message in str(caught.value)


def test_a_map_that_leads_to_no_label_of_the_model_is_refused() -> None:
    with pytest.raises(
        UsageError, match="--label-map 1=positive: 'positive' is not a label of the model, which has neg"
    ):
        LabelReader(NEG_POS, "1=positive")


def test_a_reader_finds_the_labels_and_counts_the_others() -> None:
    values: list[Any] = ["pos", " neg", "Pos", None, 1.0, ["pos"], "neutral", "neutral", {}]
    truth = LabelReader(NEG_POS).read(values)
    assert truth.index.tolist() == [1, 0, -1, -1, -1, -1, -1, -1, -1]
    assert truth.unknown == {"Pos": 1, "1": 1, "a list": 1, "neutral": 2, "an object": 1}
    mapped = LabelReader(NEG_POS, "1=pos,neutral=").read(values)
    assert mapped.index.tolist() == [1, 0, -1, -1, 1, -1, -1, -1, -1]
    assert mapped.unknown == {"Pos": 1, "a list": 1, "an object": 1}


def test_models_of_before_keep_their_labels() -> None:
    assert LabelReader(("1.0", "2.0")).read(["1.0", 2, 1.0]).index.tolist() == [0, 1, 0]
    assert LabelReader(("False", "True")).read([True, "True", False, "true"]).index.tolist() == [1, 1, 0, 1]


@pytest.mark.parametrize(
    ("values", "labels", "proposed"),
    [
        (["1", "0"], NEG_POS, "0=neg,1=pos"),
        (["5", "4", "3", "2", "1"], NEG_POS, "1-2=neg,3=,4-5=pos"),
        (["5", "1"], NEG_POS, "1=neg,5=pos"),
        (["1", "2"], NEG_POS, "1=neg,2=pos"),
        (["-1", "0", "1"], NEG_POS, "-1=neg,0=,1=pos"),
        (["0", "1", "2"], ("neg", "neutral", "pos"), "0=neg,1=neutral,2=pos"),
        (["0", "2", "4"], NEG_POS, "0=neg,2=,4=pos"),
        (["0", "4"], NEG_POS, "0=neg,4=pos"),
        (["1", "7", "10", "5"], NEG_POS, "1=neg,5=,7,10=pos"),
        (["0.5", "4.5", "5", "2.5"], NEG_POS, "0.5=neg,2.5=,4.5,5=pos"),
        (["positive", "negative"], NEG_POS, "positive=pos,negative=neg"),
        (["Positive", "NEG"], NEG_POS, "Positive=pos,NEG=neg"),
        (["pos", "Negative"], NEG_POS, "Negative=neg"),
        (["very negative", "neutral", "positive"], NEG_POS, "very negative=neg,neutral=,positive=pos"),
        (["true", "false"], NEG_POS, "true=pos,false=neg"),
        (["neg", "pos"], ("0", "1"), "neg=0,pos=1"),
        (["HAM", "Spam"], ("ham", "spam"), "HAM=ham,Spam=spam"),
        (["0", "1"], ("ham", "spam"), None),
        (["pos", "neg"], ("1", "2", "3", "4", "5"), None),
        (["apple", "pear"], NEG_POS, None),
        (["5"], NEG_POS, None),
        (["I loved it", "Awful, really"], NEG_POS, None),
        ([], NEG_POS, None),
    ],
)
def test_the_map_that_would_fit_is_proposed(values: list[str], labels: tuple[str, ...], proposed: str | None) -> None:
    assert propose(values, labels) == proposed
    if proposed is not None:
        truth = LabelReader(labels, proposed).read(values)
        assert not truth.unknown
        assert (truth.index >= 0).any()


def test_every_command_has_the_same_words() -> None:
    words = describe_unknown("in.csv", "label", {"1": 3, "0": 1_000}, 0, NEG_POS)
    assert words == (
        "in.csv: no label in column 'label' is one of the model's (neg, pos); found 0 (1,000), 1 (3). Map them: "
        "--label-map 0=neg,1=pos"
    )
    some = describe_unknown("in.csv", "label", {"very bad": 2}, 8, NEG_POS)
    assert some == (
        "in.csv: 2 of 10 labels in column 'label' are none of the model's (neg, pos); found very bad (2). Map them: "
        "--label-map 'very bad=neg'"
    )
    many = describe_unknown("in.csv", "id", {str(number): 1 for number in range(100, 900)}, 0, NEG_POS)
    assert many is not None
    assert many.endswith("104 (1) and 795 more. Map them: --label-map VALUE=LABEL,…")
    empty = describe_unknown("in.csv", "label", {}, 0, NEG_POS)
    assert empty == "in.csv: no row has a label in column 'label'; name another column: --label-column"
    assert describe_unknown("in.csv", "label", {}, 5, NEG_POS) is None
