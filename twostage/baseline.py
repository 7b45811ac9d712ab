"""The yardstick: TF-IDF and a linear classifier on the same splits, with no encoder at all. What does BERT buy over that?

Texts become TF-IDF of characters, one and two at a time, where they are mostly Chinese (or another script without spaces),
otherwise of words. The classifier's regularisation is chosen on val, and test is scored once. A run like any other: `tfidf` in the table,
the report and the paired test. Needs scikit-learn: pip install "twostage[baseline]".
"""

import sys
import time
from pathlib import Path

from twostage import cli
from twostage.errors import BadInput

EXAMPLES = """examples:
  python -m twostage.baseline THUCNews --per-class 2000
  python -m twostage.baseline news.csv --text-column body --label-column topic
"""
STRENGTHS = (0.1, 0.3, 1.0, 3.0)  # C of scikit-learn's LinearSVC, from strong to weak regularisation
NGRAMS = (1, 2)
UNSPACED = 0.2  # characters of scripts without spaces, of all letters: above this, characters are counted
MICROSECONDS = {"word": 1.0, "char": 6.0}  # a character, measured: for the estimate alone
READ_ROWS = 4096


def build_parser() -> cli.Parser:
    parser = cli.Parser(
        prog="python -m twostage.baseline", description=__doc__, epilog=EXAMPLES,
        usage="python -m twostage.baseline CORPUS [options]",
    )  # fmt: skip
    cli.add_reading_options(parser)
    group = parser.add_argument_group("run")
    group.add_argument(
        "--seed", type=cli.whole_number("--seed"), default=0, metavar="N", help="seed of the solver (default: 0)"
    )
    group.add_argument(
        "--cache-dir", type=cli.path, default=Path("cache"), metavar="DIR", help="where the demo is built (default: cache)"
    )
    cli.add_shared(group, "--runs-dir")
    return parser


def main(argv=None) -> int:
    args = build_parser().parse_args(argv)
    require_scikit_learn()
    from twostage.api.extraction import read, resolve
    from twostage.api.finetuning import check_splits
    from twostage.progress import spoken
    from twostage.report.build import write_report

    with spoken(True):
        source, _ = resolve(args.corpus, None, args.cache_dir)
        corpus = read(source, **{name: getattr(args, name) for name in cli.CORPUS_SETTINGS})
        check_splits(corpus)
        record = run_baseline(corpus, args.runs_dir, args.seed)
    write_report(args.runs_dir)
    print("\n".join([line_of(record), *against_bert(args.runs_dir, Path(record["path"])), f"run: {record['path']}"]))
    return 0


def require_scikit_learn() -> None:
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise BadInput('the baseline needs scikit-learn: pip install "twostage[baseline]"') from None


