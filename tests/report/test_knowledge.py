"""The sections about labels, copies, probabilities and views: what runs know of their data and of themselves."""

import re

import pytest

from tests.report.made import THREE, digests, make_corpus, make_run, report, texts_for

TEXTS = texts_for(THREE)
HEX = [bytes(row).hex() for row in digests(TEXTS)]


def suspects(row=4):
    first = {"source": f"{THREE[row % 3]}/{row}.txt", "split": "test", "digest": HEX[row], "label": row % 3, "suggested": 0}
    first |= {"probability": 0.012, "suggested_probability": 0.97}
    told = {"folds": 5, "l2": 0.1, "accuracy": 0.95, "n": 7, "below": 0.05, "n_below": {"train": 1000, "val": 2, "test": 1}}
    return told | {"test_accuracy_if_wrong": 0.983, "test_accuracy_if_wrong_ci95": [0.911, 0.997], "first": [first]}


def near(row=3, train=5):
    first = {"kind": "near", "source": f"{THREE[row % 3]}/{row}.txt", "digest": HEX[row], "label": row % 3, "distance": 0.01}
    first |= {
        "train_source": f"{THREE[train % 3]}/{train}.txt",
        "train_digest": HEX[train],
        "train_label": train % 3,
        "overlap": 0.7,
    }
    told = {
        "median_distance": 0.3,
        "threshold": 0.04,
        "texts_compared": True,
        "overlap": 0.5,
        "n_same_text": 2,
        "n_same_vector": 1,
    }
    told |= {"n_near": 4, "n_rejected": 3, "n_other_label": 1, "test_accuracy_without": 0.925, "first": [first]}
    return told | {"test_accuracy_without_ci95": [0.821, 0.970], "n_test_without": 53}


def calibration():
    bins = [{"low": i / 15, "high": (i + 1) / 15, "n": 0, "confidence": None, "accuracy": None} for i in range(15)]
    bins[13] |= {"n": 40, "confidence": 0.9, "accuracy": 0.95}
    bins[14] |= {"n": 20, "confidence": 0.97, "accuracy": 1.0}
    cover = [{"share": s / 20, "probability": 1 - s / 40, "accuracy": 1 - s / 400} for s in range(20, 0, -1)]
    pairs = {"val_nll": [0.5, 0.4], "ece": [0.071, 0.012], "brier": [0.2, 0.1]}
    return {"temperature": 1.62, "n_val": 10, "bins": {"before": bins, "after": bins}, "coverage": cover, **pairs}


def views(poolings=("cls", "mean"), layers=(-1, -4)):
    every = [(layer, pooling) for layer in layers for pooling in poolings]
    return [
        {
            "model": "bert",
            "layer": layer,
            "pooling": pooling,
            "val_accuracy": 0.5 + 0.1 * i,
            "deviation": 0.0,
            "head": "1C",
            "head_lr": 1e-2,
        }
        for i, (layer, pooling) in enumerate(every)
    ]


def test_suspected_labels_are_shown_with_their_text_and_what_they_would_mean_for_accuracy(tmp_path):
    known = make_corpus(tmp_path)
    make_run(tmp_path / "runs", "sweep", raw={"suspects": suspects()}, **known)
    seen = report(tmp_path / "runs")[1]
    seen = seen[seen.find("Suspected labels") :]
    assert f"given 科技 0.012 , suggested 体育 0.970 {TEXTS[4]} 科技/4.txt , test" in seen
    assert "1,003 are less probable than 0.05: 1,000 in train, 2 in val, 1 in test" in seen
    assert "sweep would reach 0.983 (0.911 to 0.997) there instead of 0.967" in seen and "sweep/suspects.csv" in seen


def test_near_duplicates_are_shown_side_by_side_with_the_accuracy_without_them(tmp_path):
    known = make_corpus(tmp_path)
    make_run(tmp_path / "runs", "sweep", raw={"near_duplicates": near()}, **known)
    seen = report(tmp_path / "runs")[1]
    seen = seen[seen.find("Near-duplicates") :]
    assert "7 of 60 test documents have a double in train, 1 of them under another label there." in seen
    assert f"test 体育 {TEXTS[3]} 体育/3.txt train 财经 {TEXTS[5]} 财经/5.txt" in seen
    assert "without doubles in train 53 0.925 0.821 to 0.970" in seen


def test_where_no_document_has_a_double_that_is_all_that_is_said(tmp_path):
    none = near() | {"n_same_text": 0, "n_same_vector": 0, "n_near": 0, "n_rejected": 0, "n_test_without": 60, "first": []}
    make_run(tmp_path, "sweep", raw={"near_duplicates": none})
    seen = report(tmp_path)[1]
    seen = seen[seen.find("Near-duplicates") : seen.find("All runs")]
    assert seen.strip() == "Near-duplicates No test document has a double in train."


def test_texts_that_changed_are_not_shown_as_suspects_or_doubles(tmp_path):
    known = make_corpus(tmp_path)
    make_run(tmp_path / "runs", "sweep", raw={"suspects": suspects(), "near_duplicates": near()}, **known)
    for source in ("科技/4.txt", "体育/3.txt"):
        (tmp_path / "corpus" / source).write_text("另一篇", encoding="utf-8")
    seen = report(tmp_path / "runs")[1]
    assert "另一篇" not in seen and "科技/4.txt" in seen and "体育/3.txt" in seen and TEXTS[5] in seen


