"""Answers: what is given is read once, then each asked column runs the decoding loop (start, query, step, finish)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from onetrunk.core import rng
from onetrunk.core.column import Codec, Sampling
from onetrunk.core.objective import Group
from onetrunk.core.sequence import Answer, Role
from onetrunk.data.pack import Store, assemble
from onetrunk.model import FoundationModel

_POSITIONS_AT_ONCE = 16_384
_FOR_THE_ANSWER = 32  # positions set aside for each row's answer


@torch.inference_mode()
def answer(
    model: FoundationModel, store: Store, given: list[str], ask: str, sampling: Sampling | None = None
) -> list[Answer]:
    """One answer a row of the store. Rows are taken by length and answered in batches; answers come in row order."""
    sampling = sampling or Sampling()
    training = model.training
    model.eval()
    try:
        return _answer(model, store, given, ask, sampling)
    finally:
        model.train(training)


def _answer(model: FoundationModel, store: Store, given: list[str], ask: str, sampling: Sampling) -> list[Answer]:
    codec = model.codec(ask)
    roles = _given_roles(store, [name for name in given if name != ask])
    lengths = _lengths(store, roles)
    answers: list[Answer | None] = [None] * len(roles)
    for rows in _batches(lengths):
        keys = rng.mix(rng.key(sampling.seed, "answer", ask), rows)
        group = Group(rows, roles[rows], keys)
        for i, found in zip(rows, _decode(model, store, group, codec, ask, sampling), strict=True):
            answers[i] = found
    return answers


@torch.inference_mode()
def pooled_states(model: FoundationModel, store: Store, given: list[str]) -> np.ndarray:
    """What the model makes of each row's given columns: the mean of their states, float32 [rows, D]."""
    training = model.training
    model.eval()
    try:
        roles = _given_roles(store, given)
        out = np.zeros((len(roles), model.width), dtype=np.float32)
        for rows in _batches(_lengths(store, roles)):
            group = Group(rows, roles[rows], rows.astype(np.uint64))
            out[rows] = _read_given(model, store, group, next(model.parameters()).device)[1].float().cpu().numpy()
        return out
    finally:
        model.train(training)


def _given_roles(store: Store, given: list[str]) -> np.ndarray:
    chosen = np.array([name in given for name in store.names], dtype=bool)
    return np.where(store.present & chosen, Role.GIVEN, Role.ABSENT)


def _lengths(store: Store, roles: np.ndarray) -> np.ndarray:
    lengths = np.zeros(len(roles), dtype=np.int64)
    for c, (codec, content) in enumerate(zip(store.codecs, store.contents, strict=True)):
        there = roles[:, c] == Role.GIVEN
        lengths[there] += codec.positions(content)[store.place[there, c]]
    return lengths


def _batches(lengths: np.ndarray) -> list[np.ndarray]:
    """Rows of similar length together, as many as fit."""
    order = np.argsort(lengths, kind="stable")
    out, first = [], 0
    while first < len(order):
        needs = lengths[order[first : first + _POSITIONS_AT_ONCE // _FOR_THE_ANSWER]] + _FOR_THE_ANSWER
        size = max(1, int((needs * np.arange(1, len(needs) + 1) <= _POSITIONS_AT_ONCE).sum()))
        out.append(order[first : first + size])
        first += size
    return out


def _decode(
    model: FoundationModel, store: Store, group: Group, codec: Codec, ask: str, sampling: Sampling
) -> list[Answer]:
    device = next(model.parameters()).device
    n = len(group.rows)
    cache, pooled = _read_given(model, store, group, device)
    guided = codec.guided and sampling.guidance != 1
    if guided:  # the same documents again with nothing given: both go through the trunk together
        cache, pooled = cache.with_blind(), torch.cat([pooled, torch.zeros_like(pooled)])
    state = codec.start(n, sampling, group.keys, device)
    marker = model.marker(ask)[Role.ASKED]
    while not bool(state["done"].all()):
        query = codec.query(state, sampling)
        x = codec.embed(query.content).view(n, query.t, -1) + marker
        x = x.repeat(2, 1, 1) if guided else x
        pos = torch.arange(query.pos, query.pos + query.t, device=device).expand(len(x), -1)
        valid = torch.ones_like(pos, dtype=torch.bool)
        h, cache = model.trunk.extend(x, pos, valid, cache, causal=query.causal, keep=query.keep)
        if codec.pooled:
            h = torch.cat([h, pooled[:, None].expand_as(h)], dim=-1)
        h, free = h.chunk(2) if guided else (h, None)
        state = codec.step(state, h, free, sampling)
    return codec.finish(state)


def _read_given(model: FoundationModel, store: Store, group: Group, device: torch.device) -> tuple[Any, Tensor]:
    """The trunk's cache after what is given, and the mean of its states: zeros where nothing is given."""
    n = len(group.rows)
    cache, pooled = model.trunk.start_cache(n, device), torch.zeros(n, model.width, device=device)
    if (group.roles == Role.GIVEN).any():
        x, valid, pos = _given(model, store, group, device)
        h, cache = model.trunk.extend(x, pos, valid, cache, causal=model.given_causal, keep=True)
        w = valid[..., None].to(h.dtype)
        pooled = (h * w).sum(1) / w.sum(1).clamp(min=1)
    return cache, pooled


def _given(model: FoundationModel, store: Store, group: Group, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings [n, T, D] of what is given, which of them are not padding, and their positions."""
    batch = assemble({"given": group}, store, given_causal=model.given_causal, augment=False, apart=True).to(device)
    parts = [model.embed(name, e.content, e.role_n) for name, e in batch.embeds.items()]
    padding = parts[0].new_zeros(1, model.width)
    x = torch.cat([*parts, padding])
    x = x[batch.gather_N] if batch.gather_N is not None else x[:-1]
    return x.view(*batch.plan.doc_BT.shape, -1), batch.plan.doc_BT >= 0, batch.plan.pos_BT
