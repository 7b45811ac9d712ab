"""Fine-tuning: the recipes to the letter, memory that changes nothing else, heads kept, bad input refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import finetune
from tests.conftest import ROOT, expect_refusal, make_bert, make_tree, read_json, run_script
from twostage.encoder.encoder import load_bert, load_tokenizer
from twostage.encoder.products import batches_by_onednn
from twostage.errors import BadInput
from twostage.finetuning.batches import global_batches
from twostage.finetuning.dataset import TokenRows
from twostage.finetuning.fit_memory import _bytes_kept, _kept_by
from twostage.finetuning.lean_bert import make_lean
from twostage.finetuning.parts import TrainingPlan, prepare
from twostage.finetuning.trainer import FineTuner
from twostage.models.classifier import join, load_classifier, save_classifier
from twostage.models.head import build_head, save_head
from twostage.runs.folder import create_run
from twostage.runs.scores import save_predictions, score_test

NAMES = ["体育", "财经", "科技"]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def still_bert(tmp_path_factory) -> Path:
    """A tiny BERT without dropout."""
    folder = make_bert(tmp_path_factory.mktemp("still") / "bert")
    config = read_json(folder / "config.json")
    config["hidden_dropout_prob"] = config["attention_probs_dropout_prob"] = 0.0
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def news(tmp_path_factory) -> Path:
    return make_tree(tmp_path_factory.mktemp("news") / "news", per_class=30)


def random_rows(n: int, seed: int = 0) -> TokenRows:
    rng = np.random.default_rng(seed)
    counts = rng.integers(3, 40, n)
    ids = rng.integers(5, 300, counts.sum()).astype(np.uint16)
    return TokenRows(ids, np.concatenate([[0], np.cumsum(counts)]), rng.integers(0, 3, n).astype(np.int32))


def plan_of(**changes) -> TrainingPlan:
    given = {
        "encoder_lr": 1e-3, "head_lr": 1e-2, "epochs": 1, "batch_size": 16, "micro_batch": 16, "seed": 5, "device": CPU,
        "dtype": torch.float32,
    }  # fmt: skip
    return TrainingPlan(**given | changes)


def tuned(bert: Path, folder: Path, plan: TrainingPlan, n: int = 70, head: str = "1C") -> FineTuner:
    """Train on random rows (70: four full batches and one of 6) and give the tuner; its model holds the best epoch."""
    model = join(load_bert(bert), build_head(head, 32, 3, "relu", plan.seed), head, "relu", NAMES)
    tuner = FineTuner(model, plan, random_rows(n), random_rows(20, 1), 0, create_run(folder, "x", {}))
    tuner.fit()
    return tuner


def hand_written_epoch(bert: Path, plan: TrainingPlan, n: int = 70):
    """The recipe as a plain torch loop: Adam, a mean loss over each global batch, nothing else."""
    encoder, head = load_bert(bert).requires_grad_(True).train(), build_head("1C", 32, 3, "relu", plan.seed)
    groups = [{"params": encoder.parameters(), "lr": plan.encoder_lr}, {"params": head.parameters(), "lr": plan.head_lr}]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.999), eps=1e-8)
    rows = random_rows(n)
    for documents in global_batches(rows.length, plan.batch_size, plan.seed, 1):
        batch = rows.batch(documents.tolist(), 0)
        labels = batch.pop("labels")
        logits = head(encoder(**batch).last_hidden_state[:, 0])
        loss = torch.nn.functional.cross_entropy(logits, labels, weight=plan.class_weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return encoder, head


def largest_difference(one, other) -> float:
    return max((a - b).abs().max().item() for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("weight", [None, torch.tensor([0.5, 1.0, 4.0])])
def test_an_epoch_equals_a_hand_written_loop(weight, still_bert, tmp_path):
    plan = plan_of(class_weight=weight)
    model = tuned(still_bert, tmp_path, plan).model
    encoder, head = hand_written_epoch(still_bert, plan)
    assert largest_difference(model.bert, encoder) < 2e-5
    assert largest_difference(model.head, head) < 2e-5
    assert largest_difference(model.bert, load_bert(still_bert)) > 1e-3  # it did train


def test_memory_options_change_nothing_but_memory(still_bert, tmp_path):
    weight = torch.tensor([0.5, 1.0, 4.0])
    plain = tuned(still_bert, tmp_path, plan_of(class_weight=weight), n=38).model
    for changes in ({"micro_batch": 5}, {"micro_batch": 1}, {"activation_checkpointing": True}):
        other = tuned(still_bert, tmp_path, plan_of(class_weight=weight, **changes), n=38).model
        # float32 sums in a different order: Adam makes a whole step of 1e-3 of a tiny gradient, so not to the last bit
        assert largest_difference(plain, other) < 5e-5, changes


def test_with_dropout_too_checkpointing_changes_nothing_but_memory(tiny_bert):
    batch, gradients = random_rows(9).batch([3, 5, 7], 0), []
    for checkpointing in (False, True):
        model = join(load_bert(tiny_bert), build_head("1C", 32, 3), "1C", "relu", NAMES)
        prepare(model, plan_of(activation_checkpointing=checkpointing))
        assert model.lean and model.bert.config.hidden_dropout_prob > 0
        torch.manual_seed(3)
        logits = model.train()(batch["input_ids"], batch.get("attention_mask")).logits
        torch.nn.functional.cross_entropy(logits, batch["labels"]).backward()
        gradients.append([p.grad for p in model.parameters()])
    for plain, again in zip(*gradients, strict=True):
        assert torch.allclose(plain, again, atol=1e-7)


def test_lean_bert_has_the_same_cls_and_the_same_gradients(still_bert):
    plain, lean = load_bert(still_bert).requires_grad_(True), load_bert(still_bert).requires_grad_(True)
    assert make_lean(lean)
    for padded in (False, True):
        batch = random_rows(9).batch([3, 5, 7] if padded else [3], 0)
        vectors = [bert(batch["input_ids"], batch.get("attention_mask")).last_hidden_state[:, 0] for bert in (plain, lean)]
        assert torch.allclose(*vectors, atol=1e-6)
        for one in vectors:
            one.pow(3).sum().backward()
    for (name, a), b in zip(plain.named_parameters(), lean.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-4, rtol=1e-4), name


def test_the_widest_tensor_of_a_layer_is_kept_once_for_the_way_back(still_bert):
    plan = plan_of()
    plain, lean = (join(load_bert(still_bert), build_head("1C", 32, 3), "1C", "relu", NAMES) for _ in range(2))
    plain.bert.requires_grad_(True)
    prepare(lean, plan)
    for layer in lean.bert.encoder.layer[:-1]:  # all but the last, which sees [CLS] alone
        assert isinstance(layer.intermediate.intermediate_act_fn, torch.nn.Identity)
    tokens, wide = 50, 4 * 32
    saved = _kept_by(plain, plan, 2, tokens) - _kept_by(lean, plan, 2, tokens)
    assert saved >= 2 * tokens * wide * 4 + 2 * (tokens - 1) * wide * 4  # GELU of layer one; all but [CLS] of layer two


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_for_many_documents_is_foretold_from_one_and_two(dtype, still_bert):
    plan = plan_of(dtype=dtype)
    model = join(load_bert(still_bert), build_head("1C", 32, 3), "1C", "relu", NAMES)
    prepare(model, plan)
    fixed, each = _bytes_kept(model, plan, 50, 10**9)
    kept = _kept_by(model, plan, 12, 50)
    assert kept <= fixed + 12 * each < 1.1 * kept  # a little more: documents beside others need a mask
    assert (fixed > 0) == (dtype == torch.bfloat16)  # copies of the weights
    assert _bytes_kept(model, plan, 50, 0) == (0, _kept_by(model, plan, 1, 50))


def test_a_frozen_classifier_stays_bit_identical_and_a_frozen_encoder_too(tiny_bert, tmp_path):
    start = build_head("1C", 32, 3, "relu", 5)
    model = tuned(tiny_bert, tmp_path, plan_of(head_lr=None)).model
    assert all(torch.equal(a, b) for a, b in zip(model.head.parameters(), start.parameters(), strict=True))
    assert largest_difference(model.bert, load_bert(tiny_bert)) > 1e-3

    model = tuned(tiny_bert, tmp_path, plan_of(encoder_lr=None), head="3C").model
    assert all(torch.equal(a, b) for a, b in zip(model.bert.parameters(), load_bert(tiny_bert).parameters(), strict=True))
    assert not model.train().bert.training  # no dropout either


def test_weight_decay_spares_biases_and_layer_norms(tiny_bert, tmp_path):
    tuner = tuned(tiny_bert, tmp_path, plan_of(weight_decay=0.1), n=16)
    decayed = {id(p) for group in tuner.optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    for name, p in tuner.model.named_parameters():
        assert (id(p) in decayed) == (not name.endswith("bias") and "LayerNorm" not in name), name
    assert {group["lr"] for group in tuner.optimizer.param_groups} == {1e-3, 1e-2}


def test_a_run_that_diverges_is_stopped_and_says_why(tiny_bert, tmp_path):
    with pytest.raises(BadInput, match="no longer a number in epoch 1: lower the learning rates"):
        tuned(tiny_bert, tmp_path, plan_of(encoder_lr=1e30, head_lr=1e30))


@pytest.mark.parametrize("reason", [KeyboardInterrupt(), OSError(5, "Input/output error"), torch.OutOfMemoryError()])
def test_the_reason_that_ended_a_run_is_told_and_not_that_it_diverged_as_well(tiny_bert, tmp_path, reason, monkeypatch):
    def train(tuner, **_):
        tuner.sums += torch.nan
        raise reason

    monkeypatch.setattr(FineTuner, "train", train)
    with pytest.raises(type(reason)):
        tuned(tiny_bert, tmp_path, plan_of())


def test_rates_rise_over_the_warmup_and_are_constant_otherwise(tiny_bert, tmp_path):
    for fraction, expected in ((0.0, [1e-2] * 5), (0.4, [0.0, 5e-3, 1e-2, 1e-2, 1e-2])):
        tuner = tuned(tiny_bert, tmp_path, plan_of(warmup_fraction=fraction))
        factor = tuner.lr_scheduler.lr_lambdas[1]
        assert [1e-2 * factor(step) for step in range(5)] == pytest.approx(expected)


def test_train_loss_is_the_mean_over_documents_and_dropout_is_on(still_bert, tiny_bert, tmp_path):
    plan = plan_of(encoder_lr=1e-12, head_lr=None)  # nothing moves: the loss of the start
    tuner = tuned(still_bert, tmp_path, plan)
    rows = tuner.rows
    with torch.no_grad():
        losses = [
            torch.nn.functional.cross_entropy(tuner.model.eval()(b["input_ids"]).logits, b["labels"]).item()
            for b in (rows.batch([i], 0) for i in range(len(rows)))
        ]
    assert tuner.so_far.epochs[0]["train_loss"] == pytest.approx(np.mean(losses), abs=1e-5)
    noisy = tuned(tiny_bert, tmp_path, plan)
    assert abs(noisy.so_far.epochs[0]["train_loss"] - np.mean(losses)) > 1e-5


@pytest.mark.parametrize("head", ["1C", "3C", "3C-big"])
@pytest.mark.parametrize("pooling", ["cls", "pooler", "mean"])
def test_a_saved_classifier_gives_the_same_logits(head, pooling, tiny_bert, tmp_path):
    bert, tokenizer = load_bert(tiny_bert, pooler=pooling == "pooler"), load_tokenizer(tiny_bert)
    module = build_head(head, 32, 3, "gelu", 1)
    model = join(bert, module, head, "gelu", NAMES, pooling).eval()
    about = {"head": head, "activation": "gelu", "pooling": pooling, "max_length": 20, "truncation": "tail"}
    save_classifier(bert, module, NAMES, tokenizer, tmp_path / "m", about)
    assert not list((tmp_path / "m").glob("*.bin"))
    loaded, again, names, settings = load_classifier(tmp_path / "m")
    batch = tokenizer(["的一是了我不人在", "球赛票房"], padding=True, return_tensors="pt")
    with torch.no_grad():
        assert torch.allclose(model(**batch).logits, loaded(**batch).logits, atol=2e-6)
    assert names == NAMES
    assert settings["pooling"] == pooling
    assert (again.model_max_length, again.truncation_side) == (20, "left")


def arguments(news, bert, runs, *more) -> list[str]:
    return [str(one) for one in (
        news, "--model", bert, "--max-length", 48, "--device", "cpu", "--dtype", "float32", "--runs-dir", runs,
        "--batch-size", 16, *more,
    )]  # fmt: skip


def frozen_run(runs: Path, encoder: dict, names=tuple(NAMES), head="1C", digest=None, label=None) -> Path:
    """A finished head run, as train_head.py leaves it: a seeded head and chance predictions on the given test documents."""
    digest = np.zeros((4, 32), np.uint8) if digest is None else digest
    label = np.zeros(4, np.int32) if label is None else label
    probabilities = np.full((len(label), len(names)), 1 / len(names), np.float32)
    settings = {
        "recipe": "1C3",
        "head": head,
        "encoder_lr": None,
        "head_lr": 1e-4,
        "label_names": list(names),
        "encoder": encoder,
    }
    with create_run(runs, "1C3", settings) as run:
        module = build_head(head, 32, len(names), "relu", 9)
        config = {"head": head, "hidden_size": 32, "activation": "relu", "label_names": list(names), "encoder": encoder}
        save_head(run.path / "head", module, config)
        save_predictions(run.path, digest, label, probabilities)
        epochs = [{"epoch": 1, "train_loss": 1.0, "val_accuracy": 0.3, "val_macro_f1": 0.2, "seconds": 0.1}]
        run.finish(
            **score_test(label, probabilities.argmax(1), list(names)), epochs=epochs, best_epoch=1, steps=3,
            n_train=9, n_val=9, n_test=len(label), wall_seconds=0.5,
        )  # fmt: skip
    return run.path


@pytest.fixture(scope="module")
def three_recipes(tiny_bert, news, tmp_path_factory):
    """All three recipes in one call, beside a frozen run that was scored on the same documents."""
    runs = tmp_path_factory.mktemp("finetune") / "runs"
    import contextlib
    import io

    from twostage.corpus.reader import read_corpus

    corpus = read_corpus(news)
    test = corpus.split == 2
    frozen_run(runs, {}, corpus.label_names, digest=corpus.digest[test], label=corpus.label[test])
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        finetune.main(arguments(news, tiny_bert, runs, "--recipe", "B4C3", "B4C4", "B4", "--epochs", 2, "--lr-scale", 10))
    return runs, out.getvalue(), corpus


def test_the_recipes_train_their_parts_at_their_rates(three_recipes, tiny_bert):
    runs, _, corpus = three_recipes
    rates = {"B4C3-x10": (1e-4, 1e-3), "B4C4-x10": (1e-4, 1e-4), "B4-x10": (1e-4, None)}
    for name, expected in rates.items():
        record = read_json(runs / name / "run.json")
        assert (record["encoder_lr"], record["head_lr"]) == expected
        assert (record["recipe"], record["lr_scale"], record["status"]) == (name, 10, "complete")
    start = build_head("1C", 32, 3, "relu", 0)[0]
    model, _, _, settings = load_classifier(runs / "B4-x10" / "model")
    assert torch.equal(model.head[0].weight, start.weight / settings["temperature"])  # but for that bit-identical
    assert torch.equal(model.head[0].bias, start.bias / settings["temperature"])


def test_run_json_holds_the_promised_keys(three_recipes):
    runs, _, corpus = three_recipes
    record = read_json(runs / "B4C3-x10" / "run.json")
    assert record["schema"] == 1
    assert (record["n_train"], record["n_val"], record["n_test"]) == tuple(np.bincount(corpus.split).tolist())
    assert record["steps"] == 2 * -(-record["n_train"] // 16)
    assert [sorted(epoch) for epoch in record["epochs"]] == [
        ["epoch", "seconds", "train_loss", "val_accuracy", "val_macro_f1"]
    ] * 2
    accuracies = [epoch["val_accuracy"] for epoch in record["epochs"]]
    assert record["best_epoch"] == accuracies.index(max(accuracies)) + 1
    assert record["encoder"]["pooling"] == "cls"
    for key in (
        "test_accuracy_ci95",
        "test_macro_f1",
        "per_class",
        "confusion",
        "wall_seconds",
        "peak_memory_bytes",
        "versions",
    ):
        assert record[key], key
    lines = (runs / "B4C3-x10" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == record["epochs"]


def test_predictions_are_those_of_the_saved_model(three_recipes, tiny_bert):
    runs, _, corpus = three_recipes
    found = np.load(runs / "B4C3-x10" / "predictions.npz")
    test = np.flatnonzero(corpus.split == 2)
    assert np.array_equal(found["digest"], corpus.digest[test])
    model, tokenizer, names, settings = load_classifier(runs / "B4C3-x10" / "model")
    assert names == corpus.label_names
    for row, text in enumerate(corpus.texts(test)):
        batch = tokenizer(text, truncation=True, max_length=settings["max_length"], return_tensors="pt")
        with torch.no_grad():
            expected = (model(**batch).logits * settings["temperature"]).softmax(1)[0].numpy()
        assert found["probabilities"][row] == pytest.approx(expected, abs=1e-5)


def test_an_export_of_a_fine_tuned_run_is_calibrated_as_predict_is(three_recipes, tmp_path):
    from twostage.export import export
    from twostage.models.saved import load_folder, load_run

    runs, _, corpus = three_recipes
    run = runs / "B4C3-x10"
    record, texts = read_json(run / "run.json"), corpus.texts(np.flatnonzero(corpus.split == 2))
    temperature = record["calibration"]["temperature"]
    assert temperature != 1 and record["calibration"]["n_val"] == record["n_val"]
    loaded = [
        load_run(run, dtype="float32", device="cpu"),
        load_folder(export(run, tmp_path / "out"), dtype="float32", device="cpu"),
    ]
    by_predict, by_export = (one.probabilities(texts) for one in loaded)
    for one in loaded:
        one.close()
    saved = np.load(run / "predictions.npz")
    calibrated = saved["probabilities"].astype(float) ** (1 / temperature)
    assert np.abs(calibrated / calibrated.sum(1, keepdims=True) - by_predict).max() < 1e-4
    assert np.abs(by_export - by_predict).max() < 1e-5 and (by_export.argmax(1) == saved["predicted"]).all()


def test_transformers_own_pipeline_reads_the_model(three_recipes):
    from transformers import pipeline

    runs, _, corpus = three_recipes
    text = corpus.texts(np.flatnonzero(corpus.split == 2)[:1])[0]
    answer = pipeline("text-classification", model=str(runs / "B4C3-x10" / "model"))(text, truncation=True)[0]
    with np.load(runs / "B4C3-x10" / "predictions.npz") as saved:
        first = saved["probabilities"][0].astype(float) ** (1 / saved["temperature"])  # as predict gives it
    first /= first.sum()
    assert answer["label"] == corpus.label_names[first.argmax()]
    assert answer["score"] == pytest.approx(first.max(), abs=1e-5)


def test_standard_output_is_the_table_the_comparison_and_the_runs(three_recipes):
    runs, out, _ = three_recipes
    lines = out.strip().split("\n")
    assert [line for line in lines if line.startswith("run: ")] == [
        f"run: {runs / n}" for n in ("B4C3-x10", "B4C4-x10", "B4-x10")
    ]
    assert lines[-1].startswith("run: ")
    assert any(line.split()[:1] == ["epoch"] and "B4C4-x10" in line for line in lines)
    assert sum("fine-tuning: " in line for line in lines) == 3


def test_frozen_and_fine_tuned_stand_side_by_side_on_the_same_documents(three_recipes):
    from twostage.metrics import mcnemar

    runs, _, corpus = three_recipes
    found = read_json(runs / "B4C4-x10" / "run.json")["against_frozen"]
    right = []
    for name in ("1C3", "B4C4-x10"):
        saved = np.load(runs / name / "predictions.npz")
        right.append(saved["label"] == saved["predicted"])
    assert found["frozen"]["run"] == "1C3"
    assert found["mcnemar_p"] == pytest.approx(mcnemar(*right))
    assert found["points_gained"] == pytest.approx(100 * (right[1].mean() - right[0].mean()))
    extra = found["tuned"]["seconds"] - found["frozen"]["seconds"]
    assert extra <= 0 or found["points_per_minute"] == pytest.approx(found["points_gained"] / (extra / 60))


def encoder_of(bert: Path, **changes) -> dict:
    from twostage.encoder.settings import encoder_settings

    given = {"max_length": 48, "truncation": "head", "pooling": "cls", "compute_dtype": "bfloat16"}
    return encoder_settings(bert, **given | changes)


def test_a_trained_head_is_the_start_and_keeps_its_labels_by_name(tiny_bert, news, tmp_path, capfd):
    theirs = ["财经", "科技", "体育"]  # another order than the corpus has
    head = frozen_run(tmp_path / "runs", encoder_of(tiny_bert), theirs)
    finetune.main(arguments(news, tiny_bert, tmp_path / "runs", "--recipe", "B4", "--init-head", head, "--epochs", 1))
    run = tmp_path / "runs" / "B4-from-1C3"
    model, _, names, settings = load_classifier(run / "model")
    start = build_head("1C", 32, 3, "relu", 9)[0]
    for row, name in enumerate(names):
        assert torch.equal(model.head[0].weight[row], start.weight[theirs.index(name)] / settings["temperature"])
    said = capfd.readouterr().err
    record = read_json(run / "run.json")
    assert f"test accuracy {record['test_accuracy']:.4f}; the head that it started from" in said
    assert record["init_head"]["run"] == "1C3"


def test_heads_that_do_not_fit_are_refused(tiny_bert, tmp_path):
    from twostage.finetuning.init_head import start_head

    ours = encoder_of(tiny_bert)
    runs = tmp_path / "runs"
    other = frozen_run(runs, encoder_of(tiny_bert, max_length=32))
    with pytest.raises(BadInput, match="max_length: head 32, asked 48"):
        start_head(other, "1C", ours, NAMES)
    deep = frozen_run(runs, ours, head="3C")
    with pytest.raises(BadInput, match="its head is 3C, but 1C is asked for"):
        start_head(deep, "1C", ours, NAMES)
    strange = frozen_run(runs, ours, ["体育", "财经", "娱乐"])
    with pytest.raises(BadInput, match="only in the head 娱乐; only in the corpus 科技"):
        start_head(strange, "1C", ours, NAMES)
    with pytest.raises(BadInput, match="not a run folder"):
        start_head(tmp_path / "nowhere", "1C", ours, NAMES)


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (["--recipe", "B5"], ["unknown recipe 'B5'", "the digit is the number of zeros"]),
        (["--recipe", "1C3"], ["train_head.py --recipe 1C3"]),
        (["--recipe", "B4", "--head-lr", "1e-3"], ["--recipe brings its own"]),
        (["--head", "3C"], ["needs a rate"]),
        (["--encoder-lr", "1e-5", "--lr-scale", "10"], ["--lr-scale multiplies the rates of recipes"]),
        (["--init-head", "nowhere"], ["nowhere is not a run folder"]),
        (["--max-length", "1000"], ["--max-length 1000"]),
        (["--dtype", "float16"], ["float16 trains on a GPU only"]),
        (["--runs-dir", "/proc/nothing"], ["cannot write to /proc/nothing", "--runs-dir"]),
        (["--resume"], ["nothing to resume"]),
    ],
)
def test_bad_input_is_refused_in_a_line(more, parts, tiny_bert, news, tmp_path):
    with pytest.raises(BadInput) as refusal:
        finetune.main(arguments(news, tiny_bert, tmp_path / "runs", *more))
    assert "\n" not in str(refusal.value)
    for part in parts:
        assert part in str(refusal.value)
    assert not list((tmp_path / "runs").glob("*/run.json"))


@pytest.mark.parametrize("value", ["0", "-1e-5", "nan", "inf", "quick"])
def test_a_learning_rate_that_is_none_exits_with_2(value, capfd):
    with pytest.raises(SystemExit) as stop:
        finetune.main(["corpus", f"--encoder-lr={value}"])
    assert stop.value.code == 2
    assert "a learning rate must be a number at least 1e-12" in capfd.readouterr().err


WATCH = """
import os, runpy, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("GOMP_SPINCOUNT"), os.environ.get("ONEDNN_PRIMITIVE_CACHE_CAPACITY"))
sys.meta_path.insert(0, Watch())
sys.argv = ["finetune.py", "nowhere"]
runpy.run_path("finetune.py", run_name="__main__")
"""


@pytest.mark.parametrize("given, found", [({}, "10000 64"), ({"GOMP_SPINCOUNT": "7"}, "7 64")])
def test_waiting_threads_and_kept_kernels_are_set_before_torch_is_loaded_unless_the_user_has(given, found):
    environment = {name: value for name, value in os.environ.items() if name not in finetune.ENVIRONMENT} | given
    run = subprocess.run([sys.executable, "-c", WATCH], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 2 and run.stdout == f"{found}\n", run.stderr


def test_fine_tuning_trains_with_torch_set_for_its_float32_products(news, tiny_bert, tmp_path, monkeypatch):
    seen, fit = [], FineTuner.fit
    monkeypatch.setattr(FineTuner, "fit", lambda self: seen.append(torch.backends.mkldnn.matmul.fp32_precision) or fit(self))
    before = torch.backends.mkldnn.matmul.fp32_precision
    finetune.main(arguments(news, tiny_bert, tmp_path / "runs", "--recipe", "B4C3", "--epochs", 1))
    assert seen == ["bf16" if batches_by_onednn("cpu") else before]
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_a_split_without_documents_is_refused(tiny_bert, tmp_path):
    tree = make_tree(tmp_path / "small", classes=("体育", "财经"), per_class=1)
    with pytest.raises(BadInput, match="empty"):
        finetune.main(arguments(tree, tiny_bert, tmp_path / "runs"))


def test_the_script_refuses_without_a_traceback(tmp_path):
    expect_refusal(run_script("finetune.py", tmp_path / "nowhere"), "nowhere")


def test_on_a_cpu_auto_takes_no_more_tokens_at_once_than_its_caches_serve_well(tiny_bert):
    from twostage.finetuning import fit_memory

    model = join(load_bert(tiny_bert), build_head("1C", 32, 3), "1C", "relu", NAMES)
    plan = plan_of(batch_size=64)
    prepare(model, plan)
    assert [fit_memory.fit_micro_batch(model, plan, 32, average) for average in (20, 64, 65, 256, 5000)] == [64, 64, 32, 16, 1]


def test_too_little_memory_for_one_document_says_what_would_fit(tiny_bert, monkeypatch):
    from twostage.finetuning import fit_memory

    model = join(load_bert(tiny_bert), build_head("1C", 32, 3), "1C", "relu", NAMES)
    plan = plan_of(batch_size=64)
    prepare(model, plan)
    sizes = []
    for free in (10**9, 10_000_000, 2_500_000):
        monkeypatch.setattr(fit_memory, "available_bytes", lambda device, free=free: free)
        sizes.append(fit_memory.fit_micro_batch(model, plan, 100))
    assert sizes[0] == 64
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[1] < 64
    trained = 12 * sum(p.numel() for p in model.parameters() if p.requires_grad)
    monkeypatch.setattr(fit_memory, "available_bytes", lambda device: trained + 200_000)
    with pytest.raises(BadInput, match=r"one document of 100 tokens.*--max-length \d+ would fit.*--activation-checkpointing"):
        fit_memory.fit_micro_batch(model, plan, 100)