def run_baseline(corpus, runs_dir: Path, seed: int = 0) -> dict:
    """Train the baseline on a Corpus and leave it as the run `tfidf`. Gives run.json's record and its path."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.svm import LinearSVC

    from twostage import SPLITS, metrics
    from twostage.api.finetuning import corpus_digest
    from twostage.progress import Progress, duration, say
    from twostage.runs.calibration import calibrate, log_softmax
    from twostage.runs.folder import create_run
    from twostage.runs.scores import save_predictions, score_test

    rows = [np.flatnonzero(corpus.split == number) for number in range(len(SPLITS))]
    labels, names = [corpus.label[part] for part in rows], corpus.label_names
    sample = texts_of(corpus, rows[0][:: max(1, len(rows[0]) // 200)][:200])
    analyzer = "char" if unspaced(sample) > UNSPACED else "word"
    say(f"TF-IDF of {'characters' if analyzer == 'char' else 'words'}, one and two at a time: "
        f"{unspaced(sample):.0%} of the letters belong to scripts without spaces")  # fmt: skip
    seconds = float(corpus.characters.sum()) * MICROSECONDS[analyzer] * 1e-6 * 2
    say(f"{int(corpus.characters.sum()):,} characters: about {duration(seconds)}"
        + (" (--per-class N takes fewer documents)" if seconds > 600 else ""))  # fmt: skip
    settings = {
        "script": "baseline", "recipe": None, "lr_scale": 1.0, "head": None, "encoder_lr": None, "head_lr": None, "seed": seed,
        "class_weight": "none", "device": "cpu", "threads": 1, "label_names": names,
        "n_train": len(rows[0]), "n_val": len(rows[1]), "n_test": len(rows[2]),
        "corpus": {"name": corpus.name, "format": corpus.format, **corpus.told}, "corpus_digest": corpus_digest(corpus),
    }  # fmt: skip
    with create_run(runs_dir, "tfidf", settings) as run:
        began = time.perf_counter()
        options = {"token_pattern": r"(?u)\b\w+\b"} if analyzer == "word" else {}
        vectorizer = TfidfVectorizer(
            analyzer=analyzer, ngram_range=NGRAMS, sublinear_tf=True, min_df=2 if len(rows[0]) > 1000 else 1,
            dtype=np.float32, **options,
        )  # fmt: skip
        try:
            X = [
                vectorizer.fit_transform(texts_of(corpus, rows[0])),
                *(vectorizer.transform(texts_of(corpus, r)) for r in rows[1:]),
            ]
        except ValueError:
            raise BadInput(f"{corpus.name}: its texts contain no words to count; give a corpus with words in it") from None
        tried = []
        with Progress(len(STRENGTHS), "strengths", "tfidf") as progress:
            for c in STRENGTHS:
                model = LinearSVC(C=c, random_state=seed).fit(X[0], labels[0])
                margins = margins_of(model, X[1], len(names))
                counts = metrics.confusion(labels[1], margins.argmax(1), len(names))
                tried.append((float(np.diag(counts).sum() / counts.sum()), metrics.macro_f1(counts), c, model, margins))
                progress.advance(1, val=f"{max(tried)[0]:.3f}")
        accuracy, f1, c, model, val = max(tried, key=lambda one: one[:2])  # max keeps the first, which is the strongest
        test = margins_of(model, X[2], len(names))
        probabilities = np.exp(log_softmax(test))
        trust = calibrate(val, labels[1], test, labels[2])
        sources = [corpus.sources[row] for row in rows[2]]
        save_predictions(run.path, corpus.digest[rows[2]], labels[2], probabilities, sources, trust["temperature"])
        epoch = {"epoch": 1, "train_loss": None, "val_accuracy": accuracy, "val_macro_f1": f1,
                 "seconds": round(time.perf_counter() - began, 3)}  # fmt: skip
        run.log(epoch)
        run.finish(
            **score_test(labels[2], probabilities.argmax(1), names), epochs=[epoch], best_epoch=1, steps=None,
            l2=1 / (c * len(rows[0])),
            strengths=[{"l2": 1 / (one[2] * len(rows[0])), "val_accuracy": one[0]} for one in tried],
            vectorizer={"analyzer": analyzer, "ngrams": list(NGRAMS), "features": X[0].shape[1]}, calibration=trust,
        )  # fmt: skip
    return run.record | {"path": str(run.path)}


def texts_of(corpus, rows) -> list[str]:
    found = []
    for at in range(0, len(rows), READ_ROWS):
        found += corpus.texts(rows[at : at + READ_ROWS])
    return found


def unspaced(texts: list[str]) -> float:
    """The share of letters that belong to scripts written without spaces: Han, kana, Thai, Lao, Khmer, Burmese."""
    letters = [c for text in texts for c in text if c.isalpha()]
    ranges = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x9FFF), (0x20000, 0x323AF))
    return sum(any(low <= ord(c) <= high for low, high in ranges) for c in letters) / max(1, len(letters))


def margins_of(model, X, classes: int):
    """(N, C) distances from each class's plane; a class that train lacks is 10 below the least likely one."""
    import numpy as np

    found = model.decision_function(X)
    found = np.stack([-found, found], 1) if found.ndim == 1 else found
    margins = np.repeat(found.min(1, keepdims=True) - 10, classes, 1)
    margins[:, model.classes_] = found
    return margins


def line_of(record: dict) -> str:
    low, high = record["test_accuracy_ci95"]
    how = record["vectorizer"]
    return (
        f"TF-IDF of {'characters' if how['analyzer'] == 'char' else 'words'} ({how['features']:,} features) and a linear "
        f"classifier: val {record['epochs'][0]['val_accuracy']:.3f}, test accuracy {record['test_accuracy']:.3f} "
        f"(95 % interval {low:.3f}-{high:.3f}), macro-F1 {record['test_macro_f1']:.3f}, {record['n_test']:,} documents, "
        f"{record['wall_seconds']:.1f} s"
    )


def against_bert(runs_dir: Path, path: Path) -> list[str]:
    """One line: the best run with BERT on the same test documents beside the baseline, if there is one."""
    from twostage.report.words import chance
    from twostage.runs.comparison import compare
    from twostage.runs.groups import group_runs
    from twostage.runs.views import load_runs

    for group in group_runs(load_runs(Path(runs_dir))[0]):
        mine = next((run for run in group.complete if run.path == path), None)
        if mine is not None and group.bert is not None:
            found, bert = compare(mine, group.bert), group.bert
            return [f"{bert.name} with BERT: {bert.accuracy:.3f}, {found.gain * 100:+.1f} points{chance(found.p)}"]
    return []


if __name__ == "__main__":
    sys.exit(cli.run(main))
