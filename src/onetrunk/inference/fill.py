"""Fills in the gaps of values: what a model that learnt from hidden words is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from onetrunk.core.answer import Answer
from onetrunk.core.content import Content, Role
from onetrunk.core.encoder import Gapped
from onetrunk.core.module import Filling
from onetrunk.core.objective import RoleAssignment
from onetrunk.data.pack import assemble
from onetrunk.data.store import Store
from onetrunk.inference.answer_rows import batches
from onetrunk.inference.given import GivenRows
from onetrunk.model import FoundationModel


@torch.inference_mode()
def fill(
    model: FoundationModel, store: Store, given: Sequence[str], ask: str, gapped: Mapping[int, Any]
) -> list[Answer]:
    """One answer for each row of the store: its value of `gapped` with every gap filled in, each by itself, from what
    stands around it and what is given. The probability is that of all of them; `scores` has that of each. Rows without
    a value have no answer; values are those that `Gapped.encode_gaps` takes."""
    answers = [Answer(None) for _ in range(len(store.index))]
    rows = np.array(sorted(gapped), dtype=np.int64)
    if not len(rows):
        return answers
    whole = _with_gaps(model, store, given, ask, gapped, rows)
    part = GivenRows(whole, rows, whole.names)
    roles = part.roles()
    device, training = next(model.parameters()).device, model.training
    model.eval()
    try:
        for chosen in batches(part.lengths()):
            group = RoleAssignment(rows[chosen], roles[chosen], rows[chosen].astype(np.uint64))
            batch = assemble({"given": group}, whole, given_causal=model.given_causal, augment=False).to(device)
            own = batch.embeds[ask]
            batch.embeds[ask] = replace(own, role_n=torch.full((1,), int(Role.MASKED), device=device))
            encoder, module = model.encoder(ask), model.module(ask)
            assert isinstance(encoder, Gapped) and isinstance(module, Filling)
            content = {name: array.cpu().numpy() for name, array in own.content.items()}
            gaps = own.flat_n[torch.from_numpy(encoder.is_gap(content)).to(device)]
            docs = batch.layout.doc_BT.flatten()[gaps].tolist()
            choices, logprobs = module.fill(model.encode(batch).h_ND[gaps])
            found: dict[int, list[tuple[int, float]]] = {}
            for doc, choice, logprob in zip(docs, choices.tolist(), logprobs.tolist(), strict=True):
                found.setdefault(doc, []).append((choice, logprob))
            for doc, each in found.items():
                row = int(batch.row[doc])
                total = sum(logprob for _, logprob in each)
                value = encoder.filled(gapped[row], [choice for choice, _ in each])
                scores = [float(np.exp(logprob)) for _, logprob in each]
                answers[row] = Answer(value, float(np.exp(total)), scores=scores, logprob=total)
        return answers
    finally:
        model.train(training)


def _with_gaps(
    model: FoundationModel, store: Store, given: Sequence[str], ask: str, gapped: Mapping[int, Any], rows: np.ndarray
) -> Store:
    """The given columns, and the asked one as it is with its gaps, in the model's order."""
    encoder = model.encoder(ask)
    assert isinstance(encoder, Gapped)
    content: Content = encoder.stack([encoder.encode_gaps(gapped[row]) for row in rows.tolist()])
    own = np.full(len(store.index), -1, dtype=np.int64)
    own[rows] = np.arange(len(rows))
    names = [name for name in model.columns if name == ask or (name in given and name in store.names)]
    columns = {name: c for c, name in enumerate(store.names)}
    contents = [content if name == ask else store.contents[columns[name]] for name in names]
    index = np.stack([own if name == ask else store.index[:, columns[name]] for name in names], axis=1)
    return Store(names, [model.encoder(name) for name in names], contents, index)
