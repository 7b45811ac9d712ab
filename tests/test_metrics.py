import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from twostage import metrics


@pytest.fixture
def answers():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 400)
    predicted = np.where(rng.random(400) < 0.7, labels, rng.integers(0, 5, 400))
    return labels, predicted


def test_confusion_rows_are_the_true_classes(answers):
    assert np.array_equal(metrics.confusion(*answers, 5), confusion_matrix(*answers))


def test_per_class_figures_agree_with_scikit_learn(answers):
    ours = metrics.per_class(metrics.confusion(*answers, 5))
    theirs = precision_recall_fscore_support(*answers)
    for name, column in zip(("precision", "recall", "f1", "support"), theirs, strict=True):
        np.testing.assert_allclose(ours[name], column)


def test_macro_f1_agrees_with_scikit_learn_when_a_class_never_occurs(answers):
    labels, predicted = answers
    assert metrics.macro_f1(metrics.confusion(labels, predicted, 9)) == pytest.approx(
        f1_score(labels, predicted, average="macro")
    )


def test_the_wilson_interval_of_80_right_in_100_is_the_textbook_one():
    assert metrics.wilson(80, 100) == pytest.approx((0.7112, 0.8666), abs=1e-4)


@pytest.mark.parametrize(("right", "n"), [(0, 10), (10, 10), (0, 0), (1, 1)])
def test_the_wilson_interval_stays_inside_0_and_1_and_holds_the_proportion(right, n):
    low, high = metrics.wilson(right, n)
    assert 0 <= low < high <= 1
    assert low <= (right / n if n else 0.5) <= high


def test_mcnemar_counts_only_the_documents_on_which_two_classifiers_differ():
    first = np.array([True] * 50 + [True] * 9 + [False] * 1 + [False] * 40)
    second = np.array([True] * 50 + [False] * 9 + [True] * 1 + [False] * 40)
    assert metrics.mcnemar(first, second) == pytest.approx(2 * (1 + 10) / 2**10)  # sign test, 1 against 9
    assert metrics.mcnemar(first, first) == 1
