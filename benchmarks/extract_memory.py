"""Peak resident memory of an extraction: a generated corpus of THUCNews's size through a small random BERT.

python benchmarks/extract_memory.py                       836,074 documents in one label<TAB>text file
python benchmarks/extract_memory.py --tree                the same as a tree of 836,074 files
python benchmarks/extract_memory.py --form csv            as a CSV file with a header; parquet, json (an array) as well
python benchmarks/extract_memory.py --form csv --read     the corpus alone: read, then every text again in windows of 2,048
python benchmarks/extract_memory.py --documents 20000     a quick look

extract.py runs in a process of its own; the figure is that process's peak, the small model included.
"""

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLASSES = 14


def write_corpus(place: Path, documents: int, characters: int, form: str) -> Path:
    """Seeded texts of 0.5 to 1.5 times `characters`, cut out of one long random string at random places."""
    rng = random.Random(0)
    noise = "".join(chr(0x4E00 + rng.randrange(3000)) for _ in range(1_000_000))

    def text() -> str:
        start = rng.randrange(len(noise) - 2 * characters)
        return noise[start : start + rng.randint(characters // 2, characters * 3 // 2)]

    if form in ("csv", "json", "parquet"):
        return write_table(place / f"news.{form}", form, ((text(), f"class{i % CLASSES}") for i in range(documents)))
    if form == "lines":
        path = place / "news.txt"
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(f"class{i % CLASSES}\t{text()}\n" for i in range(documents))
        return path
    for i in range(documents):
        folder = place / "news" / f"class{i % CLASSES}"
        if i < CLASSES:
            folder.mkdir(parents=True)
        (folder / f"{i}.txt").write_text(text(), encoding="utf-8")
    return place / "news"


def write_table(path: Path, form: str, rows) -> Path:
    """(text, label) rows as a table; Parquet in one row group, as pandas writes it and as is hardest to read by rows."""
    if form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = zip(*rows, strict=True)
        pq.write_table(pa.table(dict(zip(("text", "label"), map(list, columns), strict=True))), path, row_group_size=1 << 20)
        return path
    with open(path, "w", encoding="utf-8", newline="") as file:
        if form == "csv":
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows(rows)
        else:
            file.write("[")
            for i, (text, label) in enumerate(rows):
                file.write(("," if i else "") + json.dumps({"text": text, "label": label}, ensure_ascii=False))
            file.write("]")
    return path


READ = """
import sys, numpy as np
from twostage.corpus.reader import read_corpus
corpus = read_corpus(sys.argv[1])
for at in range(0, len(corpus), 2048):
    corpus.texts(np.arange(at, min(at + 2048, len(corpus))))
"""


def write_model(folder: Path) -> Path:
    """A BERT of one layer, 768 wide like BERT-base so that the vectors have its size, with 3,000 characters."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(chr(0x4E00 + i) for i in range(3000))]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 768, "num_hidden_layers": 1, "num_attention_heads": 12, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(words), **shape)).save_pretrained(folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=836_074)
    parser.add_argument("--characters", type=int, default=900, help="of a document on average (THUCNews: about 900)")
    parser.add_argument("--max-length", type=int, default=16, help="tokens kept: few, so that the run is short")
    parser.add_argument("--form", choices=("lines", "tree", "csv", "json", "parquet"), default="lines")
    parser.add_argument("--tree", dest="form", action="store_const", const="tree", help="a file a document")
    parser.add_argument("--read", action="store_true", help="no extraction: read the corpus, then its texts again")
    parser.add_argument("--place", type=Path, help="folder for the corpus and the cache (default: a temporary one)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.place) as name:
        place = Path(name)
        began = time.perf_counter()
        # In a process of its own: what this one has ever held would count as the peak of its children.
        with ProcessPoolExecutor(1) as writer:
            corpus = writer.submit(write_corpus, place, args.documents, args.characters, args.form).result()
        print(f"{args.documents:,} documents written in {time.perf_counter() - began:.0f} s", flush=True)
        if args.read:
            command = [sys.executable, "-c", READ, corpus]
        else:
            command = [sys.executable, "extract.py", corpus, "--model", write_model(place / "bert")]
            command += ["--max-length", str(args.max_length), "--cache-dir", place / "cache"]
        began = time.perf_counter()
        process = subprocess.Popen([str(word) for word in command], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        took = time.perf_counter() - began
        if status:
            sys.exit(f"it failed with status {os.waitstatus_to_exitcode(status)}")
        cache = "" if args.read else f", cache {Path(printed.strip()).stat().st_size / 1e9:.2f} GB"
        print(f"peak resident memory {usage.ru_maxrss / 1e6:.2f} GB, {took:.0f} s{cache}")


if __name__ == "__main__":
    main()
