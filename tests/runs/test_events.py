"""--tensorboard: event files beside metrics.jsonl, with the same figures; a line where the package is missing."""

import json
from importlib.util import find_spec

import pytest

from tests.conftest import expect_refusal, run_script
from tests.head_caches import make_cache
from tests.heads.test_sweep import run_train_head
from twostage.runs.folder import create_run

needs_tensorboard = pytest.mark.skipif(find_spec("tensorboard") is None, reason="the package tensorboard is not installed")


def read(folder) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def logged(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


@needs_tensorboard
def test_event_files_hold_what_metrics_jsonl_holds_one_line_a_trial(tmp_path, capsys):
    cache = make_cache(tmp_path / "news.h5")
    status, _, err = run_train_head(
        capsys,
        cache,
        "--lr",
        "1e-2",
        "--seeds",
        2,
        "--epochs",
        3,
        "--tensorboard",
        "--ceiling",
        "--runs-dir",
        tmp_path / "runs",
    )
    assert status == 0, err
    run = tmp_path / "runs" / "1C-lr0.01"
    found = read(run)
    for name in ("train_loss", "val_accuracy", "val_macro_f1"):
        for trial in (0, 1):
            wanted = [(line["epoch"], pytest.approx(line[name], abs=1e-6)) for line in logged(run) if line["index"] == trial]
            assert len(wanted) == 3 and found[f"{name}/trial {trial}"] == wanted
    assert not list((tmp_path / "runs" / "ceiling").glob("events*"))


def test_without_the_option_there_are_no_event_files_and_the_package_is_not_loaded(tmp_path, capsys):
    cache = make_cache(tmp_path / "news.h5")
    assert run_train_head(capsys, cache, "--lr", "1e-2", "--epochs", 1, "--runs-dir", tmp_path / "runs")[0] == 0
    assert not list((tmp_path / "runs").rglob("events*"))
    assert "tensorboard" not in json.loads((tmp_path / "runs" / "1C-lr0.01" / "run.json").read_text(encoding="utf-8"))


@needs_tensorboard
def test_a_resumed_run_has_each_epoch_once_in_its_event_files(tmp_path):
    line = {"epoch": 1, "val_accuracy": 0.5}
    with create_run(tmp_path, "B4", {"tensorboard": True}) as run:
        run.log(line)
        run.log(line | {"epoch": 2})
    with create_run(tmp_path, "B4", {"tensorboard": True}) as again:
        again.path = run.path
        again.rewrite_log([line])
        again.log({"epoch": 2, "val_accuracy": 0.75})
    assert read(run.path) == {"val_accuracy": [(1, 0.5), (2, 0.75)]}
    assert [one["epoch"] for one in logged(run.path)] == [1, 2]


@pytest.mark.parametrize("script", ["train_head.py", "finetune.py"])
def test_a_missing_package_is_said_in_a_line_before_any_work(tmp_path, script):
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / "__init__.py").write_text("raise ImportError('not here')", encoding="utf-8")
    given = [make_cache(tmp_path / "news.h5")] if script == "train_head.py" else ["demo", "--cache-dir", tmp_path / "cache"]
    result = run_script(script, *given, "--tensorboard", "--runs-dir", tmp_path / "runs", PYTHONPATH=str(tmp_path))
    expect_refusal(result, "--tensorboard", "pip install tensorboard")
    assert not (tmp_path / "runs").exists() and not (tmp_path / "cache").exists()
