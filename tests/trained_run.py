"""Real runs on a tiny real BERT, for tests of what is done with them: extracted, trained and fine-tuned by the scripts."""

from pathlib import Path

import extract
import train_head


def extract_cache(folder: Path, corpus: Path, model: Path, capsys, *options) -> Path:
    capsys.readouterr()
    extract.main(
        [
            str(corpus),
            "--model",
            str(model),
            "--max-length",
            "24",
            "--dtype",
            "float32",
            "--cache-dir",
            str(folder),
            *map(str, options),
        ]
    )
    return Path(capsys.readouterr().out.strip())


def train(cache: Path, runs: Path, capsys, *options) -> Path:
    capsys.readouterr()
    train_head.main([str(cache), "--runs-dir", str(runs), *options])
    return Path(capsys.readouterr().out.strip().split("run: ")[-1].split("\n")[0])
