"""The model's own answers to whole texts, with which every export is compared."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from onetrunk.core.batch import Batch, Embed, Layout
from onetrunk.core.content import Role
from onetrunk.inference.model_folder import Model


def logits_of(model: Model, ask: str, ids: list[int], fills: bool = False) -> Tensor:
    """After each token of a text that begins with the start token; of a model that `fills` words in, at each token of
    a text that is seen whole: float32 [T, V]."""
    module: Any = model.module(ask)
    network = model.network
    device = next(network.parameters()).device
    layout = Layout.stream(1, len(ids), device)
    if fills:
        zeros = torch.zeros_like(layout.pos_BT)
        layout = Layout(layout.doc_BT, zeros, zeros, layout.pos_BT, full=True)
    with torch.inference_mode():
        role = torch.tensor([int(Role.MASKED if fills else Role.ASKED)], device=device)
        here = torch.arange(len(ids), device=device)
        batch = Batch(layout, {ask: Embed({"id": torch.tensor(ids, device=device)}, role, here)})
        return torch.nn.functional.linear(*module.readout(network.encode(batch).h_ND)).float().cpu()


def likeliest(model: Model, ask: str, ids: list[int], most: int) -> list[int]:
    """How the model goes on from these tokens, one by one, until a text ends or `most` are written."""
    special = model.encoder(ask).special  # type: ignore[attr-defined]
    ends, out = {special.end, *special.stops}, list(ids)
    while len(out) < len(ids) + most:
        logits = logits_of(model, ask, out)[-1].clone()
        logits[list(special.never)] = -torch.inf
        out.append(int(logits.argmax()))
        if out[-1] in ends:
            break
    return out[len(ids) :]
