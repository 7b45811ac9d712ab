"""Which kernel training's float32 products go to."""

import pytest
import torch

from twostage.encoder.products import batches_by_onednn
from twostage.heads.bank import HeadBank, Trial
from twostage.heads.logistic import Logistic
from twostage.models.products import ENOUGH, quick_float32


def precision() -> str:
    return torch.backends.mkldnn.matmul.fp32_precision


def test_large_products_go_to_onednn_where_that_is_quicker_and_torch_is_set_as_before_afterwards():
    before = precision()
    with quick_float32("cpu"):
        assert precision() == ("bf16" if batches_by_onednn("cpu") else before)
        a = torch.linspace(-1, 1, 256 * 256).view(256, 256)
        assert torch.allclose((a @ a).double(), a.double() @ a.double(), atol=1e-3)  # float32: bfloat16 would be 0.1 off
    assert precision() == before


def test_products_too_small_for_onednns_start_stay_where_they_were():
    before = precision()
    with quick_float32("cpu", ENOUGH - 1):
        assert precision() == before


@pytest.mark.parametrize("head, heads, quick", [("1C", 1, False), ("1C", 64, True), ("3C", 1, True)])
def test_a_bank_trains_with_torch_set_for_the_size_of_its_products(head, heads, quick):
    bank = HeadBank([Trial(i, head, 1e-3, i) for i in range(heads)], 512, 14)
    X, y, rows, seen = torch.rand(128, 512), torch.arange(128) % 14, torch.arange(128), set()
    bank.train_epoch(X, y, rows, 64, tick=lambda steps: seen.add(precision()))
    assert seen == {"bf16" if quick and batches_by_onednn("cpu") else precision()}


def test_the_ceiling_is_fitted_with_torch_set_for_it():
    problem = Logistic(torch.rand(100, 8), torch.arange(100) % 3, torch.arange(100), 3)
    seen = problem.each(lambda part, X: precision())
    assert seen == ["bf16" if batches_by_onednn("cpu") else precision()]
