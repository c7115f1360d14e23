"""Learn from a larger model beside the truth (distillation, arXiv 1503.02531): at every read of an asked column the
loss is (1 - weight) of the truth's and weight T² KL(teacher's || own), both distributions at temperature T.

Roles are those of `predict`. The teacher is no part of what is trained or saved.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import nn

from onetrunk.core.batch import Loss
from onetrunk.core.config import Config
from onetrunk.core.errors import UsageError
from onetrunk.core.module import with_distribution
from onetrunk.core.objective import BatchEncoder, View
from onetrunk.objectives.predict import Predict


class DistilOptions(Config):
    """How a student learns from its teacher."""

    weight: float = Field(0.5, ge=0, le=1)  # of the teacher's answers; the rest is the truth's
    temperature: float = Field(2.0, gt=0)  # above 1: also from how unlikely the unlikely is


class Distil(Predict):
    """`learn_from` names the teacher, before training."""

    Options = DistilOptions
    options: DistilOptions

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._teacher: tuple[BatchEncoder] | None = None  # in a tuple: a module of its own would be trained and saved

    def learn_from(self, teacher: BatchEncoder) -> None:
        """Freezes the teacher, whose columns must know what the student's know."""
        if isinstance(teacher, nn.Module):
            teacher.requires_grad_(False).eval()
        self._teacher = (teacher,)

    def loss(self, view: View) -> dict[str, Loss]:
        """Judged by the truth alone where it is not trained."""
        losses = view.losses(self.tag)
        if not self.training:
            return losses
        teacher, weight = self.teacher, self.options.weight
        with torch.no_grad():
            taught = teacher.encode(view.batch)
        for name, at in view.reads(self.tag).items():
            truth = losses[f"{self.tag}/{name}"]
            with torch.no_grad():
                theirs = teacher.read(taught, name, at)
            own = view.model.read(view.hidden, name, at)
            module = with_distribution(view.model.module(name))
            each = module.divergence(own, teacher.module(name), theirs, self.options.temperature)
            total = torch.lerp(truth.sum, (each * at.targets["w"]).sum(), weight)
            by_read = None if truth.each is None else truth.each.lerp(each.detach(), weight)
            losses[f"{self.tag}/{name}"] = Loss(total, truth.count, by_read, truth.doc)
        return losses

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """The teacher goes to the device to which the objective goes."""
        if self._teacher is not None and isinstance(self._teacher[0], nn.Module):
            self._teacher[0]._apply(fn)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    @property
    def teacher(self) -> BatchEncoder:
        if self._teacher is None:
            raise UsageError("The objective distil learns from a teacher: name one with --teacher.")
        return self._teacher[0]


OBJECTIVE = Distil
