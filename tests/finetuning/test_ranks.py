"""Fine-tuning by several ranks: one process's losses, also when it is killed and gone on with by another number of them."""

import json
import re
from pathlib import Path

import pytest

import finetune
from tests.conftest import make_bert, make_tree, read_json
from tests.torchrun import ended, torchrun

DRIVER = """
import os, signal, sys
import finetune
from twostage.cli import run
from twostage.finetuning.trainer import Epochs
real = Epochs.on_step_end
def on_step_end(self, args, state, control, **more):
    if state.global_step == 9 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, args, state, control, **more)
Epochs.on_step_end = on_step_end
sys.exit(run(finetune.main, several=True))
"""


def epochs(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["seconds"]
    return lines


def test_two_ranks_killed_and_gone_on_with_by_three_train_as_one_process_does(tmp_path, capsys):
    bert, news = make_bert(tmp_path / "bert"), make_tree(tmp_path / "news", per_class=33)  # the last batch is short
    config = read_json(bert / "config.json") | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (bert / "config.json").write_text(json.dumps(config))
    words = [news, "--model", bert, "--device", "cpu", "--dtype", "float32", "--max-length", 48, "--batch-size", 16]
    words += ["--epochs", 2, "--lr-scale", 100, "--class-weight", "balanced"]
    words = [str(word) for word in words]
    assert finetune.main([*words, "--runs-dir", str(tmp_path / "alone")]) == 0
    alone = tmp_path / "alone" / "B4C3-x100"
    capsys.readouterr()

    driver, runs = tmp_path / "driver.py", tmp_path / "runs"
    driver.write_text(DRIVER)
    status, out, log = ended(torchrun(2, driver, *words, "--runs-dir", runs))
    assert status != 0
    assert out == ""
    assert len(re.findall("rank is gone: run the same command again|driver.py: interrupted", log)) == 1  # whatever came first
    assert "Traceback" not in log
    wanted = read_json(alone / "run.json")
    (first,) = epochs(runs / "B4C3-x100")
    status, out, log = ended(torchrun(3, "finetune.py", *words, "--runs-dir", runs, "--resume", "--checkpoint-minutes", 0))
    assert status == 0, log
    assert out.count("run: ") == 1
    assert f"going on from step {wanted['steps'] // 2}" in log
    assert [path.name for path in runs.iterdir() if path.is_dir()] == ["B4C3-x100"]
    both = epochs(runs / "B4C3-x100")
    assert both[0] == first
    for got, expected in zip(both, epochs(alone), strict=True):
        assert got["train_loss"] == pytest.approx(expected["train_loss"], abs=1e-5)
        assert got["val_accuracy"] == expected["val_accuracy"]
    record = read_json(runs / "B4C3-x100" / "run.json")
    assert record["status"] == "complete"
    assert (record["steps"], record["n_test"]) == (wanted["steps"], wanted["n_test"])
    assert sum(map(sum, record["confusion"])) == record["n_test"]
