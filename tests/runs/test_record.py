import dataclasses
import json
import re

import pytest

from tests.conftest import ROOT, read_json
from tests.report.test_report import change, make_run
from twostage.errors import BadInput
from twostage.report.build import write_report
from twostage.runs.folder import create_run, read_run, write_record
from twostage.runs.record import RunRecord
from twostage.runs.schema import documented, json_schema
from twostage.runs.views import load_runs

KEYS = [field.name for field in dataclasses.fields(RunRecord)]
EPOCH = {"epoch": 1, "val_accuracy": 0.5}
TRIAL = {"index": 0, "head": "1C", "head_lr": 0.1, "epochs": [EPOCH], "best_epoch": 1}
NONSENSE = {
    "digits": 10**400, "beyond a float": 10**4000, "negative": -1, "a list": [[[]]], "an object": {"": None}, "text": "\ud800\x1b[31m",
    "a fraction": 1e-320, "yes": True, "large": 2**62, "nothing": None, "epochs": [EPOCH | {"epoch": 10**400}],
    "trials": [TRIAL | {"head_lr": 10**400}], "whole trials": [TRIAL], "objects": [{}], "numbers": [10**400, "x"],
}  # fmt: skip


def test_the_schema_and_the_page_say_what_the_record_declares():
    for path in (ROOT / "docs" / "run.schema.json", ROOT / "twostage" / "runs" / "run.schema.json"):
        assert read_json(path) == json.loads(json.dumps(json_schema())), "run: python -m twostage.runs.schema"
    page = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
    assert page == documented(page), "run: python -m twostage.runs.schema"
    assert all(f"| `{name}` |" in page for name in KEYS)


def test_nonsense_under_any_key_spoils_neither_the_report_nor_the_next_run(tmp_path):
    make_run(tmp_path, "good", recipe="1C3")
    for name in KEYS:
        for number, value in enumerate(NONSENSE.values()):
            change(make_run(tmp_path, f"{name}-{number}", recipe="1C4"), **{name: value})
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "run.json").write_text("[" * 100_000)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    found, damaged = load_runs(tmp_path)
    assert "good" in [run.name for run in found] and "deep" in dict(damaged)
    assert len(damaged) > 5 * len(KEYS) and all(name in page for name, _ in damaged)
    assert make_run(tmp_path, "next", recipe="1C3").is_dir()


@pytest.mark.parametrize("name, value, told", [
    ("n_train", 10**400, "n_train is outside"),
    ("test_accuracy", 1.5, "test_accuracy is outside 0 to 1"),
    ("status", "done", "status is 'done'"),
    ("per_class", [], "per_class does not match label_names"),
    ("best_epoch", 9, "best_epoch is not among the epochs"),
    ("epochs", [{"epoch": 1}], "epochs.val_accuracy is missing"),
    ("device", 1, "device has the wrong type"),
    ("head_lr", True, "head_lr has the wrong type"),
])  # fmt: skip
def test_a_value_of_the_wrong_kind_or_size_is_named(tmp_path, name, value, told):
    path = make_run(tmp_path, "1C3")
    change(path, **{name: value})
    with pytest.raises(BadInput, match=re.escape(told)):
        read_run(path)


def test_a_key_that_nobody_declared_is_not_written(tmp_path):
    run = create_run(tmp_path, "1C3", {})
    with pytest.raises(AssertionError, match="brand_new"):
        write_record(run.path, run.record | {"brand_new": 1})


def test_a_key_of_a_later_version_is_let_be(tmp_path):
    path = make_run(tmp_path, "1C3")
    change(path, of_tomorrow={"x": 1})
    assert read_run(path)["of_tomorrow"] == {"x": 1}
