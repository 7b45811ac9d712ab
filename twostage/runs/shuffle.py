"""The order in which training documents are seen: one rule for heads and for fine-tuning, so that runs can be compared."""

import torch


def epoch_order(n: int, seed: int, epoch: int) -> torch.Tensor:
    """A permutation of 0..n-1, int64 of shape (n,), fixed by the seed and the epoch (counted from 1) alone."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(n, generator=generator)
