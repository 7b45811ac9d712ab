import json

import numpy as np
import pytest
import torch

import twostage as ts
from tests.conftest import read_json, run_script
from tests.head_caches import ENCODER, make_cache
from tests.heads.test_sweep import run_train_head
from twostage.cache.reader import open_cache
from twostage.errors import BadInput
from twostage.models.head import load_head
from twostage.recipes import THUCNEWS_CLASSES


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache") / "news.h5")


def test_without_options_the_four_recipes_run_and_their_table_is_printed(cache, tmp_path, capsys):
    status, out, err = run_train_head(capsys, cache, "--runs-dir", tmp_path)
    assert status == 0
    lines = out.splitlines()
    assert lines[1].split() == ["epoch", "1C3", "1C4", "3C4", "3C4-big"]
    assert lines[-4:] == [f"run: {tmp_path / name}" for name in ("1C3", "1C4", "3C4", "3C4-big")]
    record = read_json(tmp_path / "1C3" / "run.json")
    facts = {
        "schema": 1, "status": "complete", "recipe": "1C3", "head": "1C", "head_lr": 1e-4, "encoder_lr": None, "seed": 0,
        "batch_size": 64, "weight_decay": 0.0, "lr_scale": 1.0, "activation": "relu", "class_weight": "none",
        "n_train": 480, "n_val": 60, "n_test": 60, "steps": 8 * 8, "encoder": ENCODER, "label_names": list(THUCNEWS_CLASSES[:4]),
        "fingerprint": open_cache(cache).fingerprint,
    }  # fmt: skip
    assert {k: record[k] for k in facts} == facts
    assert [e["epoch"] for e in record["epochs"]] == list(range(1, 9))
    assert set(record["epochs"][0]) >= {"train_loss", "val_accuracy", "val_macro_f1", "seconds", "eval_seconds"}
    low, high = record["test_accuracy_ci95"]
    assert low <= record["test_accuracy"] <= high and record["peak_memory_bytes"] > 0 and record["wall_seconds"] > 0
    assert (tmp_path / "report.html").is_file() and (tmp_path / "results.csv").is_file()
    lines = (tmp_path / "1C3" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, 9))


def test_the_saved_head_gives_the_saved_predictions_and_the_printed_accuracy(cache, tmp_path, capsys):
    run_train_head(capsys, cache, "--head", "3C", "--lr", "1e-2", "--epochs", 6, "--runs-dir", tmp_path)
    run = tmp_path / "3C-lr0.01"
    head, config = load_head(run / "head")
    vectors = open_cache(cache).vectors(split="test", out_dtype="float32")
    with torch.no_grad():
        probabilities = head(torch.from_numpy(vectors)).softmax(1).numpy()
    saved, record = np.load(run / "predictions.npz"), read_json(run / "run.json")
    assert np.allclose(saved["probabilities"], probabilities, atol=1e-6)
    assert (saved["digest"] == open_cache(cache).digest[open_cache(cache).split_of == 2]).all()
    assert record["test_accuracy"] == pytest.approx((saved["predicted"] == saved["label"]).mean())
    assert config["encoder"] == ENCODER and config["label_names"] == record["label_names"] and config["hidden_size"] == 16


def test_published_columns_stand_beside_ours_only_for_the_14_classes_of_thucnews(tmp_path, capsys):
    cache = make_cache(tmp_path / "thucnews.h5", names=THUCNEWS_CLASSES)
    status, out, err = run_train_head(capsys, cache, "--recipe", "1C4", "3C4", "--runs-dir", tmp_path / "a")
    assert out.splitlines()[1].split() == ["epoch", "1C4", "published", "3C4", "published"]
    assert out.splitlines()[3].split()[2::2] == ["0.219", "0.578"] and "multiple of 1/64" in out
    other = make_cache(tmp_path / "other.h5", names=(*THUCNEWS_CLASSES[:13], "other"))
    status, out, err = run_train_head(capsys, other, "--recipe", "1C4", "--runs-dir", tmp_path / "b")
    assert out.splitlines()[1].split() == ["epoch", "1C4"] and "1/64" not in out


