import pytest
import torch
import torch.nn.functional as F

from twostage.finetuning import dropout
from twostage.finetuning.dropout import Masks, attend, dropped

RATE = 0.1


def test_a_mask_drops_at_its_rate_here_and_there_and_the_scale_keeps_the_mean():
    for rate in (0.1, 0.5, 0.9):
        masks = Masks(3, rate)
        gone = masks.next(torch.Size([1_000_001]))
        assert abs(float(gone.float().mean()) - rate) < 2e-3
        assert abs(float((gone[1:] & gone[:-1]).float().mean()) - rate**2) < 2e-3
        assert abs(masks.scale * (1 - rate) - 1) < 1e-4


def test_a_mask_is_the_same_for_the_same_seed_and_for_each_piece_in_turn():
    first, second = Masks(7, RATE), Masks(7, RATE)
    shape = torch.Size([5, 80])
    pieces = [first.next(shape) for _ in range(3)]
    assert all(torch.equal(piece, second.next(shape)) for piece in pieces)
    assert not torch.equal(pieces[0], pieces[1]) and not torch.equal(pieces[0], Masks(8, RATE).next(shape))


def test_the_way_back_goes_through_what_was_kept_alone():
    x = torch.randn(40, 30).requires_grad_()
    torch.manual_seed(0)
    y = dropped(x, RATE)
    y.backward(torch.ones_like(y))
    kept = y != 0
    assert 0.05 < 1 - kept.float().mean() < 0.15
    assert torch.allclose(x.grad, kept / (1 - RATE), atol=1e-4) and torch.allclose(y, x * x.grad)
    torch.manual_seed(0)
    assert torch.equal(dropped(x, RATE), y)


@pytest.mark.parametrize("chunk", [1, 1 << 20])
@pytest.mark.parametrize("queries", [1, 6])
@pytest.mark.parametrize("padded", [False, True])
def test_attention_and_its_gradients_are_those_of_the_same_masks_written_out(chunk, queries, padded, monkeypatch):
    monkeypatch.setattr(dropout, "CHUNK", chunk)
    b, h, t, d = 5, 2, 6, 4
    q, k, v = (torch.randn(b, n, h, d, dtype=torch.float64).float().transpose(1, 2) for n in (queries, t, t))
    mask = torch.arange(t).expand(b, 1, 1, t) < torch.tensor([6, 5, 6, 3, 1]).view(b, 1, 1, 1) if padded else None
    above, parts = torch.randn(b, h, queries, d), 5 if chunk == 1 else 1
    ours, plain = ([one.clone().requires_grad_() for one in (q, k, v)] for _ in range(2))
    torch.manual_seed(1)
    found = attend(*ours, mask, RATE)
    torch.manual_seed(1)
    masks = Masks(int(torch.randint(1 << 62, ())), RATE)
    drops = torch.cat([~masks.next(torch.Size([b // parts, h, queries, t])) * masks.scale for _ in range(parts)])
    scores = plain[0] @ plain[1].mT / d**0.5
    scores = scores if mask is None else scores.masked_fill(~mask, -torch.inf)
    wanted = (torch.softmax(scores, -1) * drops) @ plain[2]
    found.backward(above)
    wanted.backward(above)
    assert torch.allclose(found, wanted, atol=1e-5)
    for a, b in zip(ours, plain, strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-5)


def test_nothing_dropped_is_plain_attention():
    q, k, v = (torch.randn(2, 2, 5, 4) for _ in range(3))
    assert torch.equal(attend(q, k, v, None, 0.0), F.scaled_dot_product_attention(q, k, v))


def test_attention_keeps_neither_weights_nor_masks_for_the_way_back():
    q, k, v = (torch.randn(2, 3, 50, 4, requires_grad=True) for _ in range(3))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.numel()), t)[1], lambda t: t):
        attend(q, k, v, None, RATE)
    assert sum(kept) == 3 * q.numel()
