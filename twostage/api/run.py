"""A finished run: its figures, its table and chart in a notebook, and its predictions."""

from functools import cached_property
from html import escape
from pathlib import Path

import numpy as np

from twostage.api.arguments import held
from twostage.errors import BadInput
from twostage.heads.sweep_table import sweep_table
from twostage.models.saved import Trained
from twostage.models.saved import load_run as load_trained
from twostage.predict import model_of_older_run
from twostage.progress import spoken
from twostage.report.figures import epoch_chart, epoch_runs, rate_chart, rate_series
from twostage.report.page import alone
from twostage.report.tables import accuracy_table
from twostage.runs.folder import read_run
from twostage.runs.groups import group_runs
from twostage.runs.views import RunView

CHART_SIZE = (640, 300)  # pixels, in a notebook


class FinishedRun:
    """What a training run left in its folder. Made by train, sweep, finetune and load_run.

    path           the run folder
    record         run.json as a dict; every key is described in docs/runs.md
    classes_       C class names, the columns of predict_proba
    test_accuracy  0 to 1, on the whole test split; test_interval is its 95 % Wilson interval (low, high)
    """

    def __init__(self, path: str | Path, record: dict, *, cache=None, loading: dict | None = None):
        self.path, self.record, self._cache, self._loading = Path(path), record, cache, loading or {}

    @classmethod
    def of(cls, record: dict, **more) -> "FinishedRun":
        """From a record that carries its own path, as training gives it."""
        return cls(record["path"], record, **more)

    @property
    def name(self) -> str:
        return self.record["name"]

    @property
    def classes_(self) -> list[str]:
        return list(self.record["label_names"])

    @property
    def test_accuracy(self) -> float:
        return self.record["test_accuracy"]

    @property
    def test_interval(self) -> tuple[float, float]:
        return tuple(self.record["test_accuracy_ci95"])

    @property
    def test_macro_f1(self) -> float:
        return self.record["test_macro_f1"]

    @property
    def val_accuracy(self) -> float:
        """On the whole val split, at the epoch that was chosen."""
        return self.record["epochs"][self.record["best_epoch"] - 1]["val_accuracy"]

    def predict_proba(self, texts) -> np.ndarray:
        """Class probabilities (n, C) float32 of n texts, columns as `classes_`. The model is loaded at the first call."""
        if isinstance(texts, str):
            raise TypeError("predict takes a list of texts, not one text: give [text]")
        texts = list(texts)
        for number, text in enumerate(texts, 1):
            if not isinstance(text, str):
                raise TypeError(f"predict takes a list of texts, but number {number} is of type {type(text).__name__}")
            try:
                text.encode()
            except UnicodeEncodeError:
                raise BadInput(f"text number {number}: half of a character (a lone surrogate) in it: decode it anew") from None
        return self._trained.probabilities(texts) if texts else np.zeros((0, len(self.classes_)), np.float32)

    def predict(self, texts) -> list[str]:
        """The most probable class of each of n texts."""
        return [self.classes_[i] for i in self.predict_proba(texts).argmax(1)]

    @cached_property
    def _trained(self) -> Trained:
        settings = {"model": None, "device": "auto", "dtype": "auto"} | self._loading
        settings["model"] = settings["model"] or model_of_older_run(self.path)
        return load_trained(self.path, **settings)

    def close(self) -> None:
        """Let the loaded model go."""
        if "_trained" in self.__dict__:
            self.__dict__.pop("_trained").close()

    def __str__(self) -> str:
        """The table that the training scripts print."""
        if self.record.get("grid"):
            return sweep_table(self.record, self._cache or self.record["cache"]["path"])
        return accuracy_table([self.record])

    def __repr__(self) -> str:
        low, high = self.test_interval
        return f"<FinishedRun {self.path}: test accuracy {self.test_accuracy:.3f} (95 % interval {low:.3f}-{high:.3f})>\n{self}"

    def _repr_html_(self) -> str:
        """The table and a chart: accuracy over the learning rate for a sweep, else over the epochs."""
        group = group_runs([RunView(self.path, self.record)])[0]
        series = rate_series(group)
        chart = rate_chart(CHART_SIZE, group, series) if series else epoch_chart(CHART_SIZE, epoch_runs(group))
        return f"<pre>{escape(str(self))}</pre>{alone(chart)}"


@held
def load_run(
    path: str | Path, *, model: str | Path | None = None, device: str = "auto", dtype: str = "auto", progress: bool = False
) -> FinishedRun:
    """A run folder that training left; its model is loaded when it is first asked to predict.

    model: the folder of a head run's encoder, where it is not where training found it.
    BadInput: not a run folder, damaged, or not complete; when predicting, an encoder that is missing or another one.
    """
    with spoken(progress):
        record = read_run(Path(path))
        if record["status"] != "complete":
            raise BadInput(f"{path}: its status is {record['status']}: load a run that is complete")
        return FinishedRun(path, record, loading={"model": model and str(model), "device": device, "dtype": dtype})
