"""Draw values that a critic cannot tell from true ones (generative adversarial networks, arXiv 1406.2661): for several
asked columns whose values belong together, where each column's own distribution would draw its value for itself.

One draw of noise a document is added to the embeddings of all its asked columns, and a linear map of each column's
states is its value, standardised (`targets["value"]`). The critic is an MLP over these values and, where something is
given, what the trunk makes of it. Losses are relativistic (arXiv 1807.00734), the critic's gradient is penalised at
true and at drawn values (arXiv 1801.04406; both together as in arXiv 2501.05441), which keeps the two from running in
circles.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from onetrunk.core import rng
from onetrunk.core.batch import Batch, Loss
from onetrunk.core.config import Config
from onetrunk.core.content import Role
from onetrunk.core.errors import UsageError
from onetrunk.core.objective import BatchEncoder, LossGroup, Objective, RoleAssignment, View
from onetrunk.objectives._learner import blanks


class AdversarialOptions(Config):
    """Of the critic, and of the noise that values are drawn from."""

    noise: int = Field(4, ge=1)  # numbers a document
    width: int = Field(128, ge=1)  # of the critic
    layers: int = Field(2, ge=1)
    lr: float = Field(4e-3, gt=0)
    updates: int = Field(3, ge=1)  # of the critic, before each of the model's
    penalty: float = Field(0.1, ge=0)  # of the squared norm of the critic's gradient


class Adversarial(Objective):
    """Asked are those of `ask`, or all columns, in rows that hold all of them. Weights of rows do not count."""

    Options = AdversarialOptions
    options: AdversarialOptions
    compares_rows = True

    @property
    def asked(self) -> list[str]:
        return self.columns if self.config.ask is None else self.config.ask

    @property
    def given(self) -> list[str]:
        return [name for name in self.config.given or [] if name not in self.asked]

    def build(self, width: int) -> None:
        o = self.options
        for name in self.asked:
            if "value" not in blanks(self._encoder(name), Role.ASKED, 0).targets:
                raise UsageError(
                    f"The objective adversarial draws numbers and dates; the column {name!r} has other values. Name "
                    "others with `ask`."
                )
        pooled = [self.module_type(name).pooled for name in self.asked]  # alike for all columns of these types
        self.noise = nn.Linear(o.noise, width)
        self.heads = nn.ModuleList(nn.Linear(width * (1 + each), 1) for each in pooled)
        sizes = [len(self.asked) + (width if self.given else 0), *[o.width] * o.layers]
        hidden = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.LeakyReLU(0.2))]
        self.critic = nn.Sequential(*hidden, nn.Linear(sizes[-1], 1))

    def turns(self, present: np.ndarray, windows: np.ndarray) -> np.ndarray:
        return np.all(present[:, [self.columns.index(name) for name in self.asked]], axis=1)

    def assign_roles(self, rows: np.ndarray, present: np.ndarray, keys: np.ndarray) -> RoleAssignment:
        roles = np.full(present.shape, int(Role.ABSENT))
        for names, role in ((self.given, Role.GIVEN), (self.asked, Role.ASKED)):
            for name in names:
                roles[:, self.columns.index(name)] = role
        return RoleAssignment(rows, np.where(present, roles, Role.ABSENT), keys)

    def count(self, assigned: RoleAssignment) -> dict[str, float]:
        return {f"{self.tag}/{side}": float(len(assigned.rows)) for side in ("critic", "generator")}

    def groups(self) -> Sequence[LossGroup]:
        optimizer = {"optimizer": "adam", "lr": self.options.lr, "betas": (0.0, 0.99), "weight_decay": 0.0}
        critic = list(self.critic.parameters())
        return [LossGroup("critic", (f"{self.tag}/critic",), critic, optimizer, updates=self.options.updates)]

    def loss(self, view: View) -> dict[str, Loss]:
        critic, generator = f"{self.tag}/critic", f"{self.tag}/generator"
        losses: dict[str, Loss] = {}
        true_MC = torch.stack([at.targets["value"] for at in view.reads(self.tag).values()], dim=1)
        if view.wants(critic):
            with torch.no_grad():
                drawn_MC, given_MD = self._draw(view.model, view.batch, view.reads(self.tag), _noise(view, self))
            losses[critic] = self._critics(true_MC, drawn_MC, given_MD)
        if view.wants(generator):
            drawn_MC, given_MD = self._draw(view.model, view.batch, view.reads(self.tag), _noise(view, self))
            gap = self._judge(drawn_MC, given_MD) - self._judge(true_MC, given_MD)
            losses[generator] = _mean(F.softplus(-gap))
        return losses

    @torch.no_grad()
    def generate(self, model: BatchEncoder, batch: Batch, seed: int) -> dict[str, list[Any]]:
        """Values of the asked columns, in their own units, for the documents of a batch that asks for them, by row.
        What is drawn for a row depends on it and the seed alone."""
        z = rng.normal(rng.mix(rng.key(seed, "adversarial"), batch.row), self.options.noise)
        reads = batch.reads[self.tag]
        drawn, _ = self._draw(model, batch, reads, torch.from_numpy(z).to(batch.layout.doc_BT.device))
        values = drawn.cpu().tolist()
        return {name: [self._encoder(name).value(row[c]) for row in values] for c, name in enumerate(self.asked)}

    # -- parts -------------------------------------------------------------------------------------------------------
    def _draw(
        self, model: BatchEncoder, batch: Batch, reads: dict[str, Any], noise_MZ: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """A value of every asked column [m, C] for each document that asks, and the given states' mean [m, D]."""
        shift_MD, doc_N = self.noise(noise_MZ), batch.layout.doc_BT.flatten()
        own_M = torch.zeros(len(batch.row), dtype=torch.bool, device=doc_N.device)
        own_M[batch.docs.get(self.tag, doc_N[:0])] = True
        embeddings = {}
        for name in self.asked:
            if (embed := batch.embeds.get(name)) is not None:
                doc_n = doc_N[embed.flat_n]
                here = (own_M[doc_n] & (embed.role_n == Role.ASKED))[:, None]
                plain = model.embed(name, embed.content, embed.role_n)
                embeddings[name] = torch.where(here, plain + shift_MD[doc_n], plain)
        hidden = model.encode(batch, embeddings)
        columns = [
            head(model.read(hidden, name, reads[name])) for head, name in zip(self.heads, self.asked, strict=True)
        ]
        given = hidden.pooled_MD[reads[self.asked[0]].doc_r].detach() if self.given else None
        return torch.cat(columns, dim=1).float(), given

    def _judge(self, values_MC: Tensor, given_MD: Tensor | None) -> Tensor:
        """The critic's score of each document [m], the higher the truer. In full precision."""
        with torch.autocast(values_MC.device.type, enabled=False):
            inputs = values_MC if given_MD is None else torch.cat([values_MC, given_MD.float()], dim=1)
            scores: Tensor = self.critic(inputs)
            return scores[:, 0]

    def _critics(self, true_MC: Tensor, drawn_MC: Tensor, given_MD: Tensor | None) -> Loss:
        scores, penalties = [], []
        for values in (true_MC, drawn_MC):
            values = values.detach().requires_grad_()
            with torch.enable_grad():
                score = self._judge(values, given_MD)
                (slope,) = torch.autograd.grad(score.sum(), values, create_graph=True)
            scores.append(score)
            penalties.append(slope.square().sum(1))
        true, drawn = scores
        return _mean(F.softplus(drawn - true) + self.options.penalty / 2 * sum(penalties))

    def _encoder(self, name: str) -> Any:
        return self.encoders[self.columns.index(name)]


def _noise(view: View, objective: Adversarial) -> Tensor:
    """Of every document of the batch. The step has seeded what it is drawn from."""
    return torch.randn(len(view.batch.row), objective.options.noise, device=view.batch.layout.doc_BT.device)


def _mean(each: Tensor) -> Loss:
    return Loss(each.sum(), torch.tensor(float(len(each))), each.detach())


OBJECTIVE = Adversarial
