"""The forward itself: where documents lie in a batch, what happens when memory runs out, and what a GPU must give."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.conftest import make_bert
from twostage.batches import equal_length_groups, packed_batches, sorted_batches
from twostage.encoder import Encoder, load_bert, resolve_device, resolve_dtype
from twostage.errors import BadInput
from twostage.forward import FEWEST_ROWS, FoldedBert
from twostage.lanes import Lanes
from twostage.spans import EqualSpan, PaddedSpan

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


def some_ids(lengths, seed=0, high=100):
    rng = np.random.default_rng(seed)
    return [np.concatenate([[2], rng.integers(5, high, t - 2), [3]]).astype(np.int32) for t in lengths]


@pytest.mark.parametrize("pooling", ["cls", "pooler", "mean"])
def test_documents_of_different_lengths_in_one_matrix_give_what_they_give_alone(tiny_bert, pooling):
    bert = FoldedBert(load_bert(tiny_bert, pooler=True), pooling)
    ids = some_ids([3, 17, 40, 17])
    together = bert(torch.from_numpy(np.concatenate(ids)), PaddedSpan(torch.tensor([3, 17, 40, 17]), 40, "cpu"))
    for one, vector in zip(ids, together, strict=True):
        torch.testing.assert_close(bert(torch.from_numpy(one), EqualSpan(1, len(one)))[0], vector, atol=2e-6, rtol=0)


@pytest.fixture
def product_rows(monkeypatch):
    """The rows of each matrix product, as they happen."""
    rows, linear, addmm = [], F.linear, torch.addmm
    monkeypatch.setattr(F, "linear", lambda x, w, b: rows.append(len(x)) or linear(x, w, b))
    monkeypatch.setattr(torch, "addmm", lambda b, x, w, out: rows.append(len(x)) or addmm(b, x, w, out=out))
    return rows


def test_the_last_layer_computes_query_and_feed_forward_for_cls_alone(tiny_bert, product_rows):
    FoldedBert(load_bert(tiny_bert), "cls")(torch.from_numpy(np.concatenate(some_ids([30] * 20))), EqualSpan(20, 30))
    # qkv, output, up, down of the first layer; keys and values of the last; then its query, output, up, down
    assert product_rows == [600, 600, 600, 600, 600, 20, 20, 20, 20]


def test_no_product_has_fewer_than_sixteen_rows(tiny_bert, product_rows):
    FoldedBert(load_bert(tiny_bert), "cls")(torch.from_numpy(some_ids([3])[0]), EqualSpan(1, 3))
    assert set(product_rows) == {FEWEST_ROWS} == {16}


def test_batches_hold_each_document_once_within_the_budget():
    lengths = np.random.default_rng(0).integers(3, 40, 500)
    for arrange, cost in ((packed_batches, np.sum), (sorted_batches, lambda part: len(part) * part.max())):
        batches = arrange(lengths, 200)
        assert sorted(np.concatenate(batches).tolist()) == list(range(500))
        assert all(cost(lengths[batch]) <= 200 for batch in batches)
        assert [len(batch) for batch in arrange(lengths[:5], 1)] == [1] * 5
        assert arrange(np.zeros(0, int), 10) == []
    assert equal_length_groups([9, 9, 4, 3, 3, 3]) == [(2, 9), (1, 4), (3, 3)]


class Cramped:
    """A FoldedBert on a machine that has memory for `most` tokens at a time."""

    def __init__(self, bert, most):
        self.bert, self.most, self.on_gpu, self.width = bert, most, False, bert.width
        self.device, self.dtype, self.heads = bert.device, bert.dtype, bert.heads

    def __call__(self, ids, span):
        if len(ids) > self.most:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:116] DefaultCPUAllocator: can't allocate memory: you tried"
            )
        return self.bert(ids, span)


def test_when_memory_runs_out_batches_shrink_and_the_vectors_stay(tiny_bert, capsys):
    bert, ids = FoldedBert(load_bert(tiny_bert), "cls"), some_ids([20] * 50 + [33] * 9)
    with Lanes(bert, 1000) as lanes, Lanes(Cramped(bert, 140), 1000) as cramped:
        wanted, got = lanes.encode(ids), cramped.encode(ids)
        assert cramped.tokens_per_batch <= 140
    assert wanted.tobytes() == got.tobytes()
    assert "memory ran out: batches of" in capsys.readouterr().err


def test_when_a_single_document_does_not_fit_the_message_says_so(tiny_bert):
    bert = FoldedBert(load_bert(tiny_bert), "cls")
    with Lanes(Cramped(bert, 30), 1000) as lanes, pytest.raises(BadInput, match="single document of 33 tokens"):
        lanes.encode(some_ids([20] * 5 + [33]))


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


@needs_gpu
@pytest.mark.parametrize("pooling", ["cls", "pooler", "mean"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_gpu_gives_the_vectors_of_bertmodel_within_its_precision(tmp_path, pooling, dtype):
    folder = make_bert(tmp_path / "bert", hidden=128, heads=2)
    texts = ["的一是了我不人在"[:n] * 10 for n in range(1, 8)] * 5
    gpu = Encoder(folder, max_length=100, pooling=pooling, device="cuda", dtype=dtype, tokens_per_batch=500)
    cpu = Encoder(folder, max_length=100, pooling=pooling, device="cpu", dtype="float32")
    got, wanted = gpu.encode(texts)[0], cpu.encode(texts)[0]
    gpu.close()
    cpu.close()
    assert np.abs(got - wanted).max() < {"bfloat16": 0.1, "float16": 0.02, "float32": 1e-4}[dtype]


@needs_gpu
def test_packed_and_padded_attention_agree_on_a_gpu(tmp_path):
    folder = make_bert(tmp_path / "bert", hidden=128, heads=2)
    encoder = Encoder(folder, max_length=100, device="cuda", dtype="bfloat16")
    ids = some_ids([3, 17, 40, 17, 99], high=60)
    packed = encoder.lanes.encode(ids)
    encoder.lanes.varlen = False
    assert np.abs(packed - encoder.lanes.encode(ids)).max() < 0.1
    encoder.close()
