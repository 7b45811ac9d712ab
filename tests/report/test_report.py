import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, expect_refusal, run_script
from tests.report.made import ENCODER, THREE, change, make_corpus, make_run, read_csv, report, texts_for
from tests.report.test_knowledge import calibration, views
from twostage.cache.reader import write_facts
from twostage.recipes import RECIPES, THUCNEWS_CLASSES
from twostage.report.build import write_report
from twostage.runs import folder as runs
from twostage.runs.results_csv import COLUMNS


def test_the_sections_stand_in_the_promised_order(tmp_path):
    known = make_corpus(tmp_path)
    trials = [
        {"index": i, "head": "1C", "head_lr": lr, "seed": seed, "epochs": [{"epoch": 1, "val_accuracy": 0.9 - i / 50}], "best_epoch": 1}
        for i, (lr, seed) in enumerate([(1e-2, 0), (1e-2, 1), (1e-5, 0), (1e-5, 1)])
    ]  # fmt: skip
    make_run(tmp_path / "runs", "1C3", recipe="1C3", head_lr=1e-4, **known)
    make_run(tmp_path / "runs", "sweep", trials=trials, epochs=(0.9,), **known)
    make_run(tmp_path / "runs", "B4C3", recipe="B4C3", encoder_lr=1e-5, wrong=0, seconds=60, epochs=(0.99,), **known)
    _, seen = report(tmp_path / "runs")
    order = [
        "A frozen BERT with a 1-layer head at 1e-2 reaches 0.967", "The seven recipes by epoch", "Accuracy by epoch",
        "Learning rate of the head", "Cost against accuracy", "Frozen against fine-tuned", "Each class", "Confusion matrix",
        "Mistakes", "The data", "All runs",
    ]  # fmt: skip
    places = [seen.find(title) for title in order]
    assert -1 not in places and places == sorted(places)
    assert "fine-tuning adds 3.3 points for 60 s" in seen


def test_names_and_texts_are_shown_and_never_run(tmp_path):
    names = ["<script>alert(1)</script>", 'a"onload="x', "财经 & <b>"]
    texts = [text + "<img src=x onerror=alert(2)>" for text in texts_for(names)]
    make_run(tmp_path, "<i>run", names=names, texts=texts, recipe="1C3")
    page, seen = report(tmp_path)
    assert "<script" not in page and "<img" not in page and "<b>财经" not in page and "<i>run" not in page
    assert not re.search(r"<[^>]*\sonload=", page)
    for name in names:
        assert name in seen
    assert "<i>run" in seen


def test_the_page_needs_nothing_but_itself(tmp_path):
    make_run(tmp_path, "1C3", recipe="1C3")
    page, _ = report(tmp_path)
    assert not re.search(r"(src|href)\s*=|url\(|@import|https?:", page)


def test_published_figures_stand_beside_the_14_thucnews_classes_only(tmp_path):
    make_run(tmp_path / "three", "1C3", recipe="1C3")
    make_run(tmp_path / "14", "1C3", recipe="1C3", names=list(THUCNEWS_CLASSES))
    make_run(tmp_path / "other", "1C3", recipe="1C3", names=[*THUCNEWS_CLASSES[:13], "国际"])
    assert "0.703" in report(tmp_path / "14")[1] and "1/64" in report(tmp_path / "14")[1]
    for other in ("three", "other"):
        seen = report(tmp_path / other)[1]
        assert "0.703" not in seen and "1/64" not in seen and "20.58" not in seen


def test_the_seven_columns_hold_the_newest_run_of_each_recipe_and_say_scaled_names(tmp_path):
    names = list(THUCNEWS_CLASSES)
    make_run(tmp_path, "1C3", recipe="1C3", names=names, epochs=(0.111,))
    make_run(tmp_path, "1C3", recipe="1C3", names=names, epochs=(0.222,))
    make_run(tmp_path, "1C4-x100", recipe="1C4-x100", lr_scale=100, head_lr=1e-3, names=names, epochs=(0.333,))
    page, seen = report(tmp_path)
    table = re.search(r'<table class="recipes.*?</table>', page, re.DOTALL)[0]
    assert "0.222" in table and "0.111" not in table and "1C4-x100" in table and "1C3-2" in table
    for recipe in RECIPES:
        assert recipe in table  # those not run keep their place
    assert "1C3" in seen[seen.find("All runs") :]


