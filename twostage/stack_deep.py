"""H heads of several layers that share their minibatches. Such a head is millions of parameters, and its step is bound by
memory: so heads take turns, and each layer's gradient goes straight into its Adam, block by block, while the block is
still in the processor's cache. No gradient is ever held in whole.
"""

import torch
from torch import nn

from twostage.heads import linear_layers
from twostage.stack_linear import fused_adam

BLOCK = 1 << 18  # parameters whose gradient is held at a time on a CPU: 1 MiB

FORWARD = {"relu": torch.relu, "gelu": torch.nn.functional.gelu, "tanh": torch.tanh, "none": lambda z: z}
BACKWARD = {  # gradient with respect to z, from the gradient d, z itself and a = activation(z)
    "relu": lambda d, z, a: torch.ops.aten.threshold_backward(d, a, 0),
    "gelu": lambda d, z, a: torch.ops.aten.gelu_backward(d, z),
    "tanh": lambda d, z, a: torch.ops.aten.tanh_backward(d, a),
    "none": lambda d, z, a: d,
}


class DeepStack:
    """The same interface as LinearStack, for heads of any depth."""

    def __init__(self, heads: list[nn.Sequential], lr, weight_decay, device="cpu", activation: str = "relu"):
        self.H, self.lr, self.activation = len(heads), lr, activation
        self.keep_share = [1 - rate * decay for rate, decay in zip(lr, weight_decay, strict=True)]
        self.heads = [
            [
                (layer.weight.detach().clone().to(device), layer.bias.detach().clone().to(device))
                for layer in linear_layers(head)
            ]
            for head in heads
        ]
        self.C = self.heads[0][-1][1].numel()
        self.state = [
            [tuple((torch.zeros_like(p), torch.zeros_like(p)) for p in layer) for layer in head] for head in self.heads
        ]
        self.best = [[(w.clone(), b.clone()) for w, b in head] for head in self.heads]
        self.step = torch.zeros((), device=device)
        block = BLOCK if torch.device(device).type == "cpu" else max(w.numel() for w, _ in self.heads[0])
        self.rows = [max(1, block // w.shape[1]) for w, _ in self.heads[0]]  # of a layer's weight, updated at a time
        largest = max(rows * w.shape[1] for rows, (w, _) in zip(self.rows, self.heads[0], strict=True))
        self.gradient = torch.empty(largest, device=device)

    def train_step(self, X, minus_target, share, loss, loss_scale: float) -> None:
        """As LinearStack.train_step."""
        self.step.add_(1)
        for h in range(self.H):
            inputs, outputs = self._forward(h, X)
            logp = torch.log_softmax(outputs[-1], 0)
            loss[h].add_(torch.dot(logp.view(-1), minus_target.view(-1)), alpha=loss_scale)
            self._backward(h, inputs, outputs, torch.addcmul(minus_target, logp.exp_(), share))

    def _forward(self, h: int, X):
        """Inputs (in, B) and outputs before the activation (out, B) of each layer."""
        inputs, outputs = [X.t()], []
        for i, (weight, bias) in enumerate(self.heads[h]):
            if i:
                inputs.append(FORWARD[self.activation](outputs[-1]))
            outputs.append(torch.mm(weight, inputs[-1]).add_(bias.unsqueeze(1)))
        return inputs, outputs

    def _backward(self, h: int, inputs, outputs, d) -> None:
        for i in reversed(range(len(outputs))):  # d (out, B): gradient with respect to the layer's output
            weight, bias = self.heads[h][i]
            below = None
            if i:  # from the weights as they were in the forward pass, so before they move
                below = torch.mm(weight.t(), d)
                below = BACKWARD[self.activation](below, outputs[i - 1], inputs[i])
            self._update(h, bias, d.sum(1), *self.state[h][i][1])
            (m, v), rows = self.state[h][i][0], self.rows[i]
            for a in range(0, weight.shape[0], rows):
                part = weight[a : a + rows]
                gradient = self.gradient[: part.numel()].view(part.shape)
                torch.mm(d[a : a + rows], inputs[i].t(), out=gradient)
                self._update(h, part, gradient, m[a : a + rows], v[a : a + rows])
            d = below

    def _update(self, h: int, parameter, gradient, m, v) -> None:
        if self.keep_share[h] != 1:
            parameter.mul_(self.keep_share[h])
        fused_adam(parameter, gradient, m, v, self.step, lr=self.lr[h])

    def logits(self, X):
        """(H, C, B) for X (B, D), of the weights as they are now."""
        return torch.stack([self._forward(h, X)[1][-1] for h in range(self.H)])

    def finite(self):
        """(H,) bool: whether all parameters of a head are numbers."""
        return torch.stack(
            [torch.stack([p.isfinite().all() for layer in head for p in layer]).all() for head in self.heads]
        )

    def clear(self, h: int) -> None:
        """Stop a diverged head: zeros are read by nobody."""
        for layer, states in zip(self.heads[h], self.state[h], strict=True):
            for parameter, (m, v) in zip(layer, states, strict=True):
                parameter.zero_(), m.zero_(), v.zero_()

    def keep(self, h: int) -> None:
        """Remember the weights of head h as its best."""
        for now, best in zip(self.heads[h], self.best[h], strict=True):
            for source, target in zip(now, best, strict=True):
                target.copy_(source)

    def layers(self, h: int, best: bool) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """(weight, bias) of each layer of head h on the CPU: as they are now, or as last kept."""
        return [(w.cpu().clone(), b.cpu().clone()) for w, b in (self.best if best else self.heads)[h]]
