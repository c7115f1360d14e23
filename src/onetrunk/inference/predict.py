"""Answers: what is given is read once, then each asked column runs the decoding loop (start, query, step, finish)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onetrunk.core import rng
from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.batch import Batch
from onetrunk.core.content import Content, On, Role
from onetrunk.core.decoding import AnswerContext, State
from onetrunk.core.objective import RoleAssignment
from onetrunk.data.pack import Store, assemble
from onetrunk.model import FoundationModel

_POSITIONS_AT_ONCE = 16_384
_FOR_THE_ANSWER = 32  # positions set aside for each row's answer


@torch.inference_mode()
def answer(
    model: FoundationModel,
    store: Store,
    given: list[str],
    ask: str,
    sampling: Sampling | None = None,
    prompt: Content | None = None,
) -> list[Answer]:
    """One answer a row of the store, beginning with its part of `prompt` where there is one. Rows are taken by length
    and answered in batches; answers come in row order."""
    sampling = sampling or Sampling()
    training = model.training
    model.eval()
    try:
        return _answer(model, store, given, ask, sampling, prompt)
    finally:
        model.train(training)


def _answer(
    model: FoundationModel, store: Store, given: list[str], ask: str, sampling: Sampling, prompt: Content | None
) -> list[Answer]:
    roles = _given_roles(store, [name for name in given if name != ask])
    lengths = _lengths(store, roles)
    answers: list[Answer | None] = [None] * len(roles)
    if prompt is not None:
        lengths = lengths + model.codec(ask).positions(prompt)
    for rows in _batches(lengths, sampling.beams if model.codec(ask).searches else 1):
        keys = rng.mix(rng.key(sampling.seed, "answer", ask), rows)
        group = RoleAssignment(rows, roles[rows], keys)
        begun = None if prompt is None else prompt.take(rows)
        for i, found in zip(rows, _decode(model, store, group, ask, sampling, begun), strict=True):
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
            group = RoleAssignment(rows, roles[rows], rows.astype(np.uint64))
            out[rows] = _read_given(model, store, group, next(model.parameters()).device).pooled.float().cpu().numpy()
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
        lengths[there] += codec.positions(content)[store.index[there, c]]
    return lengths


def _batches(lengths: np.ndarray, times: int = 1) -> list[np.ndarray]:
    """Rows of similar length together, as many as fit when each is there so many times."""
    order = np.argsort(lengths, kind="stable")
    out, first = [], 0
    while first < len(order):
        needs = times * (lengths[order[first : first + _POSITIONS_AT_ONCE // _FOR_THE_ANSWER]] + _FOR_THE_ANSWER)
        size = max(1, int((needs * np.arange(1, len(needs) + 1) <= _POSITIONS_AT_ONCE).sum()))
        out.append(order[first : first + size])
        first += size
    return out


def _decode(
    model: FoundationModel, store: Store, group: RoleAssignment, ask: str, sampling: Sampling, prompt: Content | None
) -> list[Answer]:
    codec, weight = model.codec(ask), next(model.parameters())
    n, device = len(group.rows), weight.device
    read = _read_given(model, store, group, device)

    def step(state: State, h: Tensor, unconditional: Tensor | None) -> State:
        """Read-outs are computed in the weights' own precision, also where the trunk is not."""
        with torch.autocast(device.type, enabled=False):
            without = None if unconditional is None else unconditional.to(weight.dtype)
            return codec.step(state, h.to(weight.dtype), without)

    if (other := codec.reads_on()) is not None:
        on, h_NTD = read.positions_of(other)
        state = codec.start(AnswerContext.alike(group.keys, sampling, device, read_positions=on))
        while not bool(state["done"].all()):
            state = step(state, h_NTD, None)
        return codec.finish(state)
    cache, pooled, keys = read.cache, read.pooled, group.keys
    beams = sampling.beams if codec.searches else 1
    if beams > 1:
        n, whose = n * beams, np.arange(n).repeat(beams)
        cache, pooled = cache.select(torch.from_numpy(whose).to(device)), pooled[whose]
        keys, prompt = keys[whose], None if prompt is None else prompt.take(whose)
    guided = codec.guided and sampling.guidance != 1
    if guided:  # the same documents again with nothing given: both go through the trunk together
        cache, pooled = cache.with_blind(), torch.cat([pooled, torch.zeros_like(pooled)])
    state = codec.start(AnswerContext.alike(keys, sampling, device, prompt))
    marker = model.marker(ask)[Role.ASKED]
    while not bool(state["done"].all()):
        query = codec.query(state)
        x = codec.embed(query.content).view(n, query.t, -1) + marker
        steps = torch.arange(query.t, device=device)
        pos = (query.pos[:, None] if isinstance(query.pos, Tensor) else query.pos) + steps.expand(n, -1)
        valid = torch.ones_like(pos, dtype=torch.bool) if query.valid is None else query.valid
        if guided:
            x, pos, valid = x.repeat(2, 1, 1), pos.repeat(2, 1), valid.repeat(2, 1)
        h, cache = model.trunk.extend(x, pos, valid, cache, causal=query.causal, keep=query.keep)
        if codec.pooled:
            h = torch.cat([h, pooled[:, None].expand_as(h)], dim=-1)
        h, unconditional = h.chunk(2) if guided else (h, None)
        state = step(state, h, unconditional)
        if beams > 1:
            cache = cache.select(state["order"])
    return codec.finish(state)[::beams]


@dataclass
class _Given:
    """What the trunk made of what is given: its cache, the mean of its states [n, D] (zeros where nothing is given),
    and the states themselves."""

    cache: Any
    pooled: Tensor
    batch: Batch | None = None
    h_NTD: Tensor | None = None

    def positions_of(self, column: str) -> tuple[On, Tensor]:
        """Where a column stands in each document, and its states [n, t, D], padded at the end."""
        n, device = len(self.pooled), self.pooled.device
        if self.batch is None or column not in self.batch.embeds:
            return On(np.zeros(n, dtype=np.int64)), self.pooled.new_zeros(n, 0, self.pooled.shape[1])
        embed = self.batch.embeds[column]
        doc = self.batch.layout.doc_BT.flatten()[embed.flat_n]
        lens = doc.bincount(minlength=n)
        local = torch.arange(len(doc), device=device) - (lens.cumsum(0) - lens)[doc]
        h_NTD = self.pooled.new_zeros(n, int(lens.max()), self.pooled.shape[1])
        h_NTD[doc, local] = self.h_NTD.flatten(0, 1)[embed.flat_n].to(h_NTD.dtype)
        frame = None
        if "frame" in embed.content:
            frame = np.zeros((n, 2, 3), dtype=np.float32)
            frame[doc.unique().cpu().numpy()] = embed.content["frame"].cpu().numpy()
        return On(lens.cpu().numpy(), frame), h_NTD


def _read_given(model: FoundationModel, store: Store, group: RoleAssignment, device: torch.device) -> _Given:
    n = len(group.rows)
    cache, pooled = model.trunk.start_cache(n, device), torch.zeros(n, model.width, device=device)
    if not (group.roles == Role.GIVEN).any():
        return _Given(cache, pooled)
    batch = assemble({"given": group}, store, given_causal=model.given_causal, augment=False, apart=True).to(device)
    valid = batch.layout.doc_BT >= 0
    x = model.embeddings(batch)
    h, cache = model.trunk.extend(x, batch.layout.pos_BT, valid, cache, causal=model.given_causal, keep=True)
    w = valid[..., None].to(h.dtype)
    return _Given(cache, (h * w).sum(1) / w.sum(1).clamp(min=1), batch, h)
