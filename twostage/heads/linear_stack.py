"""H one-layer heads D -> C trained as one stack: one matrix product forward, one backward, one fused Adam for all.

Adam moves an element by lr * m / (sqrt(v) + eps). With Q = P / lr for a parameter P the move of Q is m / (sqrt(v) + eps):
the same for every head, whatever its rate, so one optimizer with a rate of 1 serves them all. m and v are those of the
gradient with respect to P, so eps weighs as much as in a head alone. Logits are P x = lr * (Q x): scaled after the product.

Everything runs transposed, logits as (H, C, B): with few classes Q @ X.T is several times faster than X @ Q.T, and
softmax runs over a dimension whose neighbours lie side by side in memory.
"""

import torch
from torch import nn

from twostage.models.head import linear_layers
from twostage.recipes import ADAM


def fused_adam(parameter, gradient, m, v, step, lr: float) -> None:
    """One step of torch.optim.Adam(fused=True) on one tensor, without the optimizer's bookkeeping around it."""
    torch._fused_adam_(
        [parameter], [gradient], [m], [v], [], [step], lr=lr, beta1=ADAM["betas"][0], beta2=ADAM["betas"][1],
        weight_decay=0.0, eps=ADAM["eps"], amsgrad=False, maximize=False,
    )  # fmt: skip


class LinearStack:
    """The parameters of H heads, their Adam state, and the arithmetic of one step.

    heads  H one-layer heads of equal shape: their start
    lr     H learning rates;  weight_decay  H decoupled decays (torch.optim.AdamW), 0 for none
    """

    def __init__(self, heads: list[nn.Sequential], lr: list[float], weight_decay: list[float], device="cpu"):
        layers = [linear_layers(head)[0] for head in heads]
        self.H, (self.C, self.D) = len(layers), layers[0].weight.shape
        self.rate = torch.tensor(lr, dtype=torch.float64)
        weight = torch.stack([layer.weight.detach() for layer in layers]) / self.rate.view(-1, 1, 1)
        bias = torch.stack([layer.bias.detach() for layer in layers]) / self.rate.view(-1, 1)
        self.flat = torch.cat([weight.flatten(), bias.flatten()]).float().to(device)  # one tensor: one Adam
        self.m, self.v, self.gradient = (torch.zeros_like(self.flat) for _ in range(3))
        self.weight, self.bias = self._parts(self.flat)
        self.weight_gradient, self.bias_gradient = self._parts(self.gradient)
        self.step = torch.zeros((), device=device)
        self.scale = self.rate.float().view(-1, 1, 1).to(device)  # (H, 1, 1)
        keep = 1 - self.rate * torch.tensor(weight_decay, dtype=torch.float64)
        self.decay = keep.float().view(-1, 1).to(device) if any(weight_decay) else None  # (H, 1)
        self.best = self.flat.clone()

    def _parts(self, flat):
        cut = self.H * self.C * self.D
        return flat[:cut].view(self.H * self.C, self.D), flat[cut:].view(self.H * self.C)

    def train_steps(self, X, minus_target, loss, loss_scale: float, team=None) -> None:
        """K minibatches, one after another, for every head. Whatever can be is done for all of them in one operation.

        X             (K, B, D)
        minus_target  (K, C, B): minus the weight of each document in its batch's mean at its class, 0 elsewhere
        loss          (H,): loss_scale times each batch's mean cross-entropy is added
        team          not used: products of a few linear heads are too short to share
        """
        K, C, B = minus_target.shape
        z = torch.empty(self.H, C, B, device=X.device)
        logp, z_rows, bias = torch.empty_like(z), z.view(-1, B), self.bias.unsqueeze(1)
        logp_rows, targets = logp.view(self.H, -1), minus_target.view(K, -1).unbind()
        shares = minus_target.unsqueeze(1).expand(K, self.H, C, B).contiguous().unbind()
        steps = (self.step + torch.arange(1, K + 1, device=X.device)).unbind()
        for x, x_t, target, share, step in zip(X.unbind(), X.mT.unbind(), targets, shares, steps, strict=True):
            torch.mm(self.weight, x_t, out=z_rows)
            z_rows.add_(bias)
            z.mul_(self.scale)
            torch.log_softmax(z, 1, out=logp)
            loss.addmv_(logp_rows, target, alpha=loss_scale)
            # d loss / d logits = share * (softmax - onehot)
            torch.ops.aten._log_softmax_backward_data(share, logp, 1, torch.float32, out=z)
            torch.mm(z_rows, x, out=self.weight_gradient)
            torch.sum(z_rows, 1, out=self.bias_gradient)
            if self.decay is not None:
                self.weight.view(self.H, -1).mul_(self.decay)
                self.bias.view(self.H, -1).mul_(self.decay)
            fused_adam(self.flat, self.gradient, self.m, self.v, step, lr=1.0)
        self.step = steps[-1]

    def logits(self, X, team=None):
        """(H, C, B) for X (B, D), of the weights as they are now."""
        z = torch.mm(self.weight, X.t()).add_(self.bias.unsqueeze(1))
        return z.view(self.H, self.C, -1).mul_(self.scale)

    def finite(self):
        """(H,) bool: whether all parameters of a head are numbers."""
        return self.weight.view(self.H, -1).isfinite().all(1) & self.bias.view(self.H, -1).isfinite().all(1)

    def clear(self, h: int) -> None:
        """Stop a diverged head: its slot goes on from zero, read by nobody, so that the products keep their shape."""
        for flat in (self.flat, self.m, self.v):
            for part in self._parts(flat):
                part.view(self.H, -1)[h] = 0

    def keep(self, h: int) -> None:
        """Remember the weights of head h as its best."""
        for now, best in zip(self._parts(self.flat), self._parts(self.best), strict=True):
            best.view(self.H, -1)[h] = now.view(self.H, -1)[h]

    def layers(self, h: int, best: bool) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """(weight, bias) of each layer of head h, float32 on the CPU: as they are now, or as last kept."""
        weight, bias = self._parts(self.best if best else self.flat)
        rate = self.rate[h]
        weight = weight.view(self.H, self.C, self.D)[h].cpu().double() * rate
        bias = bias.view(self.H, self.C)[h].cpu().double() * rate
        return [(weight.float(), bias.float())]
