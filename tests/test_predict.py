import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, expect_refusal, make_bert, run_script
from tests.trained_run import extract_cache, train
from twostage import predict
from twostage.cache.reader import open_cache
from twostage.errors import BadInput
from twostage.models.saved import load_run
from twostage.runs import folder as runs

NEWS = ["球赛与门票", "股市上涨了", "x" * 200]


@pytest.fixture
def head_run(tmp_path, tiny_tree, tiny_bert, capsys):
    cache = extract_cache(tmp_path / "cache", tiny_tree, tiny_bert, capsys, "--store-dtype", "float32")
    return train(cache, tmp_path / "runs", capsys, "--head", "1C", "--lr", "0.01", "--epochs", "3")


def output(capsys, *args):
    capsys.readouterr()
    assert predict.main([*map(str, args)]) == 0
    return capsys.readouterr().out.split("\n")[:-1]


def test_predict_gives_the_calibrated_probabilities_of_the_training_run_for_its_own_test_texts(head_run, tmp_path, tiny_tree):
    cache = open_cache(next((tmp_path / "cache").glob("*.h5")))
    rows = np.flatnonzero(cache.split_of == 2)
    texts = [(tiny_tree / cache.sources[row]).read_text(encoding="utf-8") for row in rows]
    with np.load(head_run / "predictions.npz") as saved:
        trained = load_run(head_run, dtype="float32", device="cpu")
        found = trained.probabilities(texts)
        trained.close()
        temperature = json.loads((head_run / "run.json").read_text(encoding="utf-8"))["calibration"]["temperature"]
        assert temperature == saved["temperature"] != 1
        calibrated = saved["probabilities"].astype(float) ** (1 / temperature)
        calibrated /= calibrated.sum(1, keepdims=True)
        assert np.abs(found - calibrated).max() < 1e-5 and (found.argmax(1) == saved["predicted"]).all()
        assert (saved["digest"] == cache.digest[rows]).all()


def test_every_key_of_a_run_is_described(head_run):
    described = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
    record = json.loads((head_run / "run.json").read_text(encoding="utf-8"))
    keys = {
        *record,
        *record["epochs"][0],
        *record["per_class"][0],
        *json.loads((head_run / "head" / "config.json").read_text()),
    }
    assert {key for key in keys if f"`{key}`" not in described} == set()


def test_texts_from_arguments_a_file_and_standard_input_agree(head_run, tmp_path, capsys, monkeypatch):
    file = tmp_path / "texts.txt"
    file.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(NEWS).encode())
    lines = output(capsys, head_run, *NEWS)
    assert len(lines) == 3 and lines == output(capsys, head_run, "--file", file)
    assert [json.loads(line)["text"] for line in output(capsys, head_run, "--json", "--file", file)] == NEWS
    stream = io.TextIOWrapper(io.BytesIO(("\n".join(NEWS) + "\n").encode()))
    monkeypatch.setattr(sys, "stdin", stream)
    assert lines == output(capsys, head_run)
    label, probability, *_ = lines[0].split("\t")
    assert label in ("体育", "财经", "科技") and 1 / 3 <= float(probability) <= 1


def test_json_holds_label_probabilities_and_text(head_run, capsys):
    found = [json.loads(line) for line in output(capsys, head_run, "--json", "--top-k", "2", *NEWS)]
    assert [one["text"] for one in found] == NEWS
    for one in found:
        first, second = (entry["probability"] for entry in one["top"])
        assert first >= second and (one["label"], one["probability"]) == (one["top"][0]["label"], first)


def test_below_the_least_probability_the_answer_is_none(head_run, capsys):
    probabilities = [json.loads(line)["probability"] for line in output(capsys, head_run, "--json", *NEWS)]
    between = sorted(probabilities)[1]
    lines = output(capsys, head_run, "--min-probability", between, *NEWS)
    assert [line.split("\t")[0] == "none" for line in lines] == [p < between for p in probabilities]
    assert "none\t" + f"{min(probabilities):.4f}" in lines
    found = [json.loads(line) for line in output(capsys, head_run, "--json", "--min-probability", between, *NEWS, "")]
    assert [one["label"] is None for one in found] == [*(p < between for p in probabilities), True]
    assert [one["probability"] for one in found] == [*probabilities, None] and all(len(one["top"]) == 3 for one in found[:3])
    with pytest.raises(SystemExit):
        predict.main([str(head_run), "--min-probability", "1.5", NEWS[0]])


