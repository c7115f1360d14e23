"""Answers whole tables, in a loop over sessions; and pools the model's states of rows, without asking anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.content import Content, Role
from onetrunk.core.module import Guided, Searched
from onetrunk.core.objective import RoleAssignment
from onetrunk.data.pack import assemble
from onetrunk.data.store import Store
from onetrunk.inference.given import GivenRows
from onetrunk.inference.request import Request
from onetrunk.inference.session import Session
from onetrunk.model import FoundationModel

POSITIONS_AT_ONCE = 16_384  # through the trunk in one call
CACHED_POSITIONS = 65_536  # that the answers being made may hold
_SHORTEST = 64  # rows up to here share a session


def answer(
    model: FoundationModel,
    store: Store,
    given: Sequence[str],
    ask: str,
    sampling: Sampling | None = None,
    prompt: Content | None = None,
    first_row: int = 0,
) -> list[Answer]:
    """One answer a row of the store, beginning with its part of `prompt` where there is one; in row order. `first_row`
    is the number of its first row in the table that it is of.

    Rows of about one length share a session: they enter it, the shortest first, as others leave.
    """
    sampling = sampling or Sampling()
    answers: list[Answer | None] = [None] * len(store.index)
    for rows, positions in _by_length(model, store, given, ask, sampling, prompt):
        session = _session(model, len(rows), positions, ask, sampling)
        session.add(Request(store, ask, given, sampling, prompt, rows, first_row))
        while session.busy:
            for finished in session.step():
                answers[finished.row] = finished.answer
    return [each for each in answers if each is not None]


def _session(model: FoundationModel, rows: int, positions: int, ask: str, sampling: Sampling) -> Session:
    """With slots for all rows, or as many as there is room for."""
    module = model.module(ask)
    each = sampling.beams if isinstance(module, Searched) else 1
    each *= 2 if isinstance(module, Guided) and sampling.guidance != 1 else 1
    slots = each * max(1, min(rows, CACHED_POSITIONS // (each * positions)))
    return Session(
        model, slots=slots, positions=positions, positions_at_once=POSITIONS_AT_ONCE, enter_from=max(1, slots // 8)
    )


def _by_length(
    model: FoundationModel,
    store: Store,
    given: Sequence[str],
    ask: str,
    sampling: Sampling,
    prompt: Content | None,
) -> Iterator[tuple[np.ndarray, int]]:
    """Rows whose answers take about as many positions, the shortest first, and how many at most."""
    module = model.module(ask)
    given_rows = GivenRows(store, np.arange(len(store.index)), [name for name in given if name != ask])
    lengths, prompted = given_rows.lengths(), np.zeros(len(store.index), dtype=np.int64)
    if prompt is not None:
        prompted = prompt.lens if prompt.ragged else module.encoder.max_positions(prompt)
    needs = lengths + module.answer_positions(prompted, sampling)
    power = np.ceil(np.log2(np.maximum(needs, _SHORTEST))).astype(np.int64)
    order = np.argsort(lengths + prompted, kind="stable")
    for each in np.unique(power):
        rows = order[power[order] == each]
        yield rows, int(needs[rows].max())


@torch.inference_mode()
def pooled_states(model: FoundationModel, store: Store, given: Sequence[str]) -> np.ndarray:
    """What the model makes of each row's given columns: the mean of their states, float32 [rows, D]."""
    device, training = next(model.parameters()).device, model.training
    model.eval()
    try:
        out = np.zeros((len(store.index), model.width), dtype=np.float32)
        roles = GivenRows(store, np.arange(len(out)), given).roles()
        there = np.flatnonzero((roles == Role.GIVEN).any(1))
        lengths = GivenRows(store, there, given).lengths()
        for some in batches(lengths):
            rows = there[some]
            group = RoleAssignment(rows, roles[rows], rows.astype(np.uint64))
            batch = assemble({"given": group}, store, given_causal=model.given_causal, augment=False).to(device)
            out[rows] = model.encode(batch).pooled_MD.float().cpu().numpy()
        return out
    finally:
        model.train(training)


def batches(lengths: np.ndarray) -> list[np.ndarray]:
    """Rows of similar length together, as many as fit."""
    order = np.argsort(lengths, kind="stable")
    out, first = [], 0
    while first < len(order):
        needs = np.maximum(lengths[order[first : first + POSITIONS_AT_ONCE]], 1)
        size = max(1, int((needs * np.arange(1, len(needs) + 1) <= POSITIONS_AT_ONCE).sum()))
        out.append(order[first : first + size])
        first += size
    return out
