"""Seconds to open a cache and read every vector verified, beside h5py that reads the same bytes unverified.

python benchmarks/cache_read.py                          836,074 x 768 float16: 1.28 GB
python benchmarks/cache_read.py --documents 100000       a quick look

Each read happens in a process of its own, into fresh memory, as train_head.py does it; and once more into memory that the
process has touched before, which is what the digests themselves cost. The file is in the page cache. Rounds alternate, medians count.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

OURS = """
import sys, time
start = time.perf_counter()
from twostage.cache.reader import open_cache
began = time.perf_counter()
with open_cache(sys.argv[1]) as cache:
    opened = time.perf_counter()
    cache.vectors()
    fresh = time.perf_counter()
    cache.vectors()
print(opened - began, fresh - opened, time.perf_counter() - fresh)
"""
H5PY = """
import sys, time
import h5py, numpy as np
began = time.perf_counter()
with h5py.File(sys.argv[1]) as file:
    out = np.empty(file["vectors"].shape, file["vectors"].dtype)
    opened = time.perf_counter()
    file["vectors"].read_direct(out)
    fresh = time.perf_counter()
    file["vectors"].read_direct(out)
print(opened - began, fresh - opened, time.perf_counter() - fresh)
"""


def write_cache(folder: Path, documents: int, width: int) -> Path:
    """A finished cache of random vectors."""
    from twostage.cache.format import PAGE_ROWS
    from twostage.cache.identity import Identity
    from twostage.cache.writer import CacheWriter

    rng = np.random.default_rng(0)
    encoder = {name: name[0] * 64 for name in ("weights", "config", "tokenizer")}
    encoder |= {"max_length": 256, "truncation": "head", "pooling": "cls", "compute_dtype": "float32", "format": 1}
    identity = Identity(
        encoder=encoder, store_dtype="float16", hidden_size=width, label_names=[f"class{i}" for i in range(14)],
        digest=rng.integers(0, 256, (documents, 32), np.uint8), label=np.arange(documents) % 14,
        split=np.arange(documents) % 10 // 8, sources=[f"class{i % 14}/{i}.txt" for i in range(documents)],
    )  # fmt: skip
    window, path = 1024 * PAGE_ROWS, folder / "random.h5"
    with CacheWriter(path, identity) as writer:
        for first in range(0, documents, window):
            n = min(window, documents - first)
            vectors = rng.standard_normal((n, width), np.float32)
            writer.commit(first, vectors, np.full(n, 256, np.int32), np.ones(n, bool))
        writer.publish()
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=836_074)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--place", type=Path, help="folder for the cache (default: a temporary one)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.place) as folder:
        path = write_cache(Path(folder), args.documents, args.width)
        taken = {"ours, verified": (OURS, []), "h5py, unverified": (H5PY, [])}
        for _ in range(args.rounds):
            for program, rows in taken.values():
                printed = subprocess.check_output([sys.executable, "-c", program, str(path)], cwd=ROOT, text=True)
                rows.append([float(word) for word in printed.split()])
        print(f"{args.documents:,} x {args.width} float16, {path.stat().st_size / 1e9:.2f} GB; medians of {args.rounds}")
        print(f"{'':18}{'open':>8}{'read, fresh memory':>20}{'read again':>12}")
        for name, (_, rows) in taken.items():
            opened, fresh, again = (statistics.median(column) for column in zip(*rows, strict=True))
            print(f"{name:18}{opened:8.2f}{fresh:20.2f}{again:12.2f}")


if __name__ == "__main__":
    main()
