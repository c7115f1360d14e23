"""Private training: a step in which no row counts for more than a bound, and noise hides what is left of it.

DP-SGD (Abadi et al., arXiv 1607.00133): each row's gradient is scaled down to a norm of at most `clip`, all are added
up, Gaussian noise of `noise` times `clip` is added to every number, and the sum is divided by how many rows a step has
in the mean. The optimizer, the learning rate and averages of weights only see that, and may do with it what they like.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from onetrunk.core.config import Config
from onetrunk.core.documents import Documents
from onetrunk.core.errors import ModelFileError, UsageError
from onetrunk.core.kernels import kernels
from onetrunk.core.secret import Secret
from onetrunk.engine.accountant import Spent, epsilon
from onetrunk.engine.per_row import RowGradients, row_norms
from onetrunk.engine.step import Finish, Group, MicroBatch, Step, StepResult

_MARKS = 20  # of a run: epsilon is reckoned so often, each time for what is to come, so that it is never too little


class PrivateConfig(Config):
    """What private training promises (`eps`, `delta`), and how it is made."""

    eps: float = Field(gt=0, description="The most that training may cost, for tables that differ in one row.")
    delta: float = Field(gt=0, lt=1, description="How often the promise may fail; far below one over the rows.")
    clip: float = Field(1.0, gt=0, description="The largest norm of a row's gradient; what is longer is scaled down.")


@dataclass(frozen=True)
class Privacy:
    """How a run's steps are private. `rows` are those of a step, in the mean; `before` is what was spent on the model
    already."""

    delta: float
    clip: float
    noise: float  # in units of clip
    rate: float  # the probability of each row in each step
    rows: float
    steps: int  # of the run
    before: tuple[Spent, ...] = ()

    def spent(self, steps: int) -> list[Spent]:
        """After so many steps of the run."""
        return [*self.before, Spent(self.noise, self.rate, steps)]

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "before": [list(each) for each in self.before]}

    def epsilon(self, steps: int) -> float:
        """The upper bound after so many steps."""
        return epsilon(self.spent(steps), self.delta)

    def facts(self, steps: int) -> dict[str, Any]:
        """What is promised after so many steps, as JSON, for a model's provenance."""
        return {
            "private": {
                "epsilon": self.epsilon(steps), "delta": self.delta, "clip": self.clip, "noise": self.noise,
                "rate": self.rate, "rows_per_step": self.rows, "steps": steps,
                "spent": [list(each) for each in self.spent(steps)], "unit": "row",
            }
        }  # fmt: skip


@dataclass(eq=False, kw_only=True)
class PrivateStep(Step):
    """Its batches are `core.documents.Documents`, of rows that `data.poisson` has drawn; none at all is a step, too: of
    noise alone."""

    privacy: Privacy
    secret: Secret

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.world.alone or self.shares > 1:
            raise UsageError("Private training makes its steps in one process: start it without torchrun.")
        if len(self.groups) > 1 or self.config.merge != "sum" or self.config.balance != "given":
            raise UsageError(
                "Private training has one loss, of which each row's gradient is bounded: expected train.merge=sum, "
                "train.balance=given, and objectives that have no optimizer of their own."
            )
        [group] = self.groups
        self.of_rows = RowGradients(self.module, group.parameters, self.weights.__getitem__)
        self._clipped, self._rows, self._done = 0, 0, 0

    def __call__(
        self,
        number: int,
        batches: Sequence[MicroBatch | None],
        scale: float,
        context: Callable[[], AbstractContextManager[None]],
    ) -> StepResult:
        result = super().__call__(number, batches, scale, context)
        self._done = number + 1
        stride = -(-self.privacy.steps // _MARKS)
        until = min(self.privacy.steps, -(-self._done // stride) * stride)
        result.figures = {
            "epsilon": self.privacy.epsilon(max(until, self._done)),
            "rows": float(self._rows),
            "clipped": self._clipped / max(1, self._rows),
        }
        return result

    def state(self) -> dict[str, Any]:
        return {"secret": self.secret.key.hex(), "spent": [list(each) for each in self.privacy.spent(self._done)]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        spent = [Spent(*each) for each in state.get("spent", [])]
        if "secret" not in state or spent != self.privacy.spent(spent[-1].steps if spent else 0):
            raise ModelFileError(
                "The checkpoint does not say what its steps have cost of the privacy budget, or says another cost than "
                "this run's: it cannot be gone on from. Begin anew: another --out, or --overwrite."
            )
        self.secret.key, self._done = bytes.fromhex(state["secret"]), spent[-1].steps

    def facts(self) -> dict[str, Any]:
        return self.privacy.facts(self._done)

    def _finish(self) -> list[Finish]:
        return []  # each row's gradient is clipped, not their sum

    def _gradients(
        self,
        group: Group,
        update: int,
        number: int,
        batches: Sequence[MicroBatch | None],
        counts: Mapping[str, float],
        context: Callable[[], AbstractContextManager[None]],
        updated: bool,
    ) -> list[dict[str, float]]:
        """Leaves the noisy mean of bounded gradients in the parameters. Returns the losses' sums of every micro-batch,
        which are not private."""
        self.module.zero_grad(set_to_none=True)
        total = {name: torch.zeros_like(parameter) for name, parameter in group.parameters.items()}
        self._clipped = self._rows = 0
        sums = []
        with kernels("plain"):  # what is written by hand knows one row at a time
            for index, documents in enumerate(batches):
                assert isinstance(documents, Documents), "private training takes rows by themselves"
                self.runtime.seed(self._key(group, update, number, index))
                sums.append(self._add(documents.to(self.runtime.device), total, context))
        generator = self.secret.generator("noise", number)
        deviation = self.privacy.noise * self.privacy.clip
        for name, parameter in group.parameters.items():
            noise = torch.from_numpy(generator.standard_normal(tuple(parameter.shape)))
            noise = (deviation * noise).to(parameter.device, parameter.dtype)
            parameter.grad = (total[name] + noise) / self.privacy.rows
        return sums

    def _add(
        self, documents: Documents, total: dict[str, Tensor], context: Callable[[], AbstractContextManager[None]]
    ) -> dict[str, float]:
        """Adds the bounded gradients of some rows to the total. Returns the sums of their losses."""
        sums: dict[str, float] = {}
        with context():
            for gradients, losses in self.of_rows(documents):
                shares = bounded(row_norms(gradients), self.privacy.clip)
                self._clipped += int((shares < 1).sum())
                self._rows += len(shares)
                for name, gradient in gradients.items():
                    clean = gradient.nan_to_num(0.0, 0.0, 0.0)
                    total[name] += torch.tensordot(shares.to(gradient.dtype), clean, dims=1)
                for name, each in losses.items():
                    sums[name] = sums.get(name, 0.0) + float(each.sum())
        return {name: value for name, value in sums.items() if name in documents.counts}


def bounded(norms: Tensor, clip: float) -> Tensor:
    """What gradients of these norms are multiplied by, so that none is longer than `clip`. One that is not finite
    counts as nothing: to stop because of it would tell of its row."""
    return torch.where(norms.isfinite(), (clip / norms.clamp(min=1e-30)).clamp(max=1.0), 0.0)
