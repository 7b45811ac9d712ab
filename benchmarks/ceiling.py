"""Seconds to the ceiling of a cache, all its strengths, beside one scikit-learn fit of the strength that is best on val.

python benchmarks/ceiling.py cache/titles-e5-1245b077.h5

Both have as many threads as torch takes and the same float32 vectors; rounds alternate, medians count. The objective of each is
computed here in float64: mean cross-entropy + l2 / 2 * ||W||^2.
"""

import argparse
import statistics
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from twostage.cache.reader import open_cache
from twostage.heads.ceiling import fit_ceiling
from twostage.heads.data import load


def objective(weight: np.ndarray, bias: np.ndarray, X: np.ndarray, y: np.ndarray, l2: float) -> float:
    """weight (C, D), bias (C,) on X (N, D) of classes y (N,)."""
    logits = torch.from_numpy(X).double() @ torch.from_numpy(weight).double().T + torch.from_numpy(bias).double()
    cross_entropy = torch.nn.functional.cross_entropy(logits, torch.from_numpy(y)).item()
    return cross_entropy + l2 / 2 * float(np.square(weight, dtype=np.float64).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path, help="a cache with train and val documents")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")  # scikit-learn's, of fits that have not converged
    with open_cache(args.cache) as cache:
        data = load(cache, "cpu")
        X, y = data.vectors[data.train].float().numpy(), data.labels[data.train].numpy()
        ours, theirs = [], []
        for _ in range(args.rounds):
            best, tried, seconds = fit_ceiling(data)
            ours.append(seconds)
            start = time.perf_counter()
            peer = LogisticRegression(C=1 / (len(y) * best.l2), max_iter=1000).fit(X, y)
            theirs.append(time.perf_counter() - start)
    print(f"{X.shape[0]:,} x {X.shape[1]}, {len(set(y))} classes, {torch.get_num_threads()} threads; medians of {args.rounds}")
    mine, one = statistics.median(ours), statistics.median(theirs)
    own = objective(best.weight.numpy(), best.bias.numpy(), X, y, best.l2)
    their = objective(peer.coef_, peer.intercept_, X, y, best.l2)
    iterations = sum(optimum.iterations for optimum in tried)
    print(f"ours: {mine:.1f} s for {len(tried)} strengths ({iterations} iterations), l2 {best.l2:.2g}, objective {own:.5f}")
    print(f"scikit-learn: {one:.1f} s for that strength ({peer.n_iter_[0]} iterations), objective {their:.5f}")
    print(f"all of ours took {mine / one:.1f} times its one")


if __name__ == "__main__":
    main()
