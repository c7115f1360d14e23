"""Floating-point operations of a training step, by formula: 6 for every weight and position it meets (2 forward, 4
backward) and 12 for every number of a pair that attention compares. Additions, norms and lookups are not counted, nor
are padding, hidden pairs and what is computed again."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from onetrunk.core.batch import Batch
from onetrunk.model.foundation import FoundationModel


class StepOperations:
    """Of one model: call it with a batch."""

    def __init__(self, model: FoundationModel) -> None:
        self.model = model
        self._costs: dict[tuple[str, bool], float] = {}

    def __call__(self, batch: Batch) -> float:
        total = self.model.trunk.flops(batch.layout)
        for name, embed in batch.embeds.items():
            total += self.of_column(name, len(embed.flat_n), embed.content)
        for reads in batch.reads.values():
            for name, read in reads.items():
                total += self.of_column(name, len(read.flat_r), read.targets, reading=True)
        return total

    @torch.no_grad()
    def of_column(self, column: str, count: int, content: dict[str, Tensor], reading: bool = False) -> float:
        """Operations of embedding a column's `count` positions, or of reading it there, forward and backward: as many
        for each as PyTorch counts in the first batch that has any."""
        if not count:
            return 0.0
        if (column, reading) not in self._costs:
            module = self.model.module(column)
            device = next(module.parameters()).device
            tensors = {name: x.to(device) for name, x in content.items()}
            with FlopCounterMode(display=False) as counter:
                if reading:
                    module.loss(torch.zeros(count, module.read_width, device=device), tensors)
                else:
                    module.embed(tensors)
            self._costs[column, reading] = 3 * counter.get_total_flops() / count
        return count * self._costs[column, reading]
