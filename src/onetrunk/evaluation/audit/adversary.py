"""How far would somebody who knows the model have to go? What the trunk sees of the given columns is moved against the
true class, by at most a share of its own length: projected gradient steps (Madry et al., arXiv 1706.06083).

That is more than anybody can do to values themselves, so answers that stand here stand against any change to a value
that moves its embeddings so far. Beside it: the same shift in a random direction, which does little.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from onetrunk.core import rng
from onetrunk.core.batch import Batch
from onetrunk.core.content import Role
from onetrunk.core.objective import RoleAssignment
from onetrunk.data.ledger import Ledger
from onetrunk.data.pack import assemble
from onetrunk.data.prepare import encode
from onetrunk.data.table import Table
from onetrunk.evaluation.audit.asked import AskedRows
from onetrunk.evaluation.audit.record import Adversary, Shift
from onetrunk.evaluation.intervals import Interval, wilson
from onetrunk.inference.answer_rows import batches
from onetrunk.inference.given import GivenRows
from onetrunk.inference.model_folder import Model
from onetrunk.inference.wide_outputs import add_wide

MAX_ROWS = 200
SHARES = (0.02, 0.05, 0.1)  # of the length of an embedding
_STEPS = 10
_PACE = 2.5  # steps together go so many times as far as allowed, as in the paper
_EVEN = float(np.log(2))  # the loss of a class of one half

Moved = dict[str, Tensor]  # a given column to what the trunk sees of it, [n, D]


def adversary(model: Model, asked: AskedRows, seed: int = 0) -> Adversary | None:
    """What share of the rows keeps more than half of the probability on the true class. None where answers are of no
    closed set, or nothing is given; a wide read-out looks at values, so it is not moved."""
    given = [name for name in asked.given if name in asked.columns]
    if asked.classes is None or not given:
        return None
    known = np.flatnonzero(np.isin(asked.names_of(asked.truths), asked.classes))
    known = known[rng.permutation(rng.key(seed, "moved rows"), len(known))[:MAX_ROWS]]
    rows = asked.take(known)
    found: dict[tuple[float, bool], list[np.ndarray]] = {}
    before: list[np.ndarray] = []
    for batch in _batches(model, rows, given):
        start = {name: each.detach() for name, each in _embedded(model, batch, given).items()}
        before.append(_losses(model, batch, rows.ask, start))
        for share in SHARES:
            found.setdefault((share, True), []).append(_worst(model, batch, rows.ask, start, share))
            noise = {name: _noise(each, share, rng.torch_seed(seed, name)) for name, each in start.items()}
            moved = {name: start[name] + noise[name] for name in start}
            found.setdefault((share, False), []).append(_losses(model, batch, rows.ask, moved))
    shifts = [Shift(share, *(_kept(found[share, against]) for against in (True, False))) for share in SHARES]
    note = "Its wide read-out looks at values and was not moved." if model.network.wide_of(rows.ask) is not None else ""
    return Adversary(len(known), _kept(before), shifts, note)


def _kept(losses: Sequence[np.ndarray]) -> Interval:
    each = np.concatenate(losses)
    return wilson(float((each < _EVEN).sum()), len(each))


def _batches(model: Model, asked: AskedRows, given: Sequence[str]) -> Iterator[Batch]:
    """Packed rows, in which the asked column is read with its truths."""
    columns = {**{name: asked.columns[name] for name in given}, asked.ask: asked.truths}
    wanted = [column for name, column in model.columns.items() if name in columns]
    store = encode(Table(dict(columns)), wanted, model.network.encoders, Ledger())
    add_wide(model.network, store, list(given), asked.ask)
    every = np.arange(len(store.index))
    roles = GivenRows(store, every, given).roles()
    roles[:, store.names.index(asked.ask)] = Role.ASKED
    device = next(model.network.parameters()).device
    for rows in batches(GivenRows(store, every, given).lengths() + 1):
        group = RoleAssignment(rows, roles[rows], rows.astype(np.uint64))
        yield assemble({"predict": group}, store, given_causal=model.network.given_causal, augment=False).to(device)


def _embedded(model: Model, batch: Batch, given: Sequence[str]) -> Moved:
    names = [name for name in given if name in batch.embeds]
    with torch.no_grad():
        hidden = model.network.encode(batch, capture=[f"embedding.{name}" for name in names])
    return {name: hidden.captured[f"embedding.{name}"] for name in names}


def _loss(model: Model, batch: Batch, ask: str, seen: Moved) -> tuple[Tensor, Tensor]:
    """The sum, and each document's [m]."""
    read = batch.reads["predict"][ask]
    loss = model.module(ask).loss(model.network.read(model.network.encode(batch, embeddings=seen), ask), read.targets)
    assert loss.each is not None, f"the loss of {ask} does not tell each read's own"
    return loss.sum, loss.each.new_zeros(len(batch.row)).index_add(0, read.doc_r, loss.each)


@torch.no_grad()
def _losses(model: Model, batch: Batch, ask: str, seen: Moved) -> np.ndarray:
    return _loss(model, batch, ask, seen)[1].float().cpu().numpy()


def _worst(model: Model, batch: Batch, ask: str, start: Moved, share: float) -> np.ndarray:
    """The largest loss of each row on the way."""
    limit = {name: share * each.norm(dim=1, keepdim=True) for name, each in start.items()}
    shift = {name: torch.zeros_like(each) for name, each in start.items()}
    worst = _losses(model, batch, ask, start)
    for _ in range(_STEPS):
        seen = {name: (start[name] + shift[name]).requires_grad_() for name in start}
        total, _ = _loss(model, batch, ask, seen)
        gradients = torch.autograd.grad(total, list(seen.values()), allow_unused=True)
        for (name, moved), gradient in zip(shift.items(), gradients, strict=True):
            if gradient is not None:
                step = _PACE / _STEPS * limit[name] * _unit(gradient)
                shift[name] = _within(moved + step, limit[name])
        worst = np.maximum(worst, _losses(model, batch, ask, {name: start[name] + shift[name] for name in start}))
    return worst


def _noise(each: Tensor, share: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(each.shape, generator=generator).to(each)
    return share * each.norm(dim=1, keepdim=True) * _unit(drawn)


def _unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=1, keepdim=True).clamp(min=1e-30)


def _within(x: Tensor, limit: Tensor) -> Tensor:
    """Each position's shift, no longer than its limit."""
    return x * (limit / x.norm(dim=1, keepdim=True).clamp(min=1e-30)).clamp(max=1)
