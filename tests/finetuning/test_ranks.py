"""Fine-tuning by several ranks: one process's losses, also when it is killed or stopped and gone on with by another number."""

import json
import re
from pathlib import Path

import pytest

import finetune
from tests.conftest import make_bert, make_tree, read_json
from tests.torchrun import DIFFERENT, Ranks, refused_by_rank_1, two_machines

# Before finetune.py begins: what happens at an optimizer step, a rank with little memory, and a note of what each has scored.
DRIVER = """
import os, signal
from twostage.finetuning import run, trainer
def at_step(number, act):
    real = trainer.Epochs.on_step_end
    def on_step_end(self, args, state, control, **more):
        state.global_step == number and act()
        return real(self, args, state, control, **more)
    trainer.Epochs.on_step_end = on_step_end
fit = run.fit_micro_batch
run.fit_micro_batch = lambda *args: 3 if rank == 1 else fit(*args)
scores = trainer.scores
def noted(model, rows, plan, pad, label):
    seen, batch = [0], rows.batch
    rows.batch = lambda part, pad: seen.append(len(part)) or batch(part, pad)
    found = scores(model, rows, plan, pad, label)
    del rows.batch
    with open(f"scored {rank}", "a") as file:
        print(label, sum(seen), file=file)
    return found
run.scores = trainer.scores = noted
"""


def epochs(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["seconds"]
    return lines


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    base = tmp_path_factory.mktemp("finetuned by ranks")
    bert, _ = make_bert(base / "bert"), make_tree(base / "news", per_class=33)  # the last batch is short
    config = read_json(bert / "config.json") | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (bert / "config.json").write_text(json.dumps(config))
    return base


def words(runs: str, *more) -> list[str]:
    words = ["news", "--model", "bert", "--device", "cpu", "--dtype", "float32", "--max-length", 48, "--batch-size", 16]
    words += ["--epochs", 2, "--lr-scale", 100, "--class-weight", "balanced", "--runs-dir", runs, *more]
    return [str(word) for word in words]


def start(ranks: int, base: Path, trouble: str, *more, where="") -> Ranks:
    place = f"os.chdir({where or repr(str(base))})\n"
    return Ranks(ranks, "finetune", words("runs", *more), base, DRIVER + place + trouble)


def test_killed_and_stopped_and_gone_on_with_by_another_number_of_ranks_it_trains_as_one_process_does(
    base, capsys, monkeypatch
):
    monkeypatch.chdir(base)
    assert finetune.main(words("alone")) == 0
    alone, run = base / "alone" / "B4C3-x100", base / "runs" / "B4C3-x100"
    wanted = read_json(alone / "run.json")
    capsys.readouterr()

    status, out, log = start(2, base, "rank == 1 and at_step(9, lambda: os.kill(os.getpid(), signal.SIGKILL))").ended()
    assert status != 0
    assert out == ""
    assert len(re.findall("rank is gone: run the same command again|finetune.py: interrupted", log)) == 1  # whatever came first
    assert "Traceback" not in log
    (first,) = epochs(run)

    stop = "rank or at_step(7, lambda: os.kill(agent, signal.SIGTERM))"  # torchrun's, which passes it on
    ranks = start(3, base, stop, "--resume", "--checkpoint-minutes", 0)
    status, out, log = ranks.ended()
    assert status != 0
    assert out == ""
    assert log.count("finetune.py: interrupted") == 1
    assert "agent: SignalException" in log
    assert "Traceback" not in log
    assert f"continuing from step {wanted['steps'] // 2}" in log
    assert read_json(run / "run.json")["status"] == "interrupted"

    for file in base.glob("scored *"):
        file.unlink()
    status, out, log = start(2, base, "", "--resume").ended()
    assert status == 0, log
    assert out.count("run: ") == 1
    assert re.search("continuing from step [6-9]", log)  # wherever the signal met it
    assert [path.name for path in (base / "runs").iterdir() if path.is_dir()] == ["B4C3-x100"]
    both = epochs(run)
    assert both[0] == first
    for got, expected in zip(both, epochs(alone), strict=True):
        assert got["train_loss"] == pytest.approx(expected["train_loss"], abs=1e-5)
        assert got["val_accuracy"] == expected["val_accuracy"]
    record = read_json(run / "run.json")
    assert record["status"] == "complete"
    assert (record["steps"], record["n_test"]) == (wanted["steps"], wanted["n_test"])
    assert sum(map(sum, record["confusion"])) == record["n_test"]
    assert record["micro_batch_used"] == 3  # what fits on the rank with the least memory
    shares = [dict(line.rsplit(" ", 1) for line in file.read_text().splitlines()) for file in base.glob("scored *")]
    assert len(shares) == 2
    for label, documents in {"scoring val": record["n_val"], "scoring test": record["n_test"]}.items():
        assert all(0 < int(share[label]) < documents for share in shares)
        assert sum(int(share[label]) for share in shares) == documents


@pytest.mark.parametrize("what", DIFFERENT)
def test_a_corpus_or_model_that_differs_on_one_machine_is_a_line_from_rank_0(what, base, tmp_path):
    said = refused_by_rank_1(start(2, base, "", where=two_machines(base, tmp_path, what)), what)
    assert {"news": "the corpus differs from rank 0's", "bert": "the model differs from rank 0's"}.get(what, "") in said