def test_a_scale_is_in_the_name_and_a_taken_name_is_not_overwritten(cache, tmp_path, capsys):
    for _ in range(2):
        status, out, err = run_train_head(capsys, cache, "--recipe", "1C4", "--lr-scale", 100, "--runs-dir", tmp_path)
    assert f"run: {tmp_path / '1C4-x100-2'}" in out
    record = read_json(tmp_path / "1C4-x100" / "run.json")
    assert record["head_lr"] == 1e-3 and record["lr_scale"] == 100 and record["recipe"].startswith("1C4")


def test_several_seeds_are_trials_of_one_run_with_mean_and_spread(cache, tmp_path, capsys):
    status, out, err = run_train_head(capsys, cache, "--recipe", "1C3", "--seeds", 3, "--runs-dir", tmp_path)
    record = read_json(tmp_path / "1C3" / "run.json")
    assert [t["seed"] for t in record["trials"]] == [0, 1, 2] and record["seed"] in (0, 1, 2)
    assert "±" in out.splitlines()[3] and "standard deviation over seeds" in out


def test_the_same_seed_gives_the_same_bits_whatever_else_is_trained(cache, tmp_path, capsys):
    run_train_head(capsys, cache, "--runs-dir", tmp_path / "a")
    run_train_head(capsys, cache, "--recipe", "3C4", "--runs-dir", tmp_path / "b")
    run_train_head(capsys, cache, "--recipe", "3C4", "--seed", 1, "--runs-dir", tmp_path / "c")
    a, b, c = ((tmp_path / name / "3C4" / "head" / "head.safetensors").read_bytes() for name in "abc")
    assert a == b != c


def test_class_weights_change_the_training(cache, tmp_path, capsys):
    label = np.minimum(np.arange(600) % 10, 1) * (np.arange(600) % 3)
    uneven = make_cache(tmp_path / "uneven.h5", names=("甲", "乙", "丙"), label=label)
    for weight in ("none", "balanced"):
        status, *_ = run_train_head(
            capsys, uneven, "--lr", "1e-2", "--epochs", 3, "--class-weight", weight, "--runs-dir", tmp_path / weight
        )
        assert status == 0
    losses = [read_json(tmp_path / w / "1C-lr0.01" / "run.json")["epochs"][0]["train_loss"] for w in ("none", "balanced")]
    assert losses[0] != losses[1]


def test_a_batch_larger_than_train_and_a_class_that_train_lacks_are_handled_and_said(tmp_path, capsys):
    split = np.where(np.arange(60) % 4 == 3, 1, np.arange(60) % 3)  # the fourth class is never in train
    cache = make_cache(tmp_path / "small.h5", n=60, split=split.astype(np.uint8))
    status, out, err = run_train_head(capsys, cache, "--recipe", "1C3", "--runs-dir", tmp_path / "runs")
    assert status == 0 and "no training document is labelled" in err and "smaller than a batch" in err
    assert read_json(tmp_path / "runs" / "1C3" / "run.json")["steps"] == 8


BAD = [
    (["--seed", "99999999999999999999"], ["--seed must be at most 2,147,483,647"]),
    (["--sweep", "--seeds", "100000"], ["--seeds must be at most 10,000"]),
    (["--recipe", "1C5"], ("1C5", "1C3, 1C4", "zeros")),
    (["--recipe", "B4C3"], ("finetune.py",)),
    (["--lr", "0"], ("learning rate",)),
    (["--lr", "-1e-3"], ("--lr",)),
    (["--lr", "nan"], ("learning rate",)),
    (["--lr", "1e9"], ("learning rate", "at most")),
    (["--sweep", "--lr"], ("--lr",)),
    (["--head", "1C"], ("--lr X", "--sweep")),
    (["--recipe", "1C3", "--lr", "1e-3"], ("--lr-scale",)),
    (["--lr-scale", "1e9"], ("--lr-scale 1e+09 gives 1C3 a learning rate of 100000: give one from 1e-12",)),
    (["--sweep", "--lr-scale", "100"], ("--lr-scale", "--recipe")),
    (["--sweep", "--epochs", "0"], ("--epochs",)),
    (["--device", "nonsense"], ("nonsense",)),
]


@pytest.mark.parametrize("args, parts", BAD, ids=[" ".join(a) for a, _ in BAD])
def test_bad_options_are_refused_in_one_line(args, parts, cache, tmp_path, capsys):
    try:
        status, out, err = run_train_head(capsys, cache, *args, "--runs-dir", tmp_path / "runs")
    except SystemExit as stop:
        status, (out, err) = stop.code, capsys.readouterr()
    assert status == 2 and out == "" and len(err.strip().splitlines()) <= 2
    assert all(part in err.splitlines()[-1] for part in parts), err
    assert not (tmp_path / "runs").exists()