def test_calibration_is_a_chart_before_and_after_and_a_table_of_what_may_be_left_out(tmp_path):
    make_run(tmp_path, "sweep", raw={"calibration": calibration()})
    page, seen = report(tmp_path)
    assert "calibration error (ECE), test 0.071 0.012" in seen and "one temperature, 1.62" in seen
    assert "90% 0.550 0.955" in seen and "--min-probability" in seen
    chart = re.search(r'aria-label="Accuracy over confidence".*?</svg>', page, re.DOTALL)[0]
    assert chart.count(" dot hollow") == 2 and chart.count(" dot") == 4 and " band" in chart


def test_bins_of_few_documents_are_one_with_their_neighbours_in_the_reliability_chart(tmp_path):
    told = calibration()
    for i, (n, right) in {9: (1, 0.0), 10: (2, 0.0), 11: (9, 1.0), 13: (40, 0.95), 14: (3, 1.0)}.items():
        told["bins"]["after"][i] |= {"n": n, "confidence": (i + 0.5) / 15, "accuracy": right}
    make_run(tmp_path, "sweep", raw={"calibration": told})
    chart = re.search(r'aria-label="Accuracy over confidence".*?</svg>', report(tmp_path)[0], re.DOTALL)[0]
    assert chart.count("accent dot") == 2  # 12 documents, then 43


def test_accuracy_by_layer_and_pooling_is_a_map_with_the_chosen_view_outlined(tmp_path):
    trials = [
        {"index": i, "view": 3, "head": "1C", "head_lr": lr, "seed": 0, "epochs": [{"epoch": 1, "val_accuracy": 0.7}], "best_epoch": 1}
        for i, lr in enumerate((1e-3, 1e-2))
    ]  # fmt: skip
    encoder = {"pooling": "mean", "layer": -4}
    make_run(tmp_path, "sweep", encoder=encoder, raw={"views": views(), "view": 3, "n_trials": 104, "trials": trials})
    page, seen = report(tmp_path)
    table = re.search(r'<table class="map">.*?</table>', page, re.DOTALL)[0]
    assert re.findall(r">(0\.\d+)<", table) == ["0.500", "0.600", "0.700", "0.800"]
    assert re.findall(r'class="([^"]*chosen)"[^>]*>([^<]*)', table) == [("deep chosen", "0.800")]
    assert "among 104 trials" in seen and "A frozen BERT (mean of layer −4) with" in seen


@pytest.mark.parametrize("key", ["suspects", "near_duplicates", "calibration", "views"])
@pytest.mark.parametrize("garbled", [[1], {"first": 3}, "text", {"bins": {}}, 7])
def test_a_garbled_part_is_named_and_the_rest_is_shown(tmp_path, key, garbled):
    make_run(tmp_path, "1C3", recipe="1C3")
    make_run(tmp_path, "sweep", raw={key: garbled})
    seen = report(tmp_path)[1]
    assert re.search(f"sweep( damaged, skipped: .*|: ){key}", seen) and "A frozen BERT" in seen and "Confusion matrix" in seen


def test_names_in_these_parts_are_shown_and_never_run(tmp_path):
    told, doubles = suspects(), near()
    told["first"][0]["source"] = doubles["first"][0]["source"] = "<img src=x onerror=alert(1)>"
    hostile = [view | {"model": "<script>", "pooling": f"<b{i}>"} for i, view in enumerate(views())]
    raw = {"suspects": told, "near_duplicates": doubles, "views": hostile, "view": 0, "n_trials": 4}
    make_run(tmp_path, "sweep", raw=raw)
    page, seen = report(tmp_path)
    assert "<img" not in page and "<script" not in page and "<b0>" not in page and "<b0>" in seen


def sweep_of(folder, curve, epochs=(0.5, 0.9, 0.8), n_val=1000):
    trials = [
        {"index": i, "head": "1C", "head_lr": lr, "seed": 0, "epochs": [{"epoch": 1, "val_accuracy": a}], "best_epoch": 1}
        for i, (lr, a) in enumerate(curve)
    ]
    make_run(folder, "sweep", trials=trials, epochs=epochs, raw={"n_val": n_val})
    return report(folder)[1]


def test_the_sweep_says_whether_its_best_rate_is_at_an_edge_or_on_a_plateau(tmp_path):
    edge = sweep_of(tmp_path / "edge", [(1e-4, 0.5), (1e-3, 0.7), (1e-2, 0.9)])
    assert "1C is best at the edge of its range" in edge and "equally well" not in edge
    flat = sweep_of(tmp_path / "flat", [(1e-4, 0.5), (1e-3, 0.895), (1e-2, 0.898), (1e-1, 0.9)])
    assert "rates from 1e-3 to 1e-1 do equally well" in flat and "at the edge" not in flat
    inside = sweep_of(tmp_path / "inside", [(1e-4, 0.5), (1e-3, 0.9), (1e-2, 0.7)])
    assert "at the edge" not in inside and "equally well" not in inside


def test_the_sweep_says_that_its_best_epoch_was_the_last_and_that_one_pooling_was_tried(tmp_path):
    seen = sweep_of(tmp_path / "last", [(1e-4, 0.5), (1e-3, 0.9)], epochs=(0.5, 0.8, 0.9))
    assert "The best epoch is the last of 3: train longer, with --epochs 6." in seen
    assert "Only one pooling of one layer was tried" in seen
    make_run(tmp_path / "last", "1C3", encoder={"pooling": "mean"})
    assert "Only one pooling" not in report(tmp_path / "last")[1]
    assert "The best epoch is the last" not in sweep_of(tmp_path / "more", [(1e-4, 0.5), (1e-3, 0.9)])
