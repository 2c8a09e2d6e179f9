"""The classes of a label column, and the targets of its labels."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from tunewright import RequestError

datasets = pytest.importorskip("datasets")
pytest.importorskip("torch")

SINGLE, MULTI = "single_label_classification", "multi_label_classification"


@pytest.mark.parametrize(
    ("labels", "feature", "num_labels", "known", "expected"),
    [
        (["no", "yes", None, " "], None, None, (), (SINGLE, ["no", "yes"], {"yes": 1, " ": None})),
        (["10", "9"], None, None, (), (SINGLE, ["9", "10"], {"9": 0})),
        ([2, 0, 1], None, None, (), (SINGLE, ["0", "1", "2"], {2: 2})),
        ([0, 1], None, 3, (), (SINGLE, ["0", "1", "2"], {1: 1})),
        ([1, 5], None, None, (), (SINGLE, ["1", "5"], {5: 1})),
        ([True, False], None, None, (), (SINGLE, ["False", "True"], {True: 1})),
        ([1, -1], "names", None, (), (SINGLE, ["neg", "pos"], {1: 1, -1: None})),
        ([1], "names", None, ("pos", "neg"), (SINGLE, ["pos", "neg"], {1: 0})),
        (["pos"], None, None, ("pos", "mid", "neg"), (SINGLE, ["pos", "mid", "neg"], {"pos": 0})),
        ([0, 1], None, None, ("pos", "neg"), (SINGLE, ["pos", "neg"], {0: 0})),
        ([0.5, 2.0, math.nan], None, None, (), ("regression", [], {0.5: 0.5, math.nan: None})),
        (["0.5", "2"], None, 1, (), ("regression", [], {"0.5": 0.5})),
        ([1, 2], None, 1, (), ("regression", [], {2: 2.0})),
        ([["a", "b"], ["c"], []], None, None, (), (MULTI, ["a", "b", "c"], {("a", "c"): [1.0, 0.0, 1.0]})),
    ],
)
def test_the_labels_of_a_column(labels, feature, num_labels, known, expected) -> None:
    from tunewright_hf.data.samples.classification import find_classes

    features = datasets.Features({"label": datasets.ClassLabel(names=["neg", "pos"])}) if feature else None
    rows = datasets.Dataset.from_dict({"label": labels}, features=features)
    classes = find_classes(rows, "label", num_labels, known)
    problem, names, targets = expected
    assert (classes.problem, list(classes.names)) == (problem, names)
    for value, target in targets.items():
        assert classes.target(list(value) if isinstance(value, tuple) else value) == target


def test_splits_that_number_their_labels_differently_are_refused(
    base_of: Callable[[str], Path], train, tmp_path: Path
) -> None:
    for name, names in (("train", ["a", "b"]), ("validation", ["b", "a"])):
        features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
        rows = datasets.Dataset.from_dict({"text": ["What", "is"], "label": [0, 1]}, features=features)
        rows.to_parquet(tmp_path / "data" / f"{name}.parquet")
    with pytest.raises(RequestError, match=r"\['b', 'a'\] and \['a', 'b'\]"):
        train(
            tmp_path / "out",
            tmp_path / "data",
            model=base_of("bert"),
            transformer_type="AutoModelForSequenceClassification",
            max_steps=1,
        )


@pytest.mark.parametrize(
    ("labels", "num_labels", "expected"),
    [
        (["a", "a"], None, "only one label, 'a'"),
        ([None, None], None, "holds no labels"),
        (["a", "b", "c"], 2, "holds 3 labels, but num_labels is 2"),
        ([0, 1, 2], 2, "holds 3 labels, but num_labels is 2"),
        ([0.5, 1.5], 3, "a fraction"),
        ([{"x": 1}], None, "holds objects"),
    ],
)
def test_a_column_without_usable_labels_is_refused(labels, num_labels, expected: str) -> None:
    from tunewright_hf.data.samples.classification import find_classes

    with pytest.raises(RequestError, match=f"column 'label'.*{expected}"):
        find_classes(datasets.Dataset.from_dict({"label": labels}), "label", num_labels)


@pytest.mark.parametrize("label", [-100, -100.0, "-100"])
def test_a_number_that_marks_samples_without_a_label_is_a_label_of_a_regression(label: object) -> None:
    from tunewright_hf.data.samples.classification import Classes

    target = Classes(problem="regression").target(label)
    assert target != -100
    assert target == pytest.approx(-100, abs=1e-4)


def test_a_label_of_a_regression_that_is_not_a_number_is_refused() -> None:
    from tunewright_hf.data.samples.classification import Classes

    with pytest.raises(RequestError, match="a label that is not a number: 'warm'"):
        Classes(problem="regression").target("warm")
