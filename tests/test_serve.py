"""docs/serve.md does what it says: each of its blocks runs, on a small run."""

import gzip
import importlib.util
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import twostage as ts
from tests.conftest import ROOT, make_bert, make_texts, make_tree
from twostage.export import export
from twostage.models.saved import load_run

PAGE = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
TEXTS = [text for text, _ in make_texts(3, 4, seed=2)]


def block(heading: str) -> str:
    """The code under a heading."""
    return re.search(rf"## {heading}\n.*?```\w+\n(.*?)```", PAGE, re.DOTALL)[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with runs/sweep, exported, and the texts to classify; the answers of predict beside it."""
    folder = tmp_path_factory.mktemp("serve")

    news, bert = make_tree(folder / "news"), make_bert(folder / "bert")
    cache = ts.extract(news, model=bert, max_length=24, dtype="float32", cache_dir=folder / "cache")
    run = ts.train(cache, head="1C", lr=0.01, epochs=3, runs_dir=folder / "runs")
    run.path.rename(folder / "runs" / "sweep")
    export(folder / "runs" / "sweep", onnx=importlib.util.find_spec("onnxscript") is not None)
    (folder / "new.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    (folder / "titles.txt.gz").write_bytes(gzip.compress((folder / "new.txt").read_bytes()))
    (folder / ".venv").symlink_to(sys.prefix)
    trained = load_run(folder / "runs" / "sweep", dtype="float32", device="cpu")
    probabilities = trained.probabilities(TEXTS)
    trained.close()
    return folder, [trained.label_names[i] for i in probabilities.argmax(1)], probabilities


def shell(folder, command):
    env = {**os.environ, "PATH": f"{folder}/.venv/bin:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line)["label"] for line in (folder / "labels.jsonl").read_text("utf-8").split("\n")[:-1]]
    (folder / "labels.jsonl").unlink()
    return found


def test_the_pipeline_answers_a_line_a_text(place):
    assert shell(place[0], block("In a pipeline")) == place[1]


def test_the_cron_job_leaves_the_labels_whole(place):
    command = block("In a cron job").removeprefix("30 2 * * * ").replace("cd /srv/news && ", "")
    assert shell(place[0], command) == place[1]
    assert not (place[0] / "part").exists()


def test_the_web_service_answers_as_predict_does_from_many_threads(place, monkeypatch):
    pytest.importorskip("fastapi", reason="the package fastapi is absent")
    client = pytest.importorskip("starlette.testclient", reason="starlette's TestClient needs httpx")
    folder, labels, probabilities = place
    monkeypatch.chdir(folder)
    names: dict = {"__name__": "service"}
    exec(compile(block("In a web service"), "service.py", "exec"), names)
    with client.TestClient(names["app"]) as asked, ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda text: asked.post("/classify", json=[text, *TEXTS[:3]]).json(), TEXTS * 2))
    names["run"].close()
    for answer, label, row in zip(answers, labels * 2, [*probabilities, *probabilities], strict=True):
        assert len(answer) == 4 and answer[0]["label"] == label
        assert answer[0]["probability"] == pytest.approx(float(np.max(row)), abs=0.02)  # the service may use bfloat16


def printed(folder, code, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    capsys.readouterr()
    exec(code, {})
    return capsys.readouterr().out


def test_the_lines_for_transformers_alone_and_without_torch_run(place, monkeypatch, capsys):
    said = printed(place[0], block("With transformers alone"), monkeypatch, capsys)
    first = re.search(r"'label': '(\w+)'", said)[1]
    if importlib.util.find_spec("onnxruntime") is None or importlib.util.find_spec("onnxscript") is None:
        pytest.skip("the extra [onnx] is absent")
    without = printed(place[0], block("Without torch"), monkeypatch, capsys)
    assert without.startswith(f"['{first}', ")