def test_a_run_from_before_calibration_predicts_as_it_did(head_run):
    record = json.loads((head_run / "run.json").read_text(encoding="utf-8"))
    del record["calibration"]
    (head_run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    trained = load_run(head_run, dtype="float32", device="cpu")
    assert trained.temperature == 1
    trained.close()


def test_more_classes_than_there_are_gives_all_of_them(head_run, capsys):
    (line,) = output(capsys, head_run, "--top-k", "99", NEWS[0])
    parts = line.split("\t")
    assert sorted(parts[::2]) == ["体育", "科技", "财经"] and sum(map(float, parts[1::2])) == pytest.approx(1, abs=2e-4)


def test_an_empty_line_keeps_its_place_and_is_said(head_run, tmp_path, capsys):
    file = tmp_path / "texts.txt"
    file.write_text(f"{NEWS[0]}\n\n \u3000\n{NEWS[1]}\n", encoding="utf-8")
    predict.main([str(head_run), "--file", str(file)])
    out, err = capsys.readouterr()
    lines = out.split("\n")
    assert [bool(line) for line in lines] == [True, False, False, True, False]
    assert "text 2 is empty" in err
    found = [json.loads(line) for line in output(capsys, head_run, "--json", "--file", file)]
    assert found[1] == {"label": None, "probability": None, "top": [], "text": ""}


def test_a_text_has_the_same_line_whatever_is_beside_it_and_in_any_chunk(head_run, tmp_path, capsys, monkeypatch):
    many = [NEWS[i % 2] + "大" * (i % 20) for i in range(50)]
    whole = output(capsys, head_run, "--dtype", "float32", *many)
    monkeypatch.setattr(predict, "CHUNK", 7)
    assert output(capsys, head_run, "--dtype", "float32", *many) == whole
    assert output(capsys, head_run, "--dtype", "float32", many[13]) == [whole[13]]


@pytest.mark.skipif(not sys.prefix.isascii(), reason="torch itself cannot be loaded from such a path in an ASCII locale")
def test_it_speaks_utf8_whatever_the_locale(head_run):
    env = {**os.environ, "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "latin-1"}
    args = [sys.executable, "-m", "twostage.predict", str(head_run), "--json", "球赛"]
    result = subprocess.run(args, cwd=ROOT, capture_output=True, env=env)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.decode("utf-8"))["text"] == "球赛"


def test_bytes_that_are_not_utf8_are_refused_with_their_line(head_run, tmp_path, capsys):
    file = tmp_path / "texts.txt"
    file.write_bytes("好\n".encode() + "股票".encode("gb18030") + b"\n")
    with pytest.raises(BadInput, match="line 2: not utf-8 at byte 0; .*--encoding"):
        predict.main([str(head_run), "--file", str(file)])


def test_a_run_that_does_not_say_where_its_encoder_lay_is_looked_up_beside_its_cache(head_run, capsys):
    record = json.loads((head_run / "run.json").read_text(encoding="utf-8"))
    facts = Path(f"{record['cache']['path']}.json")
    facts.parent.mkdir(exist_ok=True)
    facts.write_text(json.dumps({"model": record["cache"].pop("model")}), encoding="utf-8")
    (head_run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert len(output(capsys, head_run, NEWS[0])) == 1


def test_another_encoder_is_refused_naming_what_differs(head_run, tmp_path):
    other = make_bert(tmp_path / "other-bert", seed=1)
    with pytest.raises(BadInput, match="is not the encoder that .* was trained with: weights: "):
        load_run(head_run, model=str(other))


def test_the_encoder_moved_elsewhere_is_found_with_model(head_run, tmp_path, tiny_bert, capsys):
    record = json.loads((head_run / "run.json").read_text(encoding="utf-8"))
    record["cache"]["model"] = str(tmp_path / "gone")
    (head_run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(BadInput, match="gone.*--model"):
        load_run(head_run)
    del record["cache"]["model"]
    (head_run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(BadInput, match="--model"):
        load_run(head_run)
    assert len(output(capsys, head_run, "--model", tiny_bert, NEWS[0])) == 1


def test_a_run_without_a_model_and_a_folder_that_is_no_run_are_refused(tmp_path):
    runs.create_run(tmp_path, "B4", {})
    expect_refusal(run_script("-m", "twostage.predict", tmp_path / "B4", "球"), "holds no model")
    with pytest.raises(BadInput, match="not a run folder"):
        load_run(tmp_path / "none")


def test_texts_and_a_file_together_are_refused(tmp_path):
    with pytest.raises(BadInput, match="not both"):
        predict.main([str(tmp_path), "球", "--file", "x"])


@pytest.mark.parametrize("how", ["process substitution", "stdin by name", "named pipe", "stdin", "rest of a file"])
def test_a_pipe_is_read_once_and_to_its_end(how, head_run, tmp_path):
    (tmp_path / "two.txt").write_text(f"{NEWS[0]}\n{NEWS[1]}\n", encoding="utf-8")
    command = {
        "process substitution": "predict --file <(cat two.txt)",
        "stdin by name": "cat two.txt | predict --file /dev/stdin",
        "named pipe": "mkfifo pipe; (cat two.txt > pipe) & predict --file pipe",
        "stdin": "cat two.txt | predict",
        "rest of a file": "(echo skipped; cat two.txt) > three.txt; (read -r; predict) < three.txt",
    }[how]
    env = {**os.environ, "PYTHON": sys.executable, "RUN": str(head_run), "PYTHONPATH": str(ROOT)}
    predict = 'predict() { "$PYTHON" -m twostage.predict "$RUN" --top-k 1 "$@"; }; '
    done = subprocess.run(["bash", "-c", predict + command], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 2 and all(done.stdout.split("\n")[:2])


def test_a_file_is_read_in_the_encoding_named_or_found_out(head_run, tmp_path, capsys):
    (tmp_path / "utf8").write_text("".join(f"{text}\n" for text in NEWS), encoding="utf-8")
    wanted = output(capsys, head_run, "--file", tmp_path / "utf8")
    for encoding, options in (("gb18030", ["--encoding", "gb18030"]), ("gbk", ["--encoding", "auto"]), ("utf-16", [])):
        (tmp_path / "other").write_text("".join(f"{text}\n" for text in NEWS), encoding=encoding)
        assert output(capsys, head_run, "--file", tmp_path / "other", *options) == wanted
    (tmp_path / "bad").write_bytes(NEWS[0].encode() + b"\n\xff\n" + NEWS[1].encode() + b"\n")
    predict.main([str(head_run), "--file", str(tmp_path / "bad"), "--on-undecodable", "skip"])
    out, err = capsys.readouterr()
    assert out.split("\n")[:3] == [wanted[0], "", wanted[1]] and "1 text not in utf-8: left empty" in err
    assert all(output(capsys, head_run, "--file", tmp_path / "bad", "--on-undecodable", "replace"))
