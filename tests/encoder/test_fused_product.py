"""Products by machine code of our own: right in every size, the same bits wherever a row stands."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.conftest import make_bert
from twostage.encoder import fused_product, processor
from twostage.encoder.attention import GroupedSpan
from twostage.encoder.encoder import load_bert
from twostage.encoder.forward import FoldedBert
from twostage.encoder.fused_product import FusedProduct
from twostage.encoder.products import Product


@pytest.fixture(params=["float32 of this processor", "float32 by 8 lanes", "bfloat16"])
def dtype(request, monkeypatch):
    """The dtypes that fused products take here, and the code for a processor that has AVX2 alone."""
    dtype = torch.bfloat16 if request.param == "bfloat16" else torch.float32
    if not fused_product.suits("cpu", dtype):
        pytest.skip("this processor takes another kernel")
    if "8 lanes" in request.param:
        monkeypatch.setattr(fused_product, "lanes", lambda: 8)
    return dtype


def parts_of(dtype, rows, inputs, outputs):
    """rows, weight and bias; results are of the order of one."""
    torch.manual_seed(0)
    return (
        part.to(dtype) for part in (torch.randn(rows, inputs), torch.randn(outputs, inputs) / inputs**0.5, torch.randn(outputs))
    )


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 6, 7, 47, 49, 155])
# In float32 the sums of 3,072 inputs go in parts; 66 and 312 outputs are no whole panels.
@pytest.mark.parametrize(("inputs", "outputs"), [(8, 64), (72, 192), (3072, 128), (3072, 66), (1200, 312)])
def test_a_product_is_the_product_with_its_bias_and_the_exact_gelu(dtype, rows, inputs, outputs, gelu):
    rows, weight, bias = parts_of(dtype, rows, inputs, outputs)
    wanted = F.linear(rows.double(), weight.double(), bias.double())
    got = FusedProduct(weight, bias, gelu)(rows)
    assert got.dtype == dtype
    close = {"atol": 5e-6, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 1e-4, "rtol": 2**-8}
    torch.testing.assert_close(got.double(), F.gelu(wanted) if gelu else wanted, **close)


@pytest.mark.parametrize("gelu", [False, True])
def test_a_row_has_the_same_bits_in_any_place_and_beside_any_others(dtype, gelu):
    rows, weight, bias = parts_of(dtype, 101, 3072, 64)
    product = FusedProduct(weight, bias, gelu)
    together = product(rows)
    for start, stop in ((0, 1), (3, 5), (46, 51), (40, 101)):
        assert torch.equal(product(rows[start:stop]), together[start:stop])


def test_sums_that_go_to_the_stream_are_not_rounded(dtype):
    rows, weight, bias = parts_of(dtype, 50, 3072, 128)
    wanted = F.linear(rows.double(), weight.double(), bias.double())
    got = Product(weight, bias, sums=True)(rows)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), wanted, atol=5e-6, rtol=1e-5)
    assert torch.equal(got.to(dtype), Product(weight, bias)(rows))


def test_a_sum_in_parts_has_the_bits_of_the_whole_sum(monkeypatch):
    if not fused_product.suits("cpu", torch.float32):
        pytest.skip("this processor takes another kernel")
    rows, weight, bias = parts_of(torch.float32, 10, 120, 64)
    whole = FusedProduct(weight, bias, False)
    monkeypatch.setitem(fused_product.CACHED, processor.lanes(), 10_000)
    parts = FusedProduct(weight, bias, False)
    assert (whole.part, parts.part) == (120, 32)  # four parts, the last of 24
    assert torch.equal(whole(rows), parts(rows))


def test_gelu_is_exact_from_end_to_end_of_its_argument(dtype):
    x = torch.linspace(-20, 20, 64 * 500, dtype=torch.float64).to(dtype).view(500, 64)
    got, wanted = FusedProduct(torch.eye(64, dtype=dtype), None, True)(x).double(), F.gelu(x.double())
    close = {"atol": 3e-8, "rtol": 1.2e-7} if dtype == torch.float32 else {"atol": 1.5e-5, "rtol": 2**-8}
    torch.testing.assert_close(got, wanted, **close)


@pytest.mark.parametrize("gelu", [False, True])
def test_what_is_no_number_stays_none_and_stays_in_its_row(dtype, gelu):
    rows, weight, bias = parts_of(dtype, 20, 64, 64)
    rows[7, 3] = torch.nan
    got = FusedProduct(weight, bias, gelu)(rows)
    assert got[7].isnan().all() and got[[*range(7), *range(8, 20)]].isfinite().all()
    rows[7, 3] = torch.inf
    got = FusedProduct(weight.abs(), bias, gelu)(rows)
    assert (got[7] == torch.inf).all()


def test_weights_are_laid_out_once_and_not_held_twice(dtype):
    _, weight, bias = parts_of(dtype, 1, 64, 128)
    product = Product(weight, bias)
    assert not hasattr(product, "weight") and product.fused.tiles.numel() == weight.numel()


@pytest.mark.parametrize("shape", [(62, 64), (64, 12), (65, 64)])
def test_a_weight_that_fills_no_panel_or_has_odd_sizes_goes_another_way(dtype, shape):
    rows, weight, bias = parts_of(dtype, 16, shape[1], shape[0])
    product = Product(weight, bias, gelu=True)
    wanted = F.gelu(F.linear(rows.double(), weight.double(), bias.double()))
    rounding = 1e-5 if dtype == torch.float32 else 2**-7
    torch.testing.assert_close(product(rows).double(), wanted, atol=rounding, rtol=rounding)
    assert bool(product.fused) == (shape != (62, 64) and dtype == torch.float32)


@pytest.fixture(scope="module")
def panels_bert(tmp_path_factory):
    return load_bert(make_bert(tmp_path_factory.mktemp("model") / "bert", hidden=128, heads=2))


def vectors(model, dtype, lengths):
    rng = np.random.default_rng(0)
    ids = torch.from_numpy(rng.integers(5, 100, sum(tokens * many for many, tokens in lengths)).astype(np.int32))
    bert = FoldedBert(model, "cls", dtype=dtype)
    return bert, bert(ids, GroupedSpan(lengths))


def test_a_forward_goes_by_fused_products_and_no_row_is_in_vain(panels_bert, dtype, monkeypatch):
    rows, multiply = [], FusedProduct.__call__
    monkeypatch.setattr(FusedProduct, "__call__", lambda self, x, *room: rows.append(len(x)) or multiply(self, x, *room))
    bert, _ = vectors(panels_bert, dtype, [(10, 21)])
    assert rows == [210] * 4 * (len(bert.layers) - 1) + [16] * 3  # [CLS] of ten documents: batched products like sixteen rows
    assert bert.step == 1
    first = bert.layers[0]
    assert (first.out.fused.dtype, first.down.fused.dtype) == (dtype, torch.float32)  # what goes to the stream is not rounded


@pytest.mark.parametrize("missing", [ImportError, RuntimeError])
def test_without_llvm_or_where_it_refuses_the_code_products_go_another_way(missing, panels_bert, dtype, monkeypatch):
    _, wanted = vectors(panels_bert, dtype, [(10, 21)])

    def refuse(*_):
        raise missing("no LLVM")

    monkeypatch.setattr(fused_product, "kernel", refuse)
    fused_product.suits.cache_clear()
    try:
        bert, got = vectors(panels_bert, dtype, [(10, 21)])
        assert not fused_product.suits("cpu", dtype) and not bert.layers[0].up.fused
        torch.testing.assert_close(got, wanted, atol=5e-6 if dtype == torch.float32 else 5e-2, rtol=0)
    finally:
        fused_product.suits.cache_clear()
