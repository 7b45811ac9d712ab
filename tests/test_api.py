"""The public API: its ten names, what loading it costs, its page, and that a call leaves what its command line leaves."""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch

import twostage as ts
from tests.conftest import ROOT, calibrated, read_json, run_script
from tests.demo.test_demo import FEW_STEPS
from twostage.demo import corpus_and_bert

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
PASSING = {"created", "wall_seconds", "peak_memory_bytes", "seconds", "eval_seconds", "path", "model", "corpus"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a demo in it whose BERT is hardly pretrained."""
    folder = tmp_path_factory.mktemp("api")
    corpus_and_bert.build(folder / "cache" / "demo", per_class=30, steps=FEW_STEPS)
    return folder


def python(code: str, cwd=ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, encoding="utf-8", timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_the_names_are_ten_and_the_page_tells_of_each():
    assert len(ts.__all__) == 10 == len(set(ts.__all__))
    assert set(re.findall(r"\bts\.(\w+)", PAGE)) == set(ts.__all__)
    assert set(ts.__all__) <= set(dir(ts))
    for name in ts.__all__:
        assert getattr(ts, name).__doc__, name


def test_a_name_that_is_none_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such"):
        ts.no_such  # noqa: B018


def test_importing_it_loads_nothing_heavy():
    heavy = {"torch", "transformers", "numpy", "h5py", "pandas", "jinja2"}
    result = python(f"import twostage, sys; print(sorted({heavy} & set(sys.modules)))")
    assert result.stdout == "[]\n", result.stderr


def test_it_is_typed():
    assert (ROOT / "twostage" / "py.typed").exists()


def test_the_page_runs_on_the_demo_and_a_call_prints_nothing_of_its_own(place):
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S))
    result = python(code, cwd=place)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    said = result.stdout.split("\n")
    assert said[0].startswith("<FeatureCache cache/THUCNews-bert-")
    assert any(line.startswith("chosen on val: 1C, lr") for line in said)
    assert "(2, 14)" in result.stdout and "report.html" in result.stdout
    assert said[-2].startswith("no recipe") or "1C5" in said[-2]


def test_a_call_and_its_command_line_leave_the_same_files(place, tmp_path):
    model, tree = place / "cache" / "demo" / "bert", place / "cache" / "demo" / "THUCNews"
    common = ["--model", model, "--max-length", "32", "--dtype", "float32"]
    by_command = run_script(ROOT / "extract.py", tree, *common, cwd=tmp_path)
    assert by_command.returncode == 0, by_command.stderr
    made = tmp_path / by_command.stdout.strip()
    cache = ts.extract(tree, model=model, max_length=32, dtype="float32", cache_dir=tmp_path / "called")
    assert cache.path.name == made.name and cache.path.read_bytes() == made.read_bytes()

    swept = run_script(ROOT / "train_head.py", made, "--sweep", "--seeds", "1", "--epochs", "2", cwd=tmp_path)
    assert swept.returncode == 0, swept.stderr
    found = ts.sweep(made, seeds=1, epochs=2, runs_dir=tmp_path / "called-runs")
    assert str(found) in swept.stdout
    assert settled(read_json(tmp_path / "runs" / "sweep" / "run.json")) == settled(
        json.loads(json.dumps(read_json(found.path / "run.json")))
    )
    for name in ("head/head.safetensors", "predictions.npz"):
        assert (tmp_path / "runs" / "sweep" / name).read_bytes() == (found.path / name).read_bytes()


def settled(value):
    if isinstance(value, dict):
        return {key: settled(item) for key, item in value.items() if key not in PASSING}
    return [settled(item) for item in value] if isinstance(value, list) else value


def test_a_cache_and_a_run_show_themselves_in_a_notebook(place, tmp_path):
    cache = ts.extract(place / "cache" / "demo" / "THUCNews", model=place / "cache" / "demo" / "bert", cache_dir=tmp_path)
    X, y = cache.split("test")
    assert X.dtype == np.float16 and X.shape == (len(y), cache.hidden_size) and y.dtype == np.int32
    assert "体育" in cache._repr_html_() and f"{len(cache):,} vectors" in repr(cache)
    run = ts.train(cache, head="1C", lr=0.01, epochs=3, runs_dir=tmp_path / "runs")
    assert isinstance(run, type(ts.load_run(run.path))) and "<svg" in run._repr_html_() and "test accuracy" in repr(run)
    both = ts.train(cache, head="1C", lr=[0.01, 0.1], epochs=1, runs_dir=tmp_path / "runs")
    assert [one.record["head_lr"] for one in both] == [0.01, 0.1]


def test_predictions_of_a_loaded_run_are_those_of_its_own_test_documents(place, tmp_path):
    tree = place / "cache" / "demo" / "THUCNews"
    cache = ts.extract(
        tree, model=place / "cache" / "demo" / "bert", dtype="float32", store_dtype="float32", cache_dir=tmp_path
    )
    run = ts.train(cache, head="1C", lr=0.01, epochs=3, runs_dir=tmp_path / "runs")
    rows = np.flatnonzero(cache.split_of == 2)
    texts = [(tree / cache.sources[row]).read_text(encoding="utf-8") for row in rows]
    loaded = ts.load_run(run.path, dtype="float32")
    with np.load(run.path / "predictions.npz") as saved:
        assert np.abs(loaded.predict_proba(texts) - calibrated(saved)).max() < 1e-5
        assert loaded.predict(texts) == [loaded.classes_[i] for i in saved["predicted"]]
    assert loaded.predict_proba([]).shape == (0, 14)
    with pytest.raises(TypeError, match="list of texts"):
        loaded.predict("一段文字")
    with pytest.raises(TypeError, match="number 2 is of type NoneType"):
        loaded.predict(["一段文字", None])
    with pytest.raises(ts.BadInput, match="text number 1: half of a character"):
        loaded.predict(["\ud83d"])
    loaded.close()


def test_a_run_that_is_not_complete_is_refused(place, tmp_path):
    run = tmp_path / "1C3"
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"schema": 1, "status": "failed", "name": "1C3"}), encoding="utf-8")
    with pytest.raises(ts.BadInput, match="failed"):
        ts.load_run(run)


@pytest.mark.parametrize(
    "call, setting, told",
    [
        ("extract", {"truncation": "middle"}, "truncation='middle': give head, tail or head-tail"),
        ("extract", {"on_undecodable": "maybe"}, "on_undecodable='maybe': give fail, skip or replace"),
        ("extract", {"store_dtype": "int8"}, "store_dtype='int8': give float16 or float32"),
        ("extract", {"dtype": "float99"}, "dtype='float99'"),
        ("extract", {"max_length": 2.5}, "max_length=2.5: give a whole number of at least 3"),
        ("extract", {"tokens_per_batch": 0}, "tokens_per_batch=0: give a whole number of at least 1"),
        ("read_corpus", {"per_class": -1}, "per_class=-1: give a whole number of at least 1"),
        ("train", {"head": ["1C", "9C"]}, "head='9C': give 1C, 3C or 3C-big"),
        ("train", {"class_weight": "heavy"}, "class_weight='heavy': give none or balanced"),
        ("train", {"epochs": 0}, "epochs=0: give a whole number of at least 1"),
        ("train", {"epochs": True}, "epochs=True: give a whole number of at least 1"),
        ("train", {"weight_decay": float("nan")}, "weight_decay=nan: give a number from 0 to 1000"),
        ("train", {"class_weight": np.array([0.5, 1.5])}, "class_weight is of type ndarray: give none or balanced"),
        ("sweep", {"seeds": 0}, "seeds=0: give a whole number of at least 1"),
        ("sweep", {"batch_size": [64, 0]}, "batch_size=0: give a whole number of at least 1"),
        ("train", {"lr": "1e-3"}, "lr='1e-3': give a number or a list of numbers"),
        ("train", {"lr": True}, "lr=True: give a number or a list of numbers"),
        ("train", {"lr": []}, "lr is an empty list: give at least one"),
        ("train", {"epochs": [1, 2]}, "epochs=[1, 2]: give a whole number of at least 1"),
        ("train", {"seed": 2**31}, "seed=2147483648: give at most 2,147,483,647"),
        ("train", {"standardize": "no"}, "standardize='no': give True or False"),
        ("train", {"activation": None}, "activation=None: give relu, gelu, tanh or none"),
        ("sweep", {"seeds": 10**9}, "seeds=1000000000: give at most 10,000"),
        ("sweep", {"lr": {"low": 1e-4}}, "lr=['low']: give a number or a list of numbers"),
        ("extract", {"prefix": None}, "prefix=None: give a string"),
        ("extract", {"layer": "-1"}, "layer='-1': give a whole number or a list of whole numbers"),
        ("read_corpus", {"encoding": None}, "encoding=None: give a string"),
        ("finetune", {"lr_scale": "2"}, "lr_scale='2': give a number"),
        ("finetune", {"encoder_lr": [1e-5, 1e-4]}, "encoder_lr=[1e-05, 0.0001]: give a number"),
        ("finetune", {"warmup_fraction": 2}, "warmup_fraction=2: give a number from 0 to 1"),
        ("finetune", {"micro_batch": "all"}, "micro_batch='all': give auto or a whole number of at least 1"),
        ("finetune", {"activation": "sine"}, "activation='sine': give relu, gelu, tanh or none"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_any_work(call, setting, told, tmp_path):
    places = {"extract": {"cache_dir"}, "read_corpus": {"cache_dir"}, "train": {"runs_dir"}, "sweep": {"runs_dir"}}
    places = {name: tmp_path for name in places.get(call, {"runs_dir", "cache_dir"})}
    with pytest.raises(ts.BadInput) as refused:
        getattr(ts, call)("demo", **setting, **places)
    assert told in str(refused.value) and not list(tmp_path.iterdir())


def test_what_is_no_cache_or_corpus_is_told_by_its_type_in_one_line():
    frame = pd.DataFrame({"text": ["a", "b"], "label": ["x", "y"]})
    for call in (ts.train, ts.audit):
        with pytest.raises(ts.BadInput, match=r"^\w+ is of type DataFrame: give a \w+"):
            call(frame)


def test_a_name_that_no_setting_has_is_a_type_error_before_any_work():
    for call, wrong in ((ts.sweep, "rates"), (ts.extract, "maxlength"), (ts.read_corpus, "txt"), (ts.finetune, "rate")):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{wrong}'"):
            call("demo", **{wrong: 1})


@pytest.mark.parametrize("rates", [np.array([0.01, 0.1]), (0.01, 0.1), pd.Series([0.01, 0.1]), (10.0**-k for k in (2, 1))])
def test_rates_may_come_in_anything_that_can_be_gone_through(place, tmp_path, rates):
    cache = small_cache(place, tmp_path)
    found = ts.sweep(cache, lr=rates, seeds=np.int64(1), epochs=1, runs_dir=tmp_path / "runs")
    assert [trial["head_lr"] for trial in read_json(found.path / "run.json")["trials"]] == [0.01, 0.1]


def test_a_number_of_numpys_is_a_number(place, tmp_path):
    run = ts.train(
        small_cache(place, tmp_path), lr=np.float64(0.01), epochs=np.int32(1), device=torch.device("cpu"), runs_dir=tmp_path
    )
    assert run.name == "1C-lr0.01"


def test_rows_are_numbers_a_slice_or_a_mask_and_never_taken_for_something_else(place, tmp_path):
    corpus, cache = ts.read_corpus(place / "cache" / "demo" / "THUCNews"), small_cache(place, tmp_path)
    mask = cache.label == 3
    for read in (lambda rows: np.array(corpus.texts(rows)), cache.vectors):
        every = read(range(len(cache)))
        assert (read(mask) == every[mask]).all() and (read(slice(None, 5)) == every[:5]).all()
        for wrong, kind in (
            ([1.5], TypeError),
            (3, TypeError),
            (mask[1:], IndexError),
            ([-1], IndexError),
            ([10**9], IndexError),
        ):
            with pytest.raises(kind):
                read(wrong)


def test_vectors_are_never_those_of_something_else_than_asked_for(place, tmp_path):
    cache = small_cache(place, tmp_path)
    for wrong, kind in (
        ({"split": "dev"}, ts.BadInput),
        ({"rows": [0], "split": "val"}, TypeError),
        ({"out_dtype": "int8"}, TypeError),
    ):
        with pytest.raises(kind):
            cache.vectors(**wrong)


def test_threads_may_train_side_by_side_into_one_folder(place, tmp_path):
    cache = small_cache(place, tmp_path)
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda k: ts.train(cache, lr=10.0**-k, epochs=1, runs_dir=tmp_path / "runs"), range(1, 9)))
    ts.write_report(tmp_path / "runs")
    assert (tmp_path / "runs" / "results.csv").read_text(encoding="utf-8").count("\n") == 1 + len(runs)
    assert not list((tmp_path / "runs").rglob("*.partial"))


def small_cache(place, folder):
    demo = place / "cache" / "demo"
    return ts.extract(demo / "THUCNews", model=demo / "bert", max_length=32, cache_dir=folder)


def test_the_choices_are_those_of_what_does_the_work():
    from twostage.api.settings import CHOICES
    from twostage.encoder.settings import TRUNCATIONS
    from twostage.models.head import ACTIVATIONS, HEADS

    assert (CHOICES["truncation"], CHOICES["head"], CHOICES["activation"]) == (TRUNCATIONS, HEADS, tuple(ACTIVATIONS))


def test_an_empty_name_is_no_default(tmp_path):
    from twostage.api.extraction import resolve

    for corpus, model, what in (("", None, "CORPUS is an empty name"), (tmp_path, "", "--model is an empty name")):
        with pytest.raises(ts.BadInput, match=what):
            resolve(corpus, model, tmp_path)


def test_a_corpus_is_read_without_the_rest_of_the_house():
    result = python(
        "from twostage.corpus import read_corpus; import sys; print(read_corpus.__module__, 'torch' in sys.modules)"
    )
    assert result.stdout == "twostage.corpus.reader False\n", result.stderr