def test_runs_on_different_test_sets_are_never_in_one_table(tmp_path):
    make_run(tmp_path, "1C3", recipe="1C3", epochs=(0.111,))
    make_run(tmp_path, "1C4", recipe="1C4", texts=[f"别的{i}" for i in range(30)], epochs=(0.222,))
    page, seen = report(tmp_path)
    tables = re.findall(r'<table class="recipes.*?</table>', page, re.DOTALL)
    assert len(tables) == 2
    assert sorted(("0.111" in t, "0.222" in t) for t in tables) == [(False, True), (True, False)]
    assert "2 test sets" in seen


def test_what_differs_between_columns_of_one_test_set_is_said(tmp_path):
    make_run(tmp_path, "1C3", recipe="1C3")
    make_run(tmp_path, "B4C3", recipe="B4C3", encoder_lr=1e-5, encoder={**ENCODER, "max_length": 16})
    table = re.search(r'<table class="recipes.*?</table>', report(tmp_path)[0], re.DOTALL)[0]
    assert "32 tokens" in table and "16 tokens" in table


DAMAGE = {
    "half a file": lambda path: (path / "run.json").write_text('{"schema": 1, "sta'),
    "not a record": lambda path: (path / "run.json").write_text("[]"),
    "no results": lambda path: (path / "run.json").write_text('{"schema": 1, "status": "complete"}'),
    "a matrix that does not fit": lambda path: change(path, confusion=[[1, 2], [3, 4]]),
    "epochs of text": lambda path: change(path, epochs="many"),
    "an accuracy beyond 1": lambda path: change(path, test_accuracy=7.0),
    "a head that is a list": lambda path: change(path, head=["1C"]),
    "names that are numbers": lambda path: change(path, label_names=[1, 2, 3]),
    "bytes": lambda path: (path / "run.json").write_bytes(b"\xff\x00\xfe"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_run_is_named_and_skipped(tmp_path, how):
    make_run(tmp_path, "good", recipe="1C3")
    DAMAGE[how](make_run(tmp_path, "bad", recipe="1C4"))
    _, seen = report(tmp_path)
    assert re.search(r"bad damaged, skipped: \S+", seen) and "A frozen BERT" in seen
    assert [row["run"] for row in read_csv(tmp_path)] == ["good"] * 3


def test_damaged_predictions_are_said_and_the_rest_is_shown(tmp_path):
    path = make_run(tmp_path, "1C3", recipe="1C3")
    (path / "predictions.npz").write_bytes(b"PK\x03\x04 broken")
    _, seen = report(tmp_path)
    assert "1C3/predictions.npz is missing or damaged" in seen and "Confusion matrix" in seen


def test_runs_without_a_result_are_listed_as_what_they_are(tmp_path):
    runs.create_run(tmp_path, "B4", {})
    with pytest.raises(KeyboardInterrupt), runs.create_run(tmp_path, "B4C3", {}):
        raise KeyboardInterrupt
    with pytest.raises(RuntimeError), runs.create_run(tmp_path, "B4C4", {}):
        raise RuntimeError("out of memory")
    _, seen = report(tmp_path)
    assert "No finished run yet" in seen
    assert re.search(r"B4 [\d: -]+ running", seen) and re.search(r"B4C3 [\d: -]+ interrupted", seen)
    assert "failed: out of memory" in seen


@pytest.mark.parametrize("wrong", [0, 1, 60])
@pytest.mark.parametrize("epochs", [(0.0,), (1.0,), (0.0, 1.0), (0.9995, 1.0), tuple(i / 40 for i in range(40))])
def test_charts_stand_at_the_ends_of_the_scale(tmp_path, wrong, epochs):
    make_run(tmp_path, "1C3", recipe="1C3", wrong=wrong, epochs=epochs, seconds=0.0)
    page, _ = report(tmp_path)
    assert page.count("<svg") == 4 and "nan" not in page


def test_an_empty_runs_folder_gives_a_page_too(tmp_path):
    assert "No run yet" in report(tmp_path)[1]


def test_confident_errors_come_first_with_text_and_source(tmp_path):
    known = make_corpus(tmp_path)
    make_run(tmp_path / "runs", "1C3", recipe="1C3", wrong=3, **known)
    seen = report(tmp_path / "runs")[1]
    shown = [seen.find(f"第{i}条") for i in range(4)]
    assert -1 not in shown[:3] and shown[:3] == sorted(shown[:3]) and shown[3] == -1
    assert "体育 taken for 科技 0.903" in seen and "体育/0.txt" in seen
    assert "took 42 s, once" in seen  # what its vectors cost


def test_a_changed_text_is_not_shown_and_that_is_said(tmp_path):
    known = make_corpus(tmp_path)
    make_run(tmp_path / "runs", "1C3", recipe="1C3", **known)
    (tmp_path / "corpus" / "体育" / "0.txt").write_text("另一篇", encoding="utf-8")
    seen = report(tmp_path / "runs")[1]
    assert "1 of these documents changed or moved" in seen and "另一篇" not in seen and "第1条" in seen


@pytest.mark.parametrize("gone", ["corpus", "cache"])
def test_a_corpus_or_cache_that_moved_is_said(tmp_path, gone):
    known = make_corpus(tmp_path)
    make_run(tmp_path / "runs", "1C3", recipe="1C3", **known)
    (tmp_path / gone).rename(tmp_path / "elsewhere")
    seen = report(tmp_path / "runs")[1]
    assert "is no longer there" in seen and "体育 taken for 科技" in seen and "第0条" not in seen


def test_the_audit_tells_of_copies_leaks_conflicts_and_truncation(tmp_path):
    first = texts_for(THREE)[:3]
    known = make_corpus(tmp_path, extra=[(first[0], 0, 0), (first[1], 2, 2), ("新", 0, 0), ("新", 0, 0)])
    make_run(tmp_path / "runs", "1C3", recipe="1C3", wrong=1, **known)
    seen = report(tmp_path / "runs")[1]
    assert "3 duplicates" in seen and "1 text in train and test" in seen and "1 text under more than one label" in seen
    assert "32 documents truncated (50.0%)" in seen
    assert "truncated 30 0.967" in seen and "whole 30 1.000" in seen


def test_nothing_is_said_of_truncation_where_no_document_is_cut(tmp_path):
    make_run(tmp_path / "runs", "1C3", recipe="1C3", **make_corpus(tmp_path, truncated=False))
    seen = report(tmp_path / "runs")[1]
    assert "What the digests of all texts reveal" in seen and "Truncation" not in seen


def test_errors_are_shown_with_text_and_source_where_there_is_no_cache(tmp_path):
    make_corpus(tmp_path)
    (tmp_path / "cache").rename(tmp_path / "elsewhere")
    about = {"path": str(tmp_path / "corpus"), "encoding": "utf-8-sig", "on_undecodable": "fail", "per_class": None}
    sources = [f"{THREE[i % 3]}/{i}.txt" for i in range(60)]
    make_run(tmp_path / "runs", "B4", recipe="B4", encoder_lr=1e-5, corpus=about, corpus_digest="d", sources=sources)
    seen = report(tmp_path / "runs")[1]
    assert re.search(r"第\d+条.{2}消息 .{2}/\d+\.txt", seen) and "the data is not audited" in seen


def test_results_csv_has_a_row_an_epoch_and_the_test_figures_at_the_chosen(tmp_path):
    trials = [
        {"index": i, "head": "1C", "head_lr": lr, "seed": 0, "epochs": [{"epoch": e, "val_accuracy": 0.5} for e in (1, 2)], "best_epoch": 1}
        for i, lr in enumerate((1e-2, 1e-5))
    ]  # fmt: skip
    make_run(tmp_path, "1C3", recipe="1C3", head_lr=1e-4)
    make_run(tmp_path, "sweep", trials=trials, epochs=(0.5, 0.5))
    runs.create_run(tmp_path, "B4", {"recipe": "B4"})
    write_report(tmp_path)
    rows = sorted(read_csv(tmp_path), key=lambda row: row["run"] == "B4")
    assert [(r["run"], r["trial"], r["epoch"]) for r in rows] == [
        ("1C3", "", "1"), ("1C3", "", "2"), ("1C3", "", "3"),
        ("sweep", "0", "1"), ("sweep", "0", "2"), ("sweep", "1", "1"), ("sweep", "1", "2"), ("B4", "", ""),
    ]  # fmt: skip
    assert [r["chosen"] for r in rows[:3]] == ["0", "1", "0"]
    assert [bool(r["test_accuracy"]) for r in rows] == [False, True, False, True, False, False, False, False]
    assert float(rows[1]["test_accuracy"]) == pytest.approx(58 / 60) and float(rows[5]["head_lr"]) == 1e-5


def test_rewriting_from_the_same_folders_gives_the_same_page_and_leaves_nothing_else(tmp_path):
    make_run(tmp_path, "1C3", recipe="1C3")
    first = write_report(tmp_path).read_bytes()
    assert write_report(tmp_path).read_bytes() == first
    assert {p.name for p in tmp_path.iterdir()} == {"1C3", "report.html", "results.csv"}


def test_the_optimum_alone_and_beside_heads_is_a_yardstick(tmp_path):
    make_run(tmp_path, "ceiling", head_lr=None, epochs=(0.9,), wrong=0)
    assert "1-layer head at its optimum" in report(tmp_path)[1]
    curve = [
        {"share": s, "n_train": n, "val_accuracy": [0.5, m], "mean": m, "deviation": 0.1}
        for s, n, m in ((0.1, 8, 0.6), (1, 80, 0.7))
    ]
    make_run(tmp_path, "1C4", recipe="1C4", wrong=30, learning_curve=curve)
    seen = report(tmp_path)[1]
    assert "1-layer head at its optimum reaches 1.000" in seen and "50.0 points below" in seen
    assert "from 8 to 80 documents, brought +10.0 points" in seen


def test_the_headline_and_the_tables_name_the_same_run_chosen_on_val(tmp_path):
    make_run(tmp_path, "ceiling", head_lr=None, epochs=(0.9,), wrong=6)
    make_run(tmp_path, "1C3", recipe="1C3", head_lr=1e-4, epochs=(0.8,), wrong=3)
    make_run(tmp_path, "B4C3", recipe="B4C3", encoder_lr=1e-5, epochs=(0.95,), wrong=0, seconds=121)  # luckier on test
    make_run(tmp_path, "B4", recipe="B4", encoder_lr=1e-5, head_lr=None, epochs=(0.96,), wrong=9, seconds=121)
    _, seen = report(tmp_path)
    assert "at its optimum reaches 0.900" in seen and "fine-tuning falls 5.0 points short for 2 min" in seen
    assert "The fine-tuned run is B4; the difference is " in seen
    table = seen[seen.find("points a minute") :]
    assert "points a minute B4 0.960 0.850 −5.0 points" in table and "2 min −2.50 B4C3 0.950 1.000 +10.0 points" in table
    assert "The run that did best on val, B4;" in seen


def test_vectors_that_were_lent_are_not_said_to_have_taken_their_time(tmp_path):
    known = make_corpus(tmp_path)
    make_run(tmp_path / "runs", "1C3", recipe="1C3", **known)
    counts = {"all": 60, "encoded": 0, "committed_before": 0, "lent_by_caches": 60, "copied_from_same_text": 0}
    for encoded, lent, said in (
        (0, 60, "came from an earlier cache."),
        (20, 40, "40 came from an earlier cache; the others took 42 s."),
    ):
        facts = {"seconds": {"total": 42.0}, "documents": counts | {"encoded": encoded, "lent_by_caches": lent}}
        write_facts(Path(known["cache"]["path"]), facts)
        seen = report(tmp_path / "runs")[1]
        assert said in seen and "once" not in seen[: seen.find("The seven recipes")]


def test_published_memory_stands_beside_a_bert_of_the_published_size_only(tmp_path):
    for size in (64, 768):
        make_run(tmp_path / str(size), "1C3", recipe="1C3", names=list(THUCNEWS_CLASSES), hidden_size=size)
        seen = report(tmp_path / str(size))[1]
        assert ("20.58" in seen, "2.37" in seen) == (size == 768,) * 2 and "0.703" in seen


def test_what_bert_bought_over_tf_idf_is_said_and_so_is_nothing(tmp_path):
    plain = {"script": "baseline", "head": None, "head_lr": None, "encoder": None}
    make_run(tmp_path, "tfidf", epochs=(0.9,), wrong=20, seconds=2.0, **plain)
    make_run(tmp_path, "1C3", recipe="1C3", epochs=(0.8,), wrong=1, seconds=62.0)
    seen = report(tmp_path)[1]
    assert "TF-IDF without BERT reaches 0.667" in seen and "BERT bought 31.7 points over it, for 60 s more." in seen
    make_run(tmp_path, "ceiling", head_lr=None, epochs=(0.95,), wrong=18)
    assert "BERT bought nothing that chance could not explain (3.3 points, for no more time)" in report(tmp_path)[1]
    make_run(tmp_path, "tfidf", epochs=(0.91,), wrong=0, seconds=2.0, **plain)
    seen = report(tmp_path)[1]
    assert "BERT bought nothing over it (30.0 points less" in seen and "A frozen BERT with a 1-layer head" in seen


def test_markdown_prints_the_tables(tmp_path):
    make_run(tmp_path, "1C3", recipe="1C3", names=["a|b", "*c*", "d"])
    make_run(tmp_path, "B4", recipe="B4", names=["a|b", "*c*", "d"], encoder_lr=1e-5, wrong=0)
    result = run_script("-m", "twostage.report", "--runs-dir", tmp_path, "--markdown")
    assert result.returncode == 0, result.stderr
    rows = [line for line in result.stdout.splitlines() if line.startswith("|")]
    assert any(re.match(r"\| 2 +\| \*\*0\.800\*\* \| ", row) for row in rows)
    assert any(re.match(r"\| a\\\|b +\|", row) for row in rows)


def test_the_report_imports_no_torch_and_no_plotting(tmp_path):
    make_run(tmp_path, "1C3", recipe="1C3", **make_corpus(tmp_path / "of"))
    code = f"import sys, twostage.report.build as r; r.write_report({str(tmp_path)!r}); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"torch", "transformers", "matplotlib"}.isdisjoint(loaded.split())


def test_a_runs_folder_that_does_not_exist_is_refused(tmp_path):
    expect_refusal(run_script("-m", "twostage.report", "--runs-dir", tmp_path / "none"), "none", "not a folder")


def test_results_csv_says_which_vectors_a_trial_saw_and_how_far_its_probabilities_hold(tmp_path):
    trials = [
        {"index": i, "view": i, "head": "1C", "head_lr": 1e-2, "seed": 0, "epochs": [{"epoch": 1, "val_accuracy": 0.5}], "best_epoch": 1}
        for i in (0, 1)
    ]  # fmt: skip
    raw = {
        "views": views(("cls", "mean"), (-4,)),
        "view": 1,
        "n_trials": 2,
        "trials": trials,
        "trial": 1,
        "calibration": calibration(),
    }
    make_run(tmp_path, "sweep", epochs=(0.5,), raw=raw)
    make_run(tmp_path, "1C3", recipe="1C3", epochs=(0.5,))
    make_run(tmp_path, "tfidf", script="baseline", head=None, head_lr=None, encoder=None, epochs=(0.5,))
    write_report(tmp_path)
    seen = {
        (r["run"], r["trial"]): [r[k] for k in ("pooling", "layer", "temperature", "ece", "brier")] for r in read_csv(tmp_path)
    }
    assert seen == {
        ("sweep", "0"): ["cls", "-4", "", "", ""], ("sweep", "1"): ["mean", "-4", "1.62", "0.012", "0.1"],
        ("1C3", ""): ["cls", "-1", "", "", ""], ("tfidf", ""): ["", "", "", "", ""],
    }  # fmt: skip


def test_every_column_of_results_csv_is_described():
    described = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8").split("## results.csv")[1].split("## ")[0]
    rows = [line.split("|")[1] for line in described.splitlines() if line.startswith("| `")]
    assert [name for row in rows for name in re.findall(r"`(\w+)`", row)] == list(COLUMNS)
