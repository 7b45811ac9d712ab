"""A head of several layers, with the interface of LinearStack. Such a head is millions of parameters: it does not pay to
stack several, since each then pushes the other out of the processor's cache. So a bank trains them one by one through an
epoch, and each layer's gradient goes straight into its Adam, part by part, while the part is still in the cache.

The parts of a layer are the same whoever works on them, one thread or a team: so the bits of a head do not depend on threads.
"""

from functools import partial

import torch
from torch import nn

from twostage.heads.linear_stack import fused_adam
from twostage.memory import room
from twostage.models.head import linear_layers

PARTS = 4  # a layer's weight is cut into on a CPU
LEAST = 1 << 14  # parameters in a part

FORWARD = {"relu": torch.relu, "gelu": torch.nn.functional.gelu, "tanh": torch.tanh, "none": lambda z: z}
BACKWARD = {  # gradient with respect to z, from the gradient d, z itself and a = activation(z)
    "relu": lambda d, z, a: torch.ops.aten.threshold_backward(d, a, 0),
    "gelu": lambda d, z, a: torch.ops.aten.gelu_backward(d, z),
    "tanh": lambda d, z, a: torch.ops.aten.tanh_backward(d, a),
    "none": lambda d, z, a: d,
}


class DeepStack:
    """The parameters of one head, their Adam state, and the arithmetic of one step: LinearStack for H = 1."""

    def __init__(self, head: nn.Sequential, lr: float, weight_decay: float, device="cpu", activation: str = "relu"):
        self.lr, self.keep_share, self.activation = lr, 1 - lr * weight_decay, activation
        layers = linear_layers(head)
        self.now = [(x.weight.detach().clone().to(device), x.bias.detach().clone().to(device)) for x in layers]
        self.best = [(weight.clone(), bias.clone()) for weight, bias in self.now]
        self.state = [tuple((torch.zeros_like(p), torch.zeros_like(p)) for p in layer) for layer in self.now]
        self.step = torch.zeros((), device=device)
        most = PARTS if torch.device(device).type == "cpu" else 1
        counts = [max(1, min(most, weight.numel() // LEAST)) for weight, _ in self.now]
        self.rows = [_cuts(weight.shape[0], n) for n, (weight, _) in zip(counts, self.now, strict=True)]
        self.columns = [_cuts(weight.shape[1], n) for n, (weight, _) in zip(counts, self.now, strict=True)]
        self.updates = [(i, rows) for i in reversed(range(len(counts))) for rows in self.rows[i]]

    def train_steps(self, X, minus_target, loss, loss_scale: float, team=None) -> None:
        """As LinearStack.train_steps."""
        each = _one_by_one if team is None else team.each
        for x, target in zip(X.unbind(), minus_target.unbind(), strict=True):
            self._train_step(x, target, loss, loss_scale, each)

    def _train_step(self, X, minus_target, loss, loss_scale: float, each) -> None:
        self.step.add_(1)
        inputs, outputs = self._forward(X, each)
        logp = torch.log_softmax(outputs[-1], 0)
        loss[0].add_(torch.dot(logp.view(-1), minus_target.view(-1)), alpha=loss_scale)
        gradients = [torch.ops.aten._log_softmax_backward_data(minus_target, logp, 0, torch.float32)]
        for i in reversed(range(1, len(outputs))):  # (out, B): with respect to a layer's output; all before a weight moves
            below = torch.empty_like(outputs[i - 1])
            each(partial(self._below, i, gradients[0], outputs[i - 1], inputs[i], below), self.columns[i])
            gradients.insert(0, below)
        each(partial(self._update, inputs, gradients), self.updates)

    def _below(self, i: int, d, z, a, below, columns: slice) -> None:
        back = torch.mm(d.t(), self.now[i][0][:, columns]).t().contiguous()  # quicker than weight.t() @ d, the same bits
        below[columns] = BACKWARD[self.activation](back, z[columns], a[columns])

    def _update(self, inputs, gradients, part: tuple[int, slice]) -> None:
        i, rows = part
        d = gradients[i][rows]
        (weight, bias), (weight_state, bias_state) = self.now[i], self.state[i]
        product = torch.mm(d, inputs[i].t(), out=room("gradient", (len(d), weight.shape[1]), torch.float32))
        for parameter, state, gradient in ((bias, bias_state, d.sum(1)), (weight, weight_state, product)):
            m, v = state
            if self.keep_share != 1:
                parameter[rows].mul_(self.keep_share)
            fused_adam(parameter[rows], gradient, m[rows], v[rows], self.step, lr=self.lr)

    def _forward(self, X, each):
        """Inputs (in, B) and outputs before the activation (out, B) of each layer."""
        inputs, outputs = [X.t()], []
        for i, (weight, _) in enumerate(self.now):
            outputs.append(torch.empty(weight.shape[0], X.shape[0], device=X.device))
            above = torch.empty_like(outputs[-1]) if i < len(self.now) - 1 else None
            each(partial(self._layer, i, inputs[-1], outputs[-1], above), self.rows[i])
            inputs.append(above)
        return inputs, outputs

    def _layer(self, i: int, x, z, above, rows: slice) -> None:
        weight, bias = self.now[i]
        torch.mm(weight[rows], x, out=z[rows])
        z[rows].add_(bias[rows].unsqueeze(1))
        if above is not None:
            above[rows] = FORWARD[self.activation](z[rows])

    def logits(self, X, team=None):
        """(1, C, B) for X (B, D), of the weights as they are now."""
        return self._forward(X, _one_by_one if team is None else team.each)[1][-1].unsqueeze(0)

    def finite(self):
        """(1,) bool: whether all parameters are numbers."""
        return torch.stack([p.isfinite().all() for layer in self.now for p in layer]).all().view(1)

    def clear(self, h: int) -> None:
        """Stop a diverged head: its zeros are read by nobody."""
        for layer, states in zip(self.now, self.state, strict=True):
            for tensor in (*layer, *states[0], *states[1]):
                tensor.zero_()

    def keep(self, h: int) -> None:
        """Remember the weights as the head's best."""
        for now, best in zip(self.now, self.best, strict=True):
            for source, target in zip(now, best, strict=True):
                target.copy_(source)

    def layers(self, h: int, best: bool) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """(weight, bias) of each layer on the CPU: as they are now, or as last kept."""
        return [(weight.cpu().clone(), bias.cpu().clone()) for weight, bias in (self.best if best else self.now)]


def _cuts(n: int, parts: int) -> list[slice]:
    return [slice(n * i // parts, n * (i + 1) // parts) for i in range(min(parts, n))]


def _one_by_one(work, parts: list) -> None:
    for part in parts:
        work(part)
