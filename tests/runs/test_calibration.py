import numpy as np
import pytest

from twostage.runs.calibration import (
    COLDEST,
    brier,
    calibrate,
    coverage,
    expected_calibration_error,
    fit_temperature,
    log_softmax,
    nll,
    reliability,
)


def drawn(n=2000, classes=5, seed=0, overconfident=3.0):
    """Logits and labels drawn from softmax(logits / overconfident)."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(n, classes)) * 2
    p = np.exp(log_softmax(honest))
    label = (p.cumsum(1) < rng.random((n, 1))).sum(1)
    return honest * overconfident, np.minimum(label, classes - 1)


def test_the_temperature_is_scikit_learns():
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    class Logits(ClassifierMixin, BaseEstimator):
        def fit(self, X, y):
            self.classes_ = np.arange(5)
            return self

        def decision_function(self, X):
            return X

        def predict(self, X):
            return X.argmax(1)

    logits, label = drawn()
    judge = CalibratedClassifierCV(FrozenEstimator(Logits().fit(logits, label)), method="temperature").fit(logits, label)
    ours = fit_temperature(logits, label)
    assert ours == pytest.approx(3, rel=0.1)  # what the logits were multiplied by
    assert np.abs(np.exp(log_softmax(logits / ours)) - judge.predict_proba(logits)).max() < 1e-3


def test_the_fitted_temperature_has_less_loss_than_its_neighbours():
    for seed, overconfident in ((1, 0.3), (2, 1.0), (3, 8.0)):
        logits, label = drawn(400, seed=seed, overconfident=overconfident)
        t = fit_temperature(logits, label)
        assert nll(logits, label, t) < min(nll(logits, label, t * 1.01), nll(logits, label, t / 1.01))


def test_val_that_is_all_right_gives_a_bounded_temperature():
    logits = np.eye(3)[[0, 1, 2, 0]] * 5
    assert fit_temperature(logits, np.array([0, 1, 2, 0])) == pytest.approx(COLDEST)


def test_brier_is_scikit_learns():
    from sklearn.metrics import brier_score_loss

    logits, label = drawn(300)
    p = np.exp(log_softmax(logits))
    assert brier(p, label) == pytest.approx(brier_score_loss(label, p, scale_by_half=False))


def test_bins_and_error_by_hand():
    p = np.array([[0.97, 0.03], [0.99, 0.01], [0.55, 0.45], [0.2, 0.8]])
    bins = reliability(p, np.array([0, 1, 0, 1]))
    assert [one["n"] for one in bins if one["n"]] == [1, 1, 2] and sum(one["n"] for one in bins) == 4
    last = bins[-1]
    assert (last["confidence"], last["accuracy"], last["high"]) == (pytest.approx(0.98), 0.5, 1.0)
    assert bins[0] == {"low": 0.0, "high": 1 / 15, "n": 0, "confidence": None, "accuracy": None}
    assert expected_calibration_error(bins) == pytest.approx((2 * 0.48 + 0.45 + 0.2) / 4)


def test_answering_less_often_answers_better():
    logits, label = drawn()
    found = coverage(np.exp(log_softmax(logits)), label)
    assert found[0]["share"] == 1.0 and found[0]["accuracy"] == pytest.approx((logits.argmax(1) == label).mean())
    assert [one["probability"] for one in found] == sorted(one["probability"] for one in found)
    assert found[-1]["accuracy"] > found[0]["accuracy"] + 0.05


def test_an_overconfident_model_is_more_honest_after_calibration_and_answers_the_same():
    found = calibrate(*drawn(seed=1), *drawn(seed=2))
    for name in ("ece", "brier", "val_nll"):
        before, after = found[name]
        assert after < before
    assert found["ece"][1] < 0.03
    assert all(sum(one["n"] for one in bins) == 2000 for bins in found["bins"].values())
