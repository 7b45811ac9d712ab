"""float32 products of training, by the kernel that is fastest on this processor."""

import contextlib

import torch

from twostage.encoder.products import Float32ByOneDNN, batches_by_onednn

ENOUGH = 1 << 23  # multiplications in a product: oneDNN takes some 20 us before it begins, MKL next to nothing


def quick_float32(device, multiplications: int = ENOUGH) -> contextlib.AbstractContextManager:
    """Within it the process's float32 products on a CPU go to oneDNN where MKL would take its AVX2 path and a product has this many
    multiplications; elsewhere nothing changes."""
    by_onednn = multiplications >= ENOUGH and batches_by_onednn(torch.device(device).type)
    return Float32ByOneDNN() if by_onednn else contextlib.nullcontext()
