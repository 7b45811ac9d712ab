"""The forward itself: where documents lie in a batch, what happens when memory runs out, and what a GPU must give."""

import contextlib
import copy
import functools
import itertools
import os
import threading
import time
from concurrent.futures import CancelledError

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.conftest import make_bert
from twostage.encoder import forward, fused_attention, fused_norm, fused_product, processor, products
from twostage.encoder.attention import EqualSpan, GroupedSpan, PaddedSpan
from twostage.encoder.batching import equal_length_groups, packed_batches, sorted_batches
from twostage.encoder.encoder import Encoder, emulated, load_bert, load_tokens, resolve_device, resolve_dtype
from twostage.encoder.forward import FoldedBert
from twostage.encoder.lanes import Lanes
from twostage.encoder.products import BLOCK, FEW, FEWEST_ROWS, Product, block_rows, can_pack
from twostage.errors import BadInput
from twostage.memory import is_out_of_memory

needs_gpu, GPU = pytest.mark.gpu, os.environ.get("TWOSTAGE_TEST_DEVICE", "cuda")


def some_ids(lengths, seed=0, high=100):
    rng = np.random.default_rng(seed)
    return [np.concatenate([[2], rng.integers(5, high, t - 2), [3]]).astype(np.int32) for t in lengths]


@pytest.mark.parametrize("pooling", ["cls", "pooler", "mean", "max"])
def test_documents_of_different_lengths_in_one_matrix_give_what_they_give_alone(tiny_bert, pooling):
    bert = FoldedBert(load_bert(tiny_bert, pooler=True), pooling)
    ids = some_ids([3, 17, 40, 17])
    together = bert(torch.from_numpy(np.concatenate(ids)), PaddedSpan(torch.tensor([3, 17, 40, 17]), 40, "cpu"))
    for one, vector in zip(ids, together, strict=True):
        torch.testing.assert_close(bert(torch.from_numpy(one), EqualSpan(1, len(one)))[0], vector, atol=2e-6, rtol=0)


@pytest.fixture
def product_rows(monkeypatch):
    """The rows of each matrix product with weights, as they happen."""
    rows, linear, addmm, bmm, onednn = [], F.linear, torch.addmm, torch.bmm, products._onednn
    monkeypatch.setattr(F, "linear", lambda x, w, b: rows.append(len(x)) or linear(x, w, b))
    monkeypatch.setattr(torch, "addmm", lambda b, x, w, **out: rows.append(len(x)) or addmm(b, x, w, **out))
    monkeypatch.setattr(products, "_onednn", lambda x, *more: rows.append(len(x)) or onednn(x, *more))
    fused = fused_product.FusedProduct.__call__
    monkeypatch.setattr(
        fused_product.FusedProduct, "__call__", lambda self, x, *room: rows.append(len(x)) or fused(self, x, *room)
    )
    monkeypatch.setattr(torch, "bmm", lambda x, w: rows.append(x.shape[1]) or bmm(x, w))
    return rows


def test_the_last_layer_computes_nothing_but_attention_for_other_tokens_than_cls(tiny_bert, product_rows):
    FoldedBert(load_bert(tiny_bert), "cls")(torch.from_numpy(np.concatenate(some_ids([30] * 20))), GroupedSpan([(20, 30)]))
    # qkv, output, up, down of the first layer; of the last query, probes, values, output, up, down
    few = [32] if processor.has_avx512() else [FEWEST_ROWS] * 2  # two blocks
    assert product_rows == [608] * 4 + few * 6


def test_no_product_has_fewer_than_sixteen_rows(tiny_bert, product_rows):
    FoldedBert(load_bert(tiny_bert), "cls")(torch.from_numpy(some_ids([3])[0]), GroupedSpan([(1, 3)]))
    assert set(product_rows) == {FEWEST_ROWS} == {16}


def test_with_keys_and_values_or_without_attention_of_cls_is_the_same(tiny_bert):
    lean, full = (FoldedBert(load_bert(tiny_bert), "cls") for _ in range(2))
    full.attention_without_keys = full.attention_of_first  # what a GPU computes
    ids, span = torch.from_numpy(np.concatenate(some_ids([30] * 20))), GroupedSpan([(20, 30)])
    torch.testing.assert_close(lean(ids, span), full(ids, span), atol=2e-6, rtol=0)


@pytest.fixture(scope="module")
def wide_bert(tmp_path_factory):
    """Wide enough that oneDNN and MKL divide a product by its number of rows, where they do."""
    return load_bert(make_bert(tmp_path_factory.mktemp("model") / "wide", hidden=512, heads=8, positions=512), pooler=True)


@pytest.fixture(scope="module")
def narrow_bert(tmp_path_factory):
    """Heads of 26 numbers, a hidden width and a feed-forward that are no whole panels of products."""
    return load_bert(make_bert(tmp_path_factory.mktemp("model") / "narrow", hidden=104, heads=4))


