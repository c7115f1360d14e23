"""The decoding loop: what a column type may need to begin answers, and what a step asks of the trunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from onetrunk.core.answer import Sampling
from onetrunk.core.content import Content, ReadPositions

State = dict[str, Tensor]  # of n answers that are being made: tensors [n, ...], always with `done` bool [n]


@dataclass(frozen=True)
class AnswerContext:
    """What the first state of n answers is made from: everything that a column type may need.

    Answers of several requests begin together: each has its own key, which is all its randomness, and its own sampling.
    """

    keys: np.ndarray  # uint64 [n]
    sampling: Sequence[Sampling]  # of each answer
    device: torch.device
    prompt: Content | None = None  # how each answer begins, empty where it has no prompt
    read_positions: ReadPositions | None = None  # of the column that the asked one is read on

    @classmethod
    def alike(
        cls,
        keys: np.ndarray,
        sampling: Sampling,
        device: torch.device,
        prompt: Content | None = None,
        read_positions: ReadPositions | None = None,
    ) -> AnswerContext:
        """Of answers that are all drawn in one way."""
        return cls(keys, [sampling] * len(keys), device, prompt, read_positions)

    @property
    def n(self) -> int:
        return len(self.keys)

    @property
    def beams(self) -> int:
        """Of all answers. Raises ValueError where they differ: such answers cannot begin together."""
        different = {sampling.beams for sampling in self.sampling} or {1}
        if len(different) > 1:
            raise ValueError(f"answers that begin together need one number of beams, found {sorted(different)}")
        return different.pop()

    def tensor(self, array: np.ndarray) -> Tensor:
        """The array on the device."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def state(self, *names: str) -> State:
        """A state in which nothing is done, with these fields of every answer's sampling, and the keys int64 [n]."""
        known = {field.name for field in fields(Sampling)}
        if unknown := set(names) - known:
            raise ValueError(f"expected fields of Sampling ({', '.join(sorted(known))}), found {sorted(unknown)}")
        state = {
            "done": torch.zeros(self.n, dtype=torch.bool, device=self.device),
            "keys": torch.from_numpy(self.keys.view(np.int64).copy()),  # on the CPU, where randomness is made
        }
        for name in names:
            values = [getattr(sampling, name) for sampling in self.sampling]
            kind = np.float32 if isinstance(getattr(Sampling, name), float) else np.int64
            state[name] = self.tensor(np.array(values, dtype=kind))
        return state


@dataclass
class Query:
    """What a decoding step asks of the trunk: `content` for t positions of every document, [n * t, ...] or natural."""

    content: dict[str, Tensor]
    t: int
    causal: bool = False
    keep: bool = False  # true: these positions are final and stay visible to later steps
    pos: int | Tensor = 0  # rotary position of the first of them; one for all documents, or int64 [n]
    valid: Tensor | None = None  # bool [n, t], false for padding, which comes last; None: there is none


def state_keys(state: State) -> np.ndarray:
    """The keys of a state, uint64 [n]."""
    return state["keys"].cpu().numpy().view(np.uint64)
