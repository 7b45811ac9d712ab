"""Extraction by several ranks: documents a second beside one process, the writer's own limit, and who waits.

python benchmarks/ranks.py --corpus TITLES                  one process with a lane a core, against as many ranks of one lane
python benchmarks/ranks.py --corpus TITLES --device cuda    one GPU against all of this machine
python benchmarks/ranks.py --writer                         how many documents/s rank 0 takes in: one thin layer, vectors of 768

The seconds are those of the pipeline, from the facts beside the cache: start-up and the model's loading are left out, as both
have them. Rounds alternate, medians count. Every cache is compared: on a CPU the bytes must be the same.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE))

from benchmarks.extract_speed import model_folder  # noqa: E402

THIN = {"hidden_size": 768, "num_hidden_layers": 1, "num_attention_heads": 12, "intermediate_size": 768}


def thin_bert(place: Path) -> Path:
    """A BERT of one layer and BERT-base's width: it costs next to nothing, and its vectors are as wide."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    place.mkdir(parents=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(chr(code) for code in range(0x4E00, 0x4E00 + 2000))]
    (place / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    BertTokenizerFast(vocab=str(place / "vocab.txt")).save_pretrained(place)
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(words), **THIN)).save_pretrained(place)
    return place


def extracted(ranks: int, words: list[str], cores: int) -> tuple[dict, str]:
    """(facts, sha256 of the cache) of one extraction by so many ranks; 1 is without torchrun, with a lane a core."""
    with tempfile.TemporaryDirectory() as place:
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
        command = [sys.executable, *torchrun, str(HERE / "extract.py"), *words, "--cache-dir", place]
        env = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(max(1, cores // ranks)), "PYTHONPATH": str(HERE)}
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=env, cwd=place)
        if done.returncode:
            sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}")
        path = Path(place) / Path(done.stdout.strip()).name
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return json.loads(Path(f"{path}.json").read_text(encoding="utf-8")), digest


def row(facts: dict) -> str:
    seconds, documents = facts["seconds"], facts["documents"]["encoded"]
    rate, idle = documents / seconds["total"], seconds["idle"] / seconds["total"]
    writing = documents / seconds["write"] if seconds["write"] else 0.0
    return f"{documents:>10,}{seconds['total']:>9.2f}{rate:>12,.1f}{idle:>7.0%}{seconds['write']:>8.2f}{writing:>14,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="short real texts in any form that extract.py reads")
    parser.add_argument("--model", type=Path, help="a BERT folder; one without weights gets random ones (default: BERT-base)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--ranks", type=int, help="default: the cores, or the GPUs, of this machine; with --writer 4")
    parser.add_argument("--per-class", type=int, help="documents a class and split (default: all)")
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--writer", action="store_true", help="the writer's own limit")
    args = parser.parse_args()
    import torch

    cores = len(os.sched_getaffinity(0))
    ranks = args.ranks or (4 if args.writer else torch.cuda.device_count() if args.device == "cuda" else cores)
    print(f"torch {torch.__version__}, {cores} cores, {time.strftime('%Y-%m-%d')}: {' '.join(sys.argv)}")
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        folder = thin_bert(place / "thin") if args.writer else model_folder("bert-base", args.model, place / "bert")
        corpus = args.corpus or generated(place / "corpus.jsonl")
        words = [str(corpus.resolve()), "--model", str(folder.resolve()), "--max-length", str(args.max_length)]
        words += ["--device", args.device, "--on-undecodable", "replace"]
        words += ["--dtype", "float32"] if args.device == "cpu" else []
        words += ["--per-class", str(args.per_class)] if args.per_class else []
        found, digests = {1: [], ranks: []}, set()
        for _ in range(args.rounds):
            for many in found:
                facts, digest = extracted(many, words, cores if args.device == "cpu" else many)
                found[many].append(facts)
                digests.add(digest)
        shutil.rmtree(place)
        place.mkdir()
    print(f"{'':<14}{'documents':>10}{'seconds':>9}{'docs/s':>12}{'idle':>7}{'write s':>8}{'docs/write s':>14}")
    medians = {}
    for many, runs in found.items():
        runs.sort(key=lambda facts: facts["seconds"]["total"])
        print(f"{'one process' if many == 1 else f'{many} ranks':<14}{row(runs[len(runs) // 2])}")
        medians[many] = statistics.median(facts["seconds"]["total"] for facts in runs)
    caches = "equal" if len(digests) == 1 else "different"
    print(f"{ranks} ranks give {medians[1] / medians[ranks]:.2f} of one process; the caches are {caches}")
    if args.device == "cpu" and len(digests) != 1:
        sys.exit("the caches differ")


def generated(path: Path, documents: int = 60000) -> Path:
    """Titles of twenty ideographs."""
    import random

    draw = random.Random(0)
    with open(path, "w", encoding="utf-8") as file:
        for i in range(documents):
            text = "".join(chr(draw.randrange(0x4E00, 0x4E00 + 2000)) for _ in range(20))
            file.write(json.dumps({"label": "ab"[i % 2], "text": text}, ensure_ascii=False) + "\n")
    return path


if __name__ == "__main__":
    main()