@pytest.fixture
def threads():
    """torch.set_num_threads, for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def one_thread(threads):
    """As in a lane."""
    threads(1)


@pytest.fixture
def kernels(monkeypatch):
    """Use code of our own where this processor has it, or leave it all to torch."""

    def use(own: bool) -> None:
        if not own:
            monkeypatch.setattr(fused_attention, "suits", lambda *_: False)
            monkeypatch.setattr(fused_norm, "suits", lambda *_: False)
            monkeypatch.setattr(fused_product, "suits", lambda *_: False)

    return use


@pytest.mark.parametrize("pooling", ["cls", "pooler", "mean", "max"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("fused", [True, False])
def test_a_document_has_the_same_bits_whatever_is_beside_it(wide_bert, one_thread, dtype, pooling, fused, kernels):
    kernels(fused)
    bert, rng = FoldedBert(wide_bert, pooling, dtype=dtype), np.random.default_rng(0)
    ids = some_ids([3, 3, 9, 20, 21, 21, 21, 40, 64, 65, 99, 128, 250, 257, 300, 411])

    def encode(rows):
        rows = sorted(rows, key=lambda row: -len(ids[row]))
        span = GroupedSpan(equal_length_groups([len(ids[row]) for row in rows]))
        return dict(zip(rows, bert(torch.from_numpy(np.concatenate([ids[row] for row in rows])), span).numpy(), strict=True))

    alone = {row: encode([row])[row].tobytes() for row in range(len(ids))}
    for _ in range(6):
        for row, vector in encode(rng.permutation(len(ids))[: rng.integers(2, 16)].tolist()).items():
            assert vector.tobytes() == alone[row], f"{len(ids[row])} tokens"


@pytest.fixture
def rows_of_products(monkeypatch):
    """Of products in bfloat16 for these lengths, with the rule that a processor has."""

    def run(model, lengths, any_rows) -> set[int]:
        rows, multiply = set(), Product.__call__
        monkeypatch.setattr(forward, "any_rows", lambda *_: any_rows)
        monkeypatch.setattr(Product, "__call__", lambda self, x, room=None: rows.add(len(x)) or multiply(self, x, room))
        bert = FoldedBert(model, "pooler", dtype=torch.bfloat16)
        bert(torch.from_numpy(np.concatenate(some_ids(lengths))), GroupedSpan(equal_length_groups(lengths)))
        return rows

    return run


@pytest.mark.parametrize("lengths", [[3], [20] * 50, [300, 4]])
def test_a_product_in_half_precision_has_one_number_of_rows_where_bits_depend_on_it(wide_bert, rows_of_products, lengths):
    assert rows_of_products(wide_bert, lengths, any_rows=False) == {block_rows(512), FEW}


def test_no_row_of_a_product_in_half_precision_is_in_vain_where_bits_do_not_depend_on_it(wide_bert, rows_of_products, kernels):
    kernels(False)
    assert rows_of_products(wide_bert, [3], any_rows=True) == {FEWEST_ROWS}
    assert rows_of_products(wide_bert, [20] * 50, any_rows=True) == {1008, 64}  # all tokens, all [CLS]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [20, 50, 64, 79])
@pytest.mark.parametrize("fused", [True, False])
def test_keys_go_on_into_the_rows_that_follow_and_take_no_share_of_attention(dtype, tokens, fused, kernels):
    kernels(fused)
    torch.manual_seed(0)
    qkv = torch.randn(3 * tokens + 5, 3 * 64).to(dtype)
    qkv[3 * tokens :] = 1e4  # whatever stands there, if there is anything
    q, k, v = (part[: 3 * tokens].view(3, tokens, 2, 32).transpose(1, 2).double() for part in qkv.chunk(3, -1))
    wanted = (torch.softmax(q @ k.transpose(2, 3) * 32**-0.5, -1) @ v).transpose(1, 2).reshape(3 * tokens, 64)
    for rows in (qkv, qkv[: 3 * tokens]):
        q, k, v = rows.chunk(3, -1)
        got = GroupedSpan([(3, tokens)]).attend(q[: 3 * tokens], k, v, 2)
        torch.testing.assert_close(got.double(), wanted, atol=1e-5 if dtype == torch.float32 else 2e-2, rtol=0)


def documents_of(count, tokens, width=64, dtype=torch.float32):
    """q, k, v (B T, D) of documents that are the same whatever count is."""
    made = [torch.randn(tokens, 3 * width, generator=torch.Generator().manual_seed(i)) for i in range(count)]
    return torch.cat(made).to(dtype).chunk(3, -1)


def softmax_attention(q, k, v, documents, heads, scale):
    q, k, v = (x.double().view(documents, -1, heads, x.shape[1] // heads).transpose(1, 2) for x in (q, k, v))
    return (torch.softmax(q @ k.transpose(2, 3) * scale, -1) @ v).transpose(1, 2).flatten(2).flatten(0, 1)


def fused(q, k, v, documents, heads, scale):
    starts = (torch.arange(documents + 1) * (len(rows) // documents) for rows in (q, k))
    return fused_attention.attend(q, k, v, *starts, len(k) // documents, heads, scale)


@pytest.fixture(params=["float32 of this processor", "float32 by 8 lanes", "bfloat16"])
def fused_dtype(request, monkeypatch):
    """The dtypes that fused attention takes here, and the code for a processor that has AVX2 alone."""
    dtype = torch.bfloat16 if request.param == "bfloat16" else torch.float32
    if not fused_attention.suits("cpu", dtype, 32):
        pytest.skip("this processor takes another attention")
    if "8 lanes" in request.param:
        monkeypatch.setattr(fused_attention, "lanes", lambda: 8)
    return dtype


@pytest.mark.parametrize("tokens", [1, 2, 15, 16, 17, 21, 49, 130, 400])
# Of a head: less than a register, some lanes more, fewer registers than are taken at a time, as many, and a rest.
@pytest.mark.parametrize("width", [6, 26, 32, 64, 96])
def test_fused_attention_is_softmax_of_the_scores_times_the_values(fused_dtype, tokens, width):
    q, k, v = documents_of(3, tokens, width=2 * width, dtype=fused_dtype)
    got = fused(q, k, v, 3, 2, width**-0.5).double()
    bound = 1e-5 if fused_dtype == torch.float32 else 2e-2
    torch.testing.assert_close(got, softmax_attention(q, k, v, 3, 2, width**-0.5), atol=bound, rtol=0)


@pytest.mark.parametrize("queries", [1, 5, 6, 12])
def test_fused_attention_takes_other_queries_than_its_keys(fused_dtype, queries):
    q = documents_of(3, queries, dtype=fused_dtype)[0]
    _, k, v = documents_of(3, 21, dtype=fused_dtype)
    bound = 1e-5 if fused_dtype == torch.float32 else 2e-2
    wanted = softmax_attention(q, k, v, 3, 2, 0.2)
    torch.testing.assert_close(fused(q, k, v, 3, 2, 0.2).double(), wanted, atol=bound, rtol=0)


@pytest.mark.parametrize("sign", [1, -1])
def test_fused_attention_takes_scores_beyond_the_powers_of_float32(fused_dtype, sign):
    q, k, v = (part.clone() for part in documents_of(3, 21, dtype=fused_dtype))
    q[21:42, :32], k[21:42, :32] = 30, sign * 10  # one head of the second document: scores of ±1,700
    k[21:42, :32] += 0.5 * torch.arange(21)[:, None].to(fused_dtype) / 21
    got = fused(q, k, v, 3, 2, 32**-0.5).double()
    bound = 1e-4 if fused_dtype == torch.float32 else 3e-2
    torch.testing.assert_close(got, softmax_attention(q, k, v, 3, 2, 32**-0.5), atol=bound, rtol=0)


def test_scores_that_are_no_numbers_stay_none_and_touch_no_other_document(fused_dtype):
    for part in range(3):
        parts = [one.clone() for one in documents_of(2, 21, dtype=fused_dtype)]
        parts[part][:21] = torch.nan
        got = fused(*parts, 2, 2, 32**-0.5)
        assert torch.isnan(got[:21]).all() and torch.isfinite(got[21:]).all()


@pytest.mark.parametrize("tokens", [2, 7, 21, 33, 130])
def test_fused_attention_has_the_same_bits_in_any_batch_and_in_any_place_of_memory(fused_dtype, tokens):
    q, k, v = documents_of(9, tokens, dtype=fused_dtype, width=768)
    together = fused(q, k, v, 9, 12, 0.125)
    for one in (0, 4, 8):
        alone = slice(one * tokens, (one + 1) * tokens)
        assert torch.equal(fused(q[alone], k[alone], v[alone], 1, 12, 0.125), together[alone])


def test_code_of_our_own_is_taken_wherever_a_processor_has_the_registers_for_it():
    assert (
        fused_attention.suits("cpu", torch.float32, 32) == fused_norm.suits("cpu", torch.float32, 32) == bool(processor.lanes())
    )
    pairs = processor.has_avx512() and processor.has_bfloat16() and not processor.has_amx()
    for width in (26, 64):  # a head that fills no registers, and one that does
        assert fused_attention.suits("cpu", torch.bfloat16, width) == fused_product.suits("cpu", torch.bfloat16) == pairs
        assert fused_attention.suits("cpu", torch.float32, width) == bool(processor.lanes())
    assert (
        fused_norm.suits("cpu", torch.float32, 312) == fused_norm.suits("cpu", torch.bfloat16, 312) == bool(processor.lanes())
    )
    by_mkl = processor.has_avx512() and processor.made_by_intel()
    assert fused_product.suits("cpu", torch.float32) == bool(processor.lanes() and not by_mkl)


@pytest.fixture(params=["this processor", "AVX-512 without bfloat16", "AVX2 alone"])
def norm_of(request, monkeypatch):
    """Norms by the code for this processor, or for one that has less."""
    if not processor.lanes():
        pytest.skip("this processor takes torch's norm")
    if request.param != "this processor":
        monkeypatch.setattr("twostage.encoder.machine_code.has_bfloat16", lambda: False)
        monkeypatch.setattr(fused_norm, "kernel", functools.cache(fused_norm.kernel.__wrapped__))
    if request.param == "AVX2 alone":
        monkeypatch.setattr(fused_norm, "lanes", lambda: 8)
    return fused_norm.add_norm


@pytest.mark.parametrize("width", [16, 22, 64, 80, 312, 384])  # registers of 16 lanes: 1, 1 and a rest, 4, 5, 19 and a half, 24
def test_fused_norm_is_the_norm_of_a_sum_and_leaves_what_it_is_told_to_leave(width, norm_of):
    torch.manual_seed(0)
    x, y, norm = torch.randn(7, width) * 3 + 50, torch.randn(7, width), (torch.randn(width), torch.randn(width))
    for of_y, dtype in itertools.product((torch.float32, torch.bfloat16), repeat=2):
        wanted = F.layer_norm(x.double() + y.to(of_y).double(), (width,), *(part.double() for part in norm), 1e-12)
        kept, around = x.clone(), torch.full((9, width), 7.0)
        out, taken = norm_of(kept, y.to(of_y), norm, 1e-12, dtype, around[1:8])
        assert (around[[0, 8]] == 7).all()
        torch.testing.assert_close(out.double(), wanted, atol=1e-4, rtol=0)
        assert torch.equal(kept, x) and taken.dtype == dtype and torch.equal(taken, out.to(dtype))
        assert norm_of(kept, y.to(of_y), norm, 1e-12, dtype)[0] is kept and torch.equal(kept, out)


def test_a_norm_rounds_to_bfloat16_as_torch_does(norm_of):
    x = torch.tensor([0.0, -0.0, 1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 1 + 2**-8 + 2**-20, 3.0e38, torch.nan] * 2)[None]
    only = torch.ones(16), x[0]  # a row of equal numbers has a norm of nothing: its bias is left
    out, taken = norm_of(torch.ones(1, 16), torch.ones(1, 16), only, 1e-12, torch.bfloat16)
    assert torch.equal(out.isnan(), x.isnan())
    torch.testing.assert_close(taken, x.bfloat16(), rtol=0, atol=0, equal_nan=True)


def test_every_layer_attends_by_code_of_our_own_where_it_suits(wide_bert, fused_dtype, monkeypatch):
    queries, attend = [], fused_attention.attend
    monkeypatch.setattr(fused_attention, "attend", lambda q, *more: queries.append(len(q)) or attend(q, *more))
    monkeypatch.setattr(fused_attention, "suits", functools.cache(fused_attention.suits.__wrapped__))  # nothing was tried yet
    bert = FoldedBert(wide_bert, "cls", dtype=fused_dtype)
    queries.clear()  # those of trying it: no lane does
    bert(torch.from_numpy(np.concatenate(some_ids([40] * 20 + [30] * 4))), GroupedSpan([(20, 40), (4, 30)]))
    assert queries == [920] * (len(bert.layers) - 1) + [24 * bert.heads]


@pytest.mark.parametrize("missing", [ImportError, RuntimeError])
def test_without_llvm_or_where_it_refuses_the_code_attention_goes_another_way(missing, tiny_bert, monkeypatch):
    ids, span = torch.from_numpy(np.concatenate(some_ids([40] * 20))), GroupedSpan([(20, 40)])
    fused_vectors = FoldedBert(load_bert(tiny_bert), "mean")(ids, span)

    def refuse(*_):
        raise missing("no LLVM")

    monkeypatch.setattr(fused_attention, "kernel", refuse)
    fused_attention.suits.cache_clear()
    try:
        assert not fused_attention.suits("cpu", torch.float32, 16)
        torch.testing.assert_close(FoldedBert(load_bert(tiny_bert), "mean")(ids, span), fused_vectors, atol=2e-6, rtol=0)
    finally:
        fused_attention.suits.cache_clear()


def test_batched_products_of_a_forward_find_torch_set_for_them(tiny_bert, monkeypatch):
    if not products.batches_by_onednn("cpu"):
        pytest.skip("this processor takes another kernel")
    set_to, multiply = [], torch.bmm

    def watched(*args):
        set_to.append(torch.backends.mkldnn.matmul.fp32_precision)
        return multiply(*args)

    monkeypatch.setattr(torch, "bmm", watched)
    FoldedBert(load_bert(tiny_bert), "cls")(torch.from_numpy(np.concatenate(some_ids([40] * 20))), GroupedSpan([(20, 40)]))
    assert set(set_to) == {"bf16"}


def test_torch_is_set_as_it_was_when_the_last_thread_has_left():
    before = torch.backends.mkldnn.matmul.fp32_precision
    with products.Float32ByOneDNN():
        with products.Float32ByOneDNN():
            pass
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    assert torch.backends.mkldnn.matmul.fp32_precision == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_widths_that_fill_no_registers_give_the_vectors_of_plain_bert_in_any_batch(narrow_bert, one_thread, dtype):
    bert, ids = FoldedBert(narrow_bert, "cls", dtype=dtype), some_ids([3, 21, 21, 40, 65, 99])
    if fused_product.suits("cpu", dtype):
        assert all(
            product.fused for product in (bert.layers[0].qkv, bert.layers[0].out, bert.layers[0].up, bert.layers[0].down)
        )
    with Lanes(bert) as lanes:
        together = lanes.encode(ids)
        for one, vector in zip(ids, together, strict=True):
            assert np.array_equal(lanes.encode([one])[0], vector)
            with torch.inference_mode():
                wanted = narrow_bert(torch.from_numpy(one.astype(np.int64))[None]).last_hidden_state[0, 0]
            assert np.abs(vector - wanted.numpy()).max() < (5e-6 if dtype == torch.float32 else 3e-2)


def test_half_precision_that_a_processor_has_no_unit_for_is_remarked_on(monkeypatch):
    monkeypatch.setattr(processor, "has_bfloat16", lambda: False)
    monkeypatch.setattr(processor, "has_float16", lambda: False)
    for dtype in ("bfloat16", "float16"):
        wanted = [f"--dtype {dtype}: this processor has no unit for it; auto takes float32, which is faster"]
        assert emulated(dtype, "cpu") == (wanted if processor.is_x86() else [])
    assert emulated("float32", "cpu") == emulated("float16", "cuda:0") == []


def test_a_packed_product_is_the_product_with_its_bias_and_the_exact_gelu():
    if not can_pack("cpu", torch.bfloat16):
        pytest.skip("oneDNN is not faster on this processor")
    torch.manual_seed(0)
    weight, bias, rows = (torch.randn(*size).bfloat16() for size in ((96, 64), (96,), (BLOCK, 64)))
    wanted = F.linear(rows.double(), weight.double(), bias.double())
    for gelu in (False, True):
        got = Product(weight, bias, gelu=gelu)(rows).double()
        torch.testing.assert_close(got, F.gelu(wanted) if gelu else wanted, atol=1e-3, rtol=2**-8)


@pytest.mark.parametrize("kind", ["relu", "gelu_new"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_another_activation_than_gelu_is_computed_as_the_checkpoint_says(tmp_path, kind, dtype):
    folder = make_bert(tmp_path / "bert")
    config = (folder / "config.json").read_text().replace('"hidden_act": "gelu"', f'"hidden_act": "{kind}"')
    (folder / "config.json").write_text(config)
    model, ids = load_bert(folder), torch.from_numpy(np.concatenate(some_ids([30] * 20)))
    wanted = model(ids.view(20, 30).long()).last_hidden_state[:, 0]
    got = FoldedBert(model, "cls", dtype=dtype)(ids, GroupedSpan([(20, 30)]))
    assert model.config.hidden_act == kind
    torch.testing.assert_close(got, wanted, atol=5e-6 if dtype == torch.float32 else 3e-2, rtol=0)


@pytest.fixture(scope="module")
def biased_bert(tmp_path_factory):
    """Four layers, and large biases in all of them."""
    model = load_bert(make_bert(tmp_path_factory.mktemp("model") / "biased", layers=4), pooler=True)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_()
    return model


VIEWS = [(pooling, layer) for layer in (-1, -2, -4) for pooling in ("mean", "cls", "max")] + [("pooler", -1)]


def test_each_view_is_what_transformers_gives_for_its_layer_whatever_the_biases_that_moved_into_norms(biased_bert):
    ids = torch.from_numpy(np.concatenate(some_ids([30] * 20)))
    out = biased_bert(ids.view(20, 30).long(), output_hidden_states=True)
    for (pooling, layer), vectors in zip(VIEWS, FoldedBert(biased_bert, VIEWS)(ids, GroupedSpan([(20, 30)])), strict=True):
        tokens = out.hidden_states[layer]
        wanted = {"cls": tokens[:, 0], "mean": tokens.mean(1), "max": tokens.amax(1), "pooler": out.pooler_output}[pooling]
        torch.testing.assert_close(vectors, wanted, atol=5e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_view_has_the_same_bits_beside_others_alone_and_of_an_encoder_cut_after_its_layer(biased_bert, dtype):
    lengths = [3, 9, 9, 20, 33]
    ids, span = torch.from_numpy(np.concatenate(some_ids(lengths))), GroupedSpan(equal_length_groups(lengths))
    together = FoldedBert(biased_bert, VIEWS, dtype=dtype)(ids, span)
    for view, vectors in zip(VIEWS, together, strict=True):
        assert torch.equal(FoldedBert(biased_bert, [view], dtype=dtype)(ids, span), vectors), view
        cut = copy.deepcopy(biased_bert)
        cut.encoder.layer = cut.encoder.layer[: 5 + view[1]]
        assert torch.equal(FoldedBert(cut, view[0], dtype=dtype)(ids, span), vectors), view
    assert len({vectors.numpy().tobytes() for vectors in together}) == len(VIEWS)


def test_batches_hold_each_document_once_within_the_budget():
    lengths = np.random.default_rng(0).integers(3, 40, 500)
    for arrange, cost in ((packed_batches, np.sum), (sorted_batches, lambda part: len(part) * part.max())):
        batches = arrange(lengths, 200)
        assert sorted(np.concatenate(batches).tolist()) == list(range(500))
        assert all(cost(lengths[batch]) <= 200 for batch in batches)
        assert [len(batch) for batch in arrange(lengths[:5], 1)] == [1] * 5
        assert arrange(np.zeros(0, int), 10) == []
    assert equal_length_groups([9, 9, 4, 3, 3, 3]) == [(2, 9), (1, 4), (3, 3)]


def tokens_of(batches, lengths) -> list[int]:
    return [int(lengths[batch].sum()) for batch in batches]


def test_every_lane_has_as_many_batches_and_as_many_tokens():
    titles = np.random.default_rng(0).integers(6, 36, 512)
    for documents, lanes, each in ((512, 2, 6), (512, 4, 3), (300, 4, 2), (100, 16, 1), (12, 2, 1)):
        lengths = titles[:documents]
        found = tokens_of(packed_batches(lengths, 1024, lanes), lengths)
        assert len(found) == lanes * each
        assert max(found) - min(found) < 36  # the longest title


def test_no_lane_more_is_asked_for_where_rows_of_its_products_would_be_in_vain():
    lengths = np.full(30, 10)
    assert tokens_of(packed_batches(lengths, 1024, 16), lengths) == [60] * 5
    assert tokens_of(packed_batches(lengths, 1024, 16, step=256), lengths) == [250, 50]
    assert tokens_of(packed_batches(lengths, 1024, 2, step=256), lengths) == [250, 50]


def test_a_document_that_fits_no_batch_goes_to_the_emptiest_before_it_gets_one_of_its_own():
    lengths = np.array([400, 400, 400, 400, 390])
    assert tokens_of(packed_batches(lengths, 1024, 2), lengths) == [800, 800, 390]
    lengths = np.array([300, 300, 300, 300, 290])
    assert sorted(tokens_of(packed_batches(lengths, 1024, 2), lengths)) == [600, 890]


@pytest.mark.parametrize("any_rows", [True, False])
def test_a_few_documents_go_to_all_lanes_but_where_rows_would_be_in_vain(tiny_bert, monkeypatch, threads, any_rows):
    monkeypatch.setattr(forward, "any_rows", lambda *_: any_rows)
    threads(3)
    bert = FoldedBert(load_bert(tiny_bert), "cls", dtype=torch.bfloat16)
    assert bert.step == (FEWEST_ROWS if any_rows else 512)
    with Lanes(bert) as lanes:
        job = lanes.submit(some_ids([20] * 30))
        assert len(job.futures) == (3 if any_rows else 2)  # 200 tokens each; two products of 512 rows hold all 600
        assert np.isfinite(job.wait()).all()


class Cramped:
    """A FoldedBert on a machine that has memory for `most` tokens at a time."""

    def __init__(self, bert, most):
        self.bert, self.most, self.on_gpu, self.width = bert, most, bert.on_gpu, bert.width
        self.device, self.dtype, self.heads, self.views, self.step = bert.device, bert.dtype, bert.heads, bert.views, bert.step

    def __call__(self, ids, span):
        if len(ids) > self.most:
            if self.on_gpu:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:116] DefaultCPUAllocator: can't allocate memory: you tried")
        return self.bert(ids, span)


def test_when_memory_runs_out_batches_shrink_and_the_vectors_stay(tiny_bert, capsys):
    bert, ids = FoldedBert(load_bert(tiny_bert), "cls"), some_ids([20] * 50 + [33] * 9)
    with Lanes(bert, 1000) as lanes, Lanes(Cramped(bert, 140), 1000) as cramped:
        wanted, got = lanes.encode(ids), cramped.encode(ids)
        assert cramped.tokens_per_batch <= 140
    assert wanted.tobytes() == got.tobytes()
    assert "memory ran out: batches of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "is_so"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("not enough memory"), False),
    ],
)
def test_each_way_to_say_that_memory_ran_out_is_known(error, is_so):
    assert is_out_of_memory(error) is is_so


def test_when_a_single_document_does_not_fit_the_message_says_so(tiny_bert):
    bert = FoldedBert(load_bert(tiny_bert), "cls")
    with Lanes(Cramped(bert, 30), 1000) as lanes, pytest.raises(BadInput, match="single document of 33 tokens"):
        lanes.encode(some_ids([20] * 5 + [33]))


def test_who_waits_for_lanes_that_are_closed_is_told_so(tiny_bert):
    lanes = Lanes(FoldedBert(load_bert(tiny_bert), "cls"), 200)
    lanes.pool.submit(time.sleep, 0.5), lanes.pool.submit(time.sleep, 0.5)  # so that nothing has begun when they are closed
    job, told = lanes.submit(some_ids([20] * 400)), []

    def wait():
        with contextlib.suppress(CancelledError):
            job.wait()
        told.append(True)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    time.sleep(0.1)
    lanes.close()
    waiting.join(20)
    assert told


def test_an_error_of_the_forward_reaches_the_caller(tiny_bert):
    with Lanes(FoldedBert(load_bert(tiny_bert), "cls")) as lanes, pytest.raises(IndexError):
        lanes.encode([np.array([2, 10**6, 3], np.int32)])


def test_half_precision_stays_close_and_comes_back_in_float32(tiny_bert):
    exact, half = (Encoder(tiny_bert, max_length=64, device="cpu", dtype=dtype) for dtype in ("float32", "bfloat16"))
    texts = ["的一是了我不", "人在他有" * 20]
    wanted, got = exact.encode(texts)[0], half.encode(texts)[0]
    exact.close()
    half.close()
    assert got.dtype == np.float32
    assert 0 < np.abs(got - wanted).max() < 0.1


def test_devices_and_dtypes_resolve_to_what_is_here():
    assert resolve_device("cpu") == "cpu"
    assert resolve_dtype("float16", "cpu") == "float16"
    for name in ("gpu", "cuda:99", "meta"):
        with pytest.raises(BadInput, match=f"--device {name}"):
            resolve_device(name)


@pytest.fixture
def gpus(monkeypatch):
    """gpus(number, capability): this machine seems to have so many GPUs."""

    def seem(number, capability=(9, 0)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
        monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", lambda on: settled.append(on))
        return settled

    settled = []
    before = torch.get_float32_matmul_precision()
    yield seem
    torch.set_float32_matmul_precision(before)


def test_a_gpu_is_named_with_its_number_and_each_rank_has_its_own(gpus, monkeypatch):
    settled = gpus(2)
    torch.set_float32_matmul_precision("high")  # as an environment variable of some images has it
    assert [resolve_device(name) for name in ("auto", "cuda", "cuda:1")] == ["cuda:0", "cuda:0", "cuda:1"]
    assert torch.get_float32_matmul_precision() == "highest"
    assert settled == [False] * 3  # no attention of cuDNN's
    for name, value in {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert resolve_device("auto") == "cuda:1"
    with pytest.raises(BadInput, match="each of the 4 ranks takes its own"):
        resolve_device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(BadInput, match="this machine has 2"):
        resolve_device("cuda")


def test_bfloat16_is_refused_on_a_gpu_that_emulates_it(gpus):
    gpus(1, (7, 5))
    assert [resolve_dtype(name, "cuda:0") for name in ("auto", "float16", "float32")] == ["float16", "float16", "float32"]
    with pytest.raises(BadInput, match="only emulates it"):
        resolve_dtype("bfloat16", "cuda:0")


class Event:
    """torch.cuda.Event where nothing is asynchronous."""

    def __init__(self, enable_timing=False):
        self.timed, self.at = enable_timing, None

    def record(self):
        self.at = time.perf_counter()

    def elapsed_time(self, later):
        assert self.timed and later.timed
        return 1000 * (later.at - self.at)

    def synchronize(self): ...


def varlen_on_cpu(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, causal=False, scale=None, *_, **__):
    """torch's variable-length attention, which has no CPU kernel, by its contract: one document after another."""
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert (int(cu_seq_q.diff().max()), int(cu_seq_k.diff().max())) == (max_q, max_k)
    pieces = zip(*(part.tensor_split(ends[1:-1].long()) for part, ends in (
        (query, cu_seq_q), (key, cu_seq_k), (value, cu_seq_k))), strict=True)  # fmt: skip
    attended = [
        F.scaled_dot_product_attention(*(part.transpose(0, 1) for part in qkv), scale=scale).transpose(0, 1) for qkv in pieces
    ]
    return torch.cat(attended), query.new_empty(0), query.new_empty(0)


