"""Dates in the network: the moment as a value on a line, and how far each cycle of the calendar has run."""

from __future__ import annotations

import torch
from torch import Tensor

from onetrunk.columns.date.encoder import DAY, DateEncoder
from onetrunk.columns.families.scalar.module import ScalarModule

_HARMONICS = 3  # enough to tell the days of a week apart


class DateModule(ScalarModule[DateEncoder]):
    def _input_count(self) -> int:
        return super()._input_count() + 2 * _HARMONICS * len(self.encoder.cycles)

    @property
    def units(self) -> tuple[float, float, str]:
        return self.encoder.centre / DAY, self.encoder.scale / DAY, "days"

    def _inputs(self, content: dict[str, Tensor]) -> Tensor:
        times = torch.arange(1, _HARMONICS + 1, device=content["phases"].device) * (2 * torch.pi)
        angles = (content["phases"][..., None] * times).flatten(1)
        return torch.cat([super()._inputs(content), angles.sin(), angles.cos()], dim=1)
