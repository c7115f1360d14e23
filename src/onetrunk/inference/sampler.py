"""Unfinished answers of one column, from any number of requests, as rows that can be joined and taken out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from onetrunk.core.decoding import State


@dataclass(frozen=True)
class Kind:
    """Answers of one kind take their steps together."""

    ask: str
    guided: bool  # has each a twin with nothing given?
    beams: int  # rows of one answer, one beside the other
    phase: int  # of the column's decoding


@dataclass
class Rows:
    """n rows of one kind. `state` is the column type's; what the session knows of each row stands beside it:

    `request` and `row` (whose answer it is), `slot` of the cache, where guided `twin`, the slot in which nothing is
    given, and where the column is read out with it `pooled` [n, D].
    """

    kind: Kind
    state: State
    own: State

    def __len__(self) -> int:
        return len(self.own["slot"])

    def select(self, index: Tensor) -> Rows:
        """The rows of `index` int64 [k]."""
        return Rows(self.kind, select(self.state, index), select(self.own, index))

    def by_phase(self) -> list[Rows]:
        """The rows of each phase that their states are in now."""
        phases = self.state["phase"].unique().tolist() if "phase" in self.state else [0]
        if len(phases) == 1:
            return [Rows(replace(self.kind, phase=phases[0]), self.state, self.own)]
        parts = [self.select((self.state["phase"] == phase).nonzero()[:, 0]) for phase in phases]
        return [Rows(replace(self.kind, phase=phase), p.state, p.own) for phase, p in zip(phases, parts, strict=True)]

    def slots(self) -> Tensor:
        """All slots of the cache that these rows take."""
        return torch.cat([self.own["slot"], self.own["twin"]]) if self.kind.guided else self.own["slot"]

    def finished(self) -> Tensor:
        """bool [n]; the rows of one answer finish together."""
        done = self.state["done"]
        if self.kind.beams == 1:
            return done
        return done.view(-1, self.kind.beams).all(1).repeat_interleave(self.kind.beams)


def join(several: Sequence[Rows]) -> Rows:
    """Rows of one kind together."""
    if len(several) == 1:
        return several[0]
    return Rows(several[0].kind, _joined([p.state for p in several]), _joined([p.own for p in several]))


def select(state: State, index: Tensor) -> State:
    return {name: tensor[index.to(tensor.device)] for name, tensor in state.items()}


def _joined(states: Sequence[State]) -> State:
    names = states[0].keys()
    for state in states[1:]:
        if state.keys() != names:
            raise ValueError(
                f"states of one phase hold the same tensors; one holds {sorted(names)}, another {sorted(state)}"
            )
    return {name: torch.cat(_padded([state[name] for state in states])) for name in names}


def _padded(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Zeros at the end of the second dimension, where it differs."""
    if tensors[0].ndim < 2:
        return list(tensors)
    longest = max(tensor.shape[1] for tensor in tensors)
    return [F.pad(tensor, (0, 0) * (tensor.ndim - 2) + (0, longest - tensor.shape[1])) for tensor in tensors]