@pytest.fixture(scope="module")
def varlen_kernel():
    from torch.nn.attention import varlen

    varlen._varlen_attn.register_kernel("cpu")(varlen_on_cpu)


@pytest.fixture
def as_on_a_gpu(monkeypatch, varlen_kernel):
    """A FoldedBert that takes the way of a GPU, on the CPU: batches, spans, hand-over and recovery are those of a GPU."""
    for name, stand_in in (("Event", Event), ("device", lambda _: contextlib.nullcontext()), ("empty_cache", int)):
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, pin_memory=False, **more: empty(*size, **more))

    def build(model, pooling):
        bert = FoldedBert(model, pooling)
        bert.on_gpu = True
        return bert

    return build


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("pooling", ["cls", "pooler", "mean", "max"])
def test_the_way_of_a_gpu_gives_the_same_vectors(as_on_a_gpu, tiny_bert, pooling, packed):
    model, ids = load_bert(tiny_bert, pooler=True), some_ids([20] * 50 + [33] * 9 + list(range(3, 60)))
    pooling = [(pooling, -1), ("mean", -2), ("cls", -2)]
    with Lanes(FoldedBert(model, pooling)) as plain, Lanes(as_on_a_gpu(model, pooling), 400) as lanes:
        lanes.varlen = packed
        np.testing.assert_allclose(lanes.submit(ids).wait(), plain.submit(ids).wait(), atol=3e-6)
        assert lanes.busy_seconds > 0


