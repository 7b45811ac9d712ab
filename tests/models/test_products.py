"""Which kernel training's float32 products go to."""

import torch

from twostage.encoder.products import batches_by_onednn
from twostage.models.products import ENOUGH, quick_float32


def precision() -> str:
    return torch.backends.mkldnn.matmul.fp32_precision


def test_large_products_go_to_onednn_where_that_is_quicker_and_torch_is_set_as_before_afterwards():
    before = precision()
    with quick_float32("cpu"):
        assert precision() == ("bf16" if batches_by_onednn("cpu", torch.float32) else before)
        a = torch.linspace(-1, 1, 256 * 256).view(256, 256)
        assert torch.allclose((a @ a).double(), a.double() @ a.double(), atol=1e-3)  # float32: bfloat16 would be 0.1 off
    assert precision() == before


def test_products_too_small_for_onednns_start_stay_where_they_were():
    before = precision()
    with quick_float32("cpu", ENOUGH - 1):
        assert precision() == before
