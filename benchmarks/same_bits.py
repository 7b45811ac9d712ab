"""Does a document's vector keep its bits whatever is beside it? Tried on this processor, for BERTs of every common width.

python benchmarks/same_bits.py                      float32 and bfloat16; cls, pooler and mean
python benchmarks/same_bits.py --threads 2          two threads on one product, where extraction has one a lane

Each document is encoded alone and then in batches drawn at random, of 1 to 60 documents and up to 2,048 tokens.
"""

import argparse
import random
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertModel

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from twostage.encoder.attention import GroupedSpan
from twostage.encoder.batching import equal_length_groups
from twostage.encoder.forward import FoldedBert

SHAPES = ((32, 2), (64, 2), (128, 2), (256, 4), (312, 12), (384, 12), (512, 8), (768, 12), (1024, 16))  # D hidden, H heads


def encode(bert: FoldedBert, ids: list[np.ndarray], rows: list[int]) -> dict[int, bytes]:
    """Each row's vector as bytes; rows go in longest first, as extraction puts them."""
    rows = sorted(rows, key=lambda row: -len(ids[row]))
    span = GroupedSpan(equal_length_groups([len(ids[row]) for row in rows]))
    vectors = bert(torch.from_numpy(np.concatenate([ids[row] for row in rows])), span)
    return dict(zip(rows, map(bytes, vectors.numpy()), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batches", type=int, default=60, help="of each width, dtype and pooling (default: 60)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    draw = random.Random(0)
    print(f"torch {torch.__version__}, {args.threads} threads: vectors whose bits depend on the batch")
    for hidden, heads in SHAPES:
        torch.manual_seed(0)
        shape = {"hidden_size": hidden, "num_attention_heads": heads, "intermediate_size": 4 * hidden}
        model = BertModel(BertConfig(vocab_size=500, num_hidden_layers=2, **shape), add_pooling_layer=True).eval()
        ids = [np.array([2, *draw.choices(range(5, 500), k=t - 2), 3], np.int32) for t in (*range(3, 60), 128, 300, 512) * 2]
        for dtype in (torch.float32, torch.bfloat16):
            for pooling in ("cls", "pooler", "mean", "max"):
                bert = FoldedBert(model, pooling, dtype=dtype)
                alone = {row: encode(bert, ids, [row])[row] for row in range(len(ids))}
                other, tried = set(), 0
                for _ in range(args.batches):
                    rows = draw.sample(range(len(ids)), draw.randint(1, 60))
                    while sum(len(ids[row]) for row in rows) > 2048:
                        rows.pop()
                    for row, vector in encode(bert, ids, rows or [0]).items():
                        tried += 1
                        other |= {row} if vector != alone[row] else set()
                print(
                    f"{hidden:5} wide, {str(dtype)[6:]:8} {pooling:6}: {len(other)} of {len(ids)} documents, {tried} vectors",
                    flush=True,
                )


if __name__ == "__main__":
    main()