def test_means_are_added_in_one_order_and_documents_of_one_length_are_packed_too(as_on_a_gpu, tiny_bert, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("this is not deterministic, or plans each shape anew, on a GPU")

    monkeypatch.setattr(torch.Tensor, "index_add_", refuse)
    model, ids = load_bert(tiny_bert), some_ids([20] * 50)
    with Lanes(FoldedBert(model, "mean")) as plain, Lanes(as_on_a_gpu(model, "mean"), 400) as lanes:
        wanted, lanes.varlen = plain.encode(ids), True
        monkeypatch.setattr("twostage.encoder.lanes.EqualSpan", refuse)
        np.testing.assert_allclose(lanes.encode(ids), wanted, atol=3e-6)


def test_the_speed_of_a_gpu_is_timed_on_full_batches_the_second_time(as_on_a_gpu, tiny_bert, monkeypatch):
    from types import SimpleNamespace

    from twostage.extraction.plan import Plan, time_batches

    texts = ["的一是了我不人在"] * 40
    corpus = SimpleNamespace(texts=lambda rows: [texts[row] for row in rows])
    lanes = Lanes(as_on_a_gpu(load_bert(tiny_bert), "cls"), 200)
    lanes.varlen, sizes, encode = True, [], lanes.encode
    monkeypatch.setattr(lanes, "encode", lambda ids: sizes.append(sum(map(len, ids))) or encode(ids))
    encoder = SimpleNamespace(lanes=lanes, tokens=load_tokens(tiny_bert, 64, "head"))
    plan = Plan(40, 2, 0, 0, 0, 40, np.full(40, 10), 64, 1.0, [], 0, 0)
    time_batches(plan, corpus, SimpleNamespace(encode=np.ones(40, bool)), encoder)
    lanes.close()
    assert sizes[-2] == sizes[-1] >= 3 * 200
    assert plan.tokens_per_second > 0


def test_when_a_gpu_runs_out_of_memory_batches_shrink_and_nothing_is_lost(as_on_a_gpu, tiny_bert, capsys):
    model, ids = load_bert(tiny_bert), some_ids([20] * 50 + [33] * 9)
    with Lanes(FoldedBert(model, "cls")) as plain, Lanes(Cramped(as_on_a_gpu(model, "cls"), 140), 1000) as cramped:
        np.testing.assert_allclose(cramped.encode(ids), plain.encode(ids), atol=3e-6)
        assert cramped.tokens_per_batch <= 140
    assert "memory ran out: batches of" in capsys.readouterr().err


@needs_gpu
@pytest.mark.parametrize("pooling", ["cls", "pooler", "mean", "max"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_gpu_gives_the_vectors_of_bertmodel_within_its_precision(tmp_path, pooling, dtype):
    folder = make_bert(tmp_path / "bert", hidden=128, heads=2)
    texts = ["的一是了我不人在"[:n] * 10 for n in range(1, 8)] * 5
    gpu = Encoder(folder, max_length=100, pooling=pooling, device=GPU, dtype=dtype, tokens_per_batch=500)
    cpu = Encoder(folder, max_length=100, pooling=pooling, device="cpu", dtype="float32")
    got, wanted = gpu.encode(texts)[0], cpu.encode(texts)[0]
    gpu.close()
    cpu.close()
    assert np.abs(got - wanted).max() < {"bfloat16": 0.1, "float16": 0.02, "float32": 1e-4}[dtype]


@needs_gpu
def test_packed_and_padded_attention_agree_on_a_gpu(tmp_path):
    folder = make_bert(tmp_path / "bert", hidden=128, heads=2)
    encoder = Encoder(folder, max_length=100, device=GPU, dtype="bfloat16")
    ids = some_ids([3, 17, 40, 17, 99], high=60)
    packed = encoder.lanes.encode(ids)
    encoder.lanes.varlen = False
    assert np.abs(packed - encoder.lanes.encode(ids)).max() < 0.1
    encoder.close()
