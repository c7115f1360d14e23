"""What the trunk makes of a batch: the states that read-outs and objectives get.

m documents, M of them in a batch; N = B * T positions, as `core.batch` has them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from onetrunk.core.batch import Batch, Layout


@dataclass
class Hidden:
    """`h_BTD` are the trunk's last states, normed; where there is padding they mean nothing.

    `captured` holds the intermediates that were asked for, by name: `embedding.COLUMN` [n, D], `block.0` ... [B, T, D].
    They lie on the way to the states, so that `torch.autograd.grad` reaches them. `cache` is what decoding goes on
    from; with one, every document has a sequence of its own.
    """

    h_BTD: Tensor
    batch: Batch
    captured: dict[str, Tensor] = field(default_factory=dict)
    cache: Any = None

    @property
    def layout(self) -> Layout:
        return self.batch.layout

    @cached_property
    def h_ND(self) -> Tensor:
        return self.h_BTD.flatten(0, 1)

    @cached_property
    def pooled_MD(self) -> Tensor:
        """The mean of each document's states of branch 0, where what is given stands; zeros where nothing is given."""
        if self.cache is not None:
            given_BT1 = (self.layout.doc_BT >= 0)[..., None]
            count = given_BT1.to(self.h_BTD.dtype).sum(1)
            return torch.where(given_BT1, self.h_BTD, 0).sum(1) / count.clamp(min=1)
        layout, n_docs = self.layout, len(self.batch.row)
        doc = torch.where(layout.branch_BT == 0, layout.doc_BT, -1).flatten()
        doc = torch.where(doc < 0, n_docs, doc)
        sums = self.h_ND.new_zeros(n_docs + 1, self.h_ND.shape[1]).index_add(0, doc, self.h_ND)
        counts = torch.zeros(n_docs + 1, device=doc.device, dtype=self.h_ND.dtype)
        counts = counts.index_add(0, doc, torch.ones_like(doc, dtype=self.h_ND.dtype))
        return (sums / counts.clamp(min=1)[:, None])[:n_docs]
