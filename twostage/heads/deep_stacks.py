"""H heads of several layers trained as one stack on a GPU, where a head's own products are too small to fill it: one batched
product a layer forward, two backward, one fused Adam for all. Rates are served as in LinearStack: what is kept is Q = P / lr.
"""

import torch
from torch import nn

from twostage.heads.deep_stack import BACKWARD, FORWARD
from twostage.heads.linear_stack import fused_adam
from twostage.models.head import linear_layers


class DeepStacks:
    """The parameters of H heads of one shape, with the interface of LinearStack."""

    def __init__(self, heads: list[nn.Sequential], lr: list[float], weight_decay: list[float], device, activation: str):
        each = [linear_layers(head) for head in heads]
        self.H, self.shapes = len(heads), [tuple(layer.weight.shape) for layer in each[0]]
        self.activation, self.rate = activation, torch.tensor(lr, dtype=torch.float64)
        keep = 1 - self.rate * torch.tensor(weight_decay, dtype=torch.float64)
        self.decay = keep.float().view(-1, 1).to(device) if any(weight_decay) else None  # (H, 1)
        self.scale = self.rate.float().view(-1, 1, 1).to(device)  # (H, 1, 1)
        rows = [torch.cat([p.detach().double().flatten() for x in head for p in (x.weight, x.bias)]) for head in each]
        self.flat = (torch.stack(rows) / self.rate.view(-1, 1)).float().to(device)  # (H, parameters): one tensor, one Adam
        self.m, self.v, self.gradient = (torch.zeros_like(self.flat) for _ in range(3))
        self.now, self.gradients = self._layers(self.flat), self._layers(self.gradient)
        self.step, self.best = torch.zeros((), device=device), self.flat.clone()

    def _layers(self, flat) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """(H, out, in) weights and (H, out, 1) biases as parts of `flat`."""
        parts = flat.split([n for out, width in self.shapes for n in (out * width, out)], dim=1)
        weights = [part.view(self.H, *shape) for part, shape in zip(parts[::2], self.shapes, strict=True)]
        return list(zip(weights, [part.unsqueeze(2) for part in parts[1::2]], strict=True))

    def train_steps(self, X, minus_target, loss, loss_scale: float, team=None) -> None:
        """As LinearStack.train_steps."""
        for x, target in zip(X.unbind(), minus_target.unbind(), strict=True):
            self.step.add_(1)
            inputs, outputs = self._forward(x)
            logp = torch.log_softmax(outputs[-1], 1)  # (H, C, B)
            loss.addmv_(logp.view(self.H, -1), target.reshape(-1), alpha=loss_scale)
            share = target.expand_as(logp).contiguous()
            d = torch.ops.aten._log_softmax_backward_data(share, logp, 1, torch.float32)
            for i in reversed(range(len(outputs))):
                weight, bias = self.gradients[i]
                weight.copy_(torch.bmm(d, inputs[i].mT))
                torch.sum(d, 2, keepdim=True, out=bias)
                if i:
                    below = torch.bmm(self.now[i][0].mT, d).mul_(self.scale)
                    d = BACKWARD[self.activation](below, outputs[i - 1], inputs[i])
            if self.decay is not None:
                self.flat.mul_(self.decay)
            fused_adam(self.flat, self.gradient, self.m, self.v, self.step, lr=1.0)

    def _forward(self, X):
        """Inputs (H, in, B) and outputs before the activation (H, out, B) of each layer."""
        inputs, outputs = [X.t().expand(self.H, -1, -1)], []
        for weight, bias in self.now:
            outputs.append(torch.baddbmm(bias, weight, inputs[-1]).mul_(self.scale))
            inputs.append(FORWARD[self.activation](outputs[-1]))
        return inputs, outputs

    def logits(self, X, team=None):
        """(H, C, B) for X (B, D), of the weights as they are now."""
        return self._forward(X)[1][-1]

    def finite(self):
        """(H,) bool: whether all parameters of a head are numbers."""
        return self.flat.isfinite().all(1)

    def clear(self, h: int) -> None:
        """Stop a diverged head: its slot goes on from zero, read by nobody."""
        for flat in (self.flat, self.m, self.v):
            flat[h] = 0

    def keep(self, h: int) -> None:
        """Remember the weights of head h as its best."""
        self.best[h] = self.flat[h]

    def layers(self, h: int, best: bool) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """(weight, bias) of each layer of head h on the CPU: as they are now, or as last kept."""
        of_head = self._layers(self.best if best else self.flat)
        rate = self.rate[h]
        return [tuple((p[h].cpu().double() * rate).float() for p in (weight, bias.squeeze(2))) for weight, bias in of_head]
