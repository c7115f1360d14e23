"""The gradient of each row by itself: what private training clips before it adds anything up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from onetrunk.core.batch import Loss
from onetrunk.core.documents import Documents, Name
from onetrunk.core.errors import is_out_of_memory

_AT_ONCE = 1 << 25  # numbers of gradients that are held together
_LEAST = 1e-12

Gradients = dict[str, Tensor]  # by parameter, [k, ...]
Sums = dict[str, Tensor]  # by loss, [k]
Weigh = Callable[[str], float]


class RowGradients:
    """Of a module whose `forward(batch)` gives named losses, with respect to `parameters`.

    A row's loss is the weighted sum, over names, of the mean of its own reads: so it depends on no other row. Rows of
    one shape are differentiated together (`torch.func.vmap`); where a module does what cannot be done for several rows
    at once (a number of reads that depends on values), one after the other, which gives the same.
    """

    def __init__(self, module: nn.Module, parameters: Mapping[str, nn.Parameter], weigh: Weigh) -> None:
        self.module, self.parameters, self.weigh = module, parameters, weigh
        numbers = sum(parameter.numel() for parameter in parameters.values())
        self.device = next(iter(parameters.values())).device
        self.at_once = max(1, _AT_ONCE // max(1, numbers))
        self.apart: set[object] = set()  # shapes of rows that cannot be differentiated together

    def __call__(self, documents: Documents) -> Iterator[tuple[Gradients, Sums]]:
        """Some rows at a time, in their order: their gradients, and the sums of their losses."""
        for first in range(0, len(documents), self.at_once):
            yield self._together(documents.take(slice(first, first + self.at_once)))

    def _together(self, documents: Documents) -> tuple[Gradients, Sums]:
        shapes = tuple(sorted((name, tensor.shape[1:]) for name, tensor in documents.own.items()))
        if len(documents) > 1 and documents.own and shapes not in self.apart:
            drawn = _random_state(self.device)
            try:
                return self._mapped(documents)
            except RuntimeError as error:  # of what vmap cannot do
                if is_out_of_memory(error):
                    raise
                self.apart.add(shapes)
                _set_random_state(drawn, self.device)  # a run that goes on finds out again, and draws alike
        return self._one_by_one(documents)

    def _mapped(self, documents: Documents) -> tuple[Gradients, Sums]:
        weights = {name: parameter.detach() for name, parameter in self.parameters.items()}

        def loss(weights: Mapping[str, Tensor], own: Mapping[Name, Tensor]) -> tuple[Tensor, Sums]:
            return self._loss(functional_call(self.module, dict(weights), (documents.batch(own),)))

        mapped = vmap(grad_and_value(loss, has_aux=True), in_dims=(None, 0), randomness="different")
        with sdpa_kernel(SDPBackend.MATH):  # the fused ones would be run a row at a time
            gradients, (_, sums) = mapped(weights, documents.own)
        return gradients, sums

    def _one_by_one(self, documents: Documents) -> tuple[Gradients, Sums]:
        gradients, sums = [], []
        for batch in documents.singles():
            total, own = self._loss(self.module(batch))
            parameters = list(self.parameters.values())
            reached: tuple[Tensor | None, ...] = (None,) * len(parameters)
            if total.requires_grad:
                reached = torch.autograd.grad(total, parameters, allow_unused=True)
            gradients.append(
                [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, reached, strict=True)]
            )
            sums.append({name: value.detach() for name, value in own.items()})
        stacked = {name: torch.stack([row[i] for row in gradients]) for i, name in enumerate(self.parameters)}
        return stacked, {name: torch.stack([row[name] for row in sums]) for name in sums[0]}

    def _loss(self, losses: Mapping[str, Loss]) -> tuple[Tensor, Sums]:
        """What is lowered of one row, and the sums of its losses."""
        total = torch.zeros(())
        for name, each in losses.items():
            total = total.to(each.sum.device) + self.weigh(name) * each.sum / each.count.clamp(min=_LEAST)
        return total, {name: each.sum for name, each in losses.items()}


def _random_state(device: torch.device) -> Tensor:
    """Of what dropout draws from."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(state: Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


def row_norms(gradients: Gradients) -> Tensor:
    """The norm of each row's whole gradient, [k]."""
    squares = [gradient.flatten(1).square().sum(1) for gradient in gradients.values()]
    return torch.stack(squares).sum(0).sqrt()