def test_bad_caches_are_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "text.h5").write_text("not a cache")
    one = make_cache(tmp_path / "one.h5", n=40, label=np.zeros(40, int))
    no_val = make_cache(tmp_path / "noval.h5", n=40, split=(np.arange(40) % 2 * 2).astype(np.uint8))
    no_test = make_cache(tmp_path / "notest.h5", n=40, split=(np.arange(40) % 2).astype(np.uint8))
    for path, part in [
        (tmp_path / "text.h5", "text.h5"), (tmp_path / "absent.h5", "absent.h5"), (one, "at least two classes"),
        (no_val, "val split is empty"), (no_test, "test split is empty"),
    ]:  # fmt: skip
        status, out, err = run_train_head(capsys, path, "--runs-dir", tmp_path / "runs")
        assert status == 2 and out == "" and part in err.splitlines()[-1] and len(err.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_several_caches_and_none_given_is_a_list_to_choose_from(tmp_path, capsys):
    make_cache(tmp_path / "a.h5", n=40)
    make_cache(tmp_path / "b.h5", n=40)
    status, out, err = run_train_head(capsys, "--cache-dir", tmp_path, "--runs-dir", tmp_path / "runs")
    assert status == 2 and "a.h5" in err and "b.h5" in err


def test_a_runs_folder_that_cannot_be_written_is_refused_before_training(cache, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for folder in ("file", "file/runs"):
        status, out, err = run_train_head(capsys, cache, "--runs-dir", tmp_path / folder)
        assert status == 2 and out == "" and "--runs-dir" in err.splitlines()[-1]
    assert (tmp_path / "file").read_text() == ""


def test_a_cache_swallowed_by_the_recipes_is_explained(capsys):
    status, out, err = run_train_head(capsys, "--recipe", "1C3", "cache/a.h5")
    assert status == 2 and "give it before --recipe" in err


def test_help_needs_neither_torch_nor_numpy():
    code = "import sys, train_head; train_head.build_parser().format_help(); print({'torch', 'numpy'} & set(sys.modules))"
    assert run_script("-c", code).stdout == "set()\n"


def test_ctrl_c_and_a_recipe_that_fails_leave_the_table_of_those_complete(cache, tmp_path, capsys, monkeypatch):
    from twostage.heads import training

    def interrupted(self, *args, **kwargs):
        if self.trials[0].head == "3C":
            raise KeyboardInterrupt
        return fit(self, *args, **kwargs)

    fit = training.HeadBank.fit
    monkeypatch.setattr(training.HeadBank, "fit", interrupted)
    status, out, err = run_train_head(capsys, cache, "--runs-dir", tmp_path / "stopped")
    assert status == 130 and out.splitlines()[1].split() == ["epoch", "1C3", "1C4"]
    monkeypatch.undo()
    status, out, err = run_train_head(
        capsys, cache, "--lr", "1e-3", "900", "--weight-decay", "1000", "--runs-dir", tmp_path / "wild"
    )
    assert status == 2 and out.splitlines()[1].split() == ["epoch", "1C-lr0.001"]
    assert "give a lower --lr than 900" in err.splitlines()[-1]


def test_a_rate_that_moves_no_weight_is_refused_by_the_script_and_by_the_calls(cache, tmp_path, capsys):
    for more in (["--lr", "1e-300"], ["--sweep", "--lr", "1e-3", "1e-200"]):
        with pytest.raises(SystemExit) as stop:
            run_train_head(capsys, cache, *more, "--runs-dir", tmp_path)
        assert stop.value.code == 2
    assert run_train_head(capsys, cache, "--lr-scale", "1e-20", "--runs-dir", tmp_path)[0] == 2
    for call, more in ((ts.train, {"lr": 1e-300}), (ts.sweep, {"lr": [1e-3, -1.0]}), (ts.train, {"lr_scale": float("nan")})):
        with pytest.raises(BadInput, match="give one from 1e-12, below which no weight moves, to 1000"):
            call(cache, **more, runs_dir=tmp_path)
    with pytest.raises(BadInput, match="give one from 1e-12"):
        ts.finetune("demo", encoder_lr=1e-300, runs_dir=tmp_path)
    assert not list(tmp_path.iterdir())
