import json

import numpy as np
import pytest

from tests.conftest import read_json
from twostage.errors import BadInput
from twostage.runs import folder as runs
from twostage.runs.scores import save_predictions, score_test


def test_an_existing_name_gets_a_number_and_nothing_is_overwritten(tmp_path):
    names = [runs.create_run(tmp_path / "runs", "1C3", {}).path.name for _ in range(3)]
    assert names == ["1C3", "1C3-2", "1C3-3"]


def test_an_empty_folder_left_by_a_kill_gives_way_and_litter_is_swept(tmp_path):
    (tmp_path / "1C3").mkdir()
    for name in (".1C3.999999999.partial", ".report.999999999.partial"):
        (tmp_path / name).mkdir()
    run = runs.create_run(tmp_path, "1C3", {})
    assert run.path.name == "1C3"
    assert [path.name for path in tmp_path.iterdir()] == ["1C3"]


def test_a_run_that_ends_in_an_error_says_so(tmp_path):
    with pytest.raises(RuntimeError), runs.create_run(tmp_path, "1C3", {}):
        raise RuntimeError("out of luck")
    record = read_json(tmp_path / "1C3" / "run.json")
    assert (record["status"], record["error"]) == ("failed", "out of luck")


def test_what_fails_before_a_run_is_under_way_is_its_failure(tmp_path):
    run = runs.create_run(tmp_path, "B4C3", {"recipe": "B4C3"})
    with run.failed_by_errors():
        pass
    assert read_json(run.path / "run.json")["status"] == "running"
    with pytest.raises(BadInput, match="no lock"), run.failed_by_errors():
        raise BadInput("no lock to be had")
    record = read_json(run.path / "run.json")
    assert record["status"] == "failed" and record["error"] == "no lock to be had"


def test_a_run_that_is_stopped_by_ctrl_c_is_interrupted(tmp_path):
    with pytest.raises(KeyboardInterrupt), runs.create_run(tmp_path, "1C3", {}):
        raise KeyboardInterrupt
    assert read_json(tmp_path / "1C3" / "run.json")["status"] == "interrupted"


def test_a_finished_run_is_read_back_with_numbers_that_any_json_reader_takes(tmp_path):
    run = runs.create_run(tmp_path, "类", {"seed": np.int64(3), "label_names": ["甲"]})
    run.log({"epoch": 1, "train_loss": 0.5})
    epoch = {"epoch": 1, "train_loss": float("nan"), "val_accuracy": np.float32(0.5)}
    run.finish(**score_test(np.zeros(2, int), np.zeros(2, int), ["甲"]), epochs=[epoch], best_epoch=np.int64(1))
    record = runs.read_run(run.path)
    assert record["status"] == "complete"
    assert (record["seed"], record["best_epoch"], record["confusion"]) == (3, 1, [[2]])
    assert record["epochs"] == [{"epoch": 1, "train_loss": None, "val_accuracy": 0.5}]
    assert record["wall_seconds"] >= 0 and record["peak_memory_bytes"] > 0
    assert json.loads((run.path / "metrics.jsonl").read_text()) == {"epoch": 1, "train_loss": 0.5}


def test_the_best_epoch_is_the_earliest_of_the_highest_on_val():
    epochs = [{"epoch": i + 1, "val_accuracy": a} for i, a in enumerate((0.5, 0.75, 0.6, 0.75))]
    assert runs.best_epoch(epochs) == 2


def test_test_scores_hold_the_whole_confusion_matrix():
    scores = score_test(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), ["甲", "乙"])
    assert scores["test_accuracy"] == 0.75
    assert scores["confusion"] == [[1, 1], [0, 2]]
    assert [row["label"] for row in scores["per_class"]] == ["甲", "乙"]
    assert scores["test_accuracy_ci95"][0] < 0.75 < scores["test_accuracy_ci95"][1]


@pytest.mark.parametrize("text", [None, "{", "[]", '{"schema": 99}'])
def test_a_folder_that_holds_no_run_of_ours_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(BadInput, match=tmp_path.name):
        runs.read_run(tmp_path)


def test_a_runs_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="--runs-dir"):
        runs.create_run(tmp_path / "file", "1C3", {})


def test_predictions_are_read_back_as_saved(tmp_path):
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8]])
    save_predictions(tmp_path, np.zeros((2, 32), np.uint8), np.array([0, 0]), probabilities)
    with np.load(tmp_path / "predictions.npz", allow_pickle=False) as file:
        assert file["predicted"].tolist() == [0, 1]
        assert file["probabilities"].dtype == np.float32
        assert file["digest"].shape == (2, 32)
