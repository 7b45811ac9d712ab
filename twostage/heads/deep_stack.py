"""A head of several layers, with the interface of LinearStack. Such a head is millions of parameters: it does not pay to
stack several, since each then pushes the other out of the processor's cache. So a bank trains them one by one through an
epoch, and each layer's gradient goes straight into its Adam, block by block, while the block is still in the cache.
"""

import torch
from torch import nn

from twostage.heads.linear_stack import fused_adam
from twostage.models.head import linear_layers

BLOCK = 1 << 18  # parameters whose gradient is held at a time on a CPU: 1 MiB

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
        block = BLOCK if torch.device(device).type == "cpu" else max(weight.numel() for weight, _ in self.now)
        self.rows = [max(1, block // weight.shape[1]) for weight, _ in self.now]  # of a weight, updated at a time
        largest = max(rows * weight.shape[1] for rows, (weight, _) in zip(self.rows, self.now, strict=True))
        self.gradient = torch.empty(largest, device=device)

    def train_steps(self, X, minus_target, loss, loss_scale: float) -> None:
        """As LinearStack.train_steps."""
        for x, target in zip(X.unbind(), minus_target.unbind(), strict=True):
            self._train_step(x, target, loss, loss_scale)

    def _train_step(self, X, minus_target, loss, loss_scale: float) -> None:
        self.step.add_(1)
        inputs, outputs = self._forward(X)
        logp = torch.log_softmax(outputs[-1], 0)
        loss[0].add_(torch.dot(logp.view(-1), minus_target.view(-1)), alpha=loss_scale)
        d = torch.ops.aten._log_softmax_backward_data(minus_target, logp, 0, torch.float32)
        for i in reversed(range(len(outputs))):  # d (out, B): gradient with respect to the layer's output
            weight, bias = self.now[i]
            below = None
            if i:  # from the weights as they were in the forward pass, so before they move
                below = torch.mm(weight.t(), d)
                below = BACKWARD[self.activation](below, outputs[i - 1], inputs[i])
            (m, v), bias_state = self.state[i]
            self._update(bias, d.sum(1), *bias_state)
            for a in range(0, weight.shape[0], self.rows[i]):
                block = slice(a, a + self.rows[i])
                part = weight[block]
                gradient = self.gradient[: part.numel()].view(part.shape)
                torch.mm(d[block], inputs[i].t(), out=gradient)
                self._update(part, gradient, m[block], v[block])
            d = below

    def _forward(self, X):
        """Inputs (in, B) and outputs before the activation (out, B) of each layer."""
        inputs, outputs = [X.t()], []
        for i, (weight, bias) in enumerate(self.now):
            if i:
                inputs.append(FORWARD[self.activation](outputs[-1]))
            outputs.append(torch.mm(weight, inputs[-1]).add_(bias.unsqueeze(1)))
        return inputs, outputs

    def _update(self, parameter, gradient, m, v) -> None:
        if self.keep_share != 1:
            parameter.mul_(self.keep_share)
        fused_adam(parameter, gradient, m, v, self.step, lr=self.lr)

    def logits(self, X):
        """(1, C, B) for X (B, D), of the weights as they are now."""
        return self._forward(X)[1][-1].unsqueeze(0)

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
