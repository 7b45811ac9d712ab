"""float32 products of training, by the kernel that is fastest on this processor."""

import contextlib

import torch

from twostage.encoder.products import Float32ByOneDNN, batches_by_onednn


def quick_float32(device) -> contextlib.AbstractContextManager:
    """Within it the process's float32 products on a CPU go to oneDNN where MKL would take its AVX2 path; elsewhere nothing changes."""
    by_onednn = batches_by_onednn(torch.device(device).type, torch.float32)
    return Float32ByOneDNN() if by_onednn else contextlib.nullcontext()
