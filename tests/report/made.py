"""Runs and a corpus made by hand, as real files, for the report to read."""

import csv
import hashlib
import html
import json
import re

import numpy as np

from twostage.cache.identity import Identity
from twostage.cache.reader import write_facts
from twostage.cache.writer import CacheWriter
from twostage.report.build import write_report
from twostage.runs import folder as runs
from twostage.runs.scores import save_predictions, score_test

ENCODER = {
    "weights": "a" * 64, "config": "b" * 64, "tokenizer": "c" * 64, "max_length": 32, "truncation": "head",
    "pooling": "cls", "compute_dtype": "float32", "format": 1,
}  # fmt: skip
THREE = ["体育", "科技", "财经"]


def texts_for(names, each=20):
    return [f"第{i}条{names[i % len(names)]}消息" for i in range(each * len(names))]


def digests(texts):
    return np.array([list(hashlib.sha256(text.encode()).digest()) for text in texts], np.uint8)


def make_run(
    folder,
    name,
    *,
    names=THREE,
    wrong=2,
    seconds=1.0,
    texts=None,
    epochs=(0.5, 0.8, 0.7),
    trials=None,
    sources=None,
    raw=None,
    **settings,
):
    """A complete run whose first `wrong` test documents are taken, surely, for the next class. `raw` keys go into its run.json
    as they are, garbled or not."""
    texts = texts or texts_for(names)
    label = np.arange(len(texts)) % len(names)
    probabilities = np.full((len(texts), len(names)), 0.1 / len(names), np.float32)
    for i, true in enumerate(label):
        probabilities[i, (true + (i < wrong)) % len(names)] = 0.9 + (i < wrong) * 0.001 * (wrong - i)
    defaults = {"recipe": None, "head": "1C", "encoder_lr": None, "head_lr": 1e-2, "seed": 0, "batch_size": 64}
    sizes = {"n_train": 80, "n_val": 10, "n_test": len(texts), "steps": 12}
    record = {"label_names": names, "encoder": ENCODER, **defaults, **sizes, **settings}
    run = runs.create_run(folder, name, record)
    save_predictions(run.path, digests(texts), label, probabilities, sources)
    found = [
        {"epoch": i, "train_loss": 1 - a, "val_accuracy": a, "val_macro_f1": a, "seconds": 0.1} for i, a in enumerate(epochs, 1)
    ]
    results = {"epochs": found, "best_epoch": runs.best_epoch(found), "wall_seconds": seconds, "peak_memory_bytes": 10**9}
    if trials:
        results |= {"trials": trials, "trial": 0}
    run.finish(**results, **score_test(label, probabilities.argmax(1), names))
    if raw:
        change(run.path, **raw)
    return run.path


def change(path, **keys):
    record = json.loads((path / "run.json").read_text(encoding="utf-8"))
    (path / "run.json").write_text(json.dumps({**record, **keys}), encoding="utf-8")


def make_corpus(folder, names=THREE, extra=(), truncated=True):
    """A tree with the test documents of make_run, and its cache. `extra`: (text, class number, split number) beside them;
    `truncated`: every other one is."""
    texts = texts_for(names)
    rows = [(text, i % len(names), 2) for i, text in enumerate(texts)] + list(extra)
    sources = [f"{names[label]}/{i}.txt" for i, (_, label, _) in enumerate(rows)]
    for (text, _, _), source in zip(rows, sources, strict=True):
        path = folder / "corpus" / source
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    n = len(rows)
    identity = Identity(
        ENCODER, "float16", 2, names, digests([text for text, _, _ in rows]), np.array([label for _, label, _ in rows]),
        np.array([split for *_, split in rows], np.uint8), sources,
    )  # fmt: skip
    cache = folder / "cache" / f"corpus-bert-{identity.fingerprint[:8]}.h5"
    cache.parent.mkdir()
    with CacheWriter(cache, identity) as writer:
        writer.commit(0, np.zeros((n, 2), np.float32), np.full(n, 9, np.int32), truncated & (np.arange(n) % 2 == 0))
        writer.publish()
    write_facts(cache, {"corpus": str(folder / "corpus"), "encoding": "utf-8-sig", "seconds": {"total": 42.0}})
    return {"fingerprint": identity.fingerprint, "cache": {"path": str(cache)}}


def report(folder):
    """The page's text as a reader sees it, tags taken out."""
    page = write_report(folder).read_text(encoding="utf-8")
    visible = re.sub(r"<style>.*?</style>|<figure class=.narrow.>.*?</figure>", "", page, flags=re.DOTALL)
    return page, html.unescape(" ".join(re.sub(r"<[^>]*>", " ", visible).split()))


def read_csv(folder):
    with open(folder / "results.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
