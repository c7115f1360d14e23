"""Asks the model about a row without some of its parts, and how its answer leans on each of them.

A part that is left out says nothing and is seen by nobody, as if it had not been there; a column all of whose parts
are left out is missing, as in training. Rows without some of their parts are documents of one batch.

k documents; P parts; K outcomes; B rows that say nothing, from each of which s shares of the way are gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onetrunk.core.batch import Batch, Embed, Layout, Read, tensors_of
from onetrunk.core.content import Role
from onetrunk.core.hidden import Hidden
from onetrunk.core.module import Expected
from onetrunk.core.objective import RoleAssignment
from onetrunk.core.parts import Divided
from onetrunk.data.pack import assemble
from onetrunk.data.store import RowOutputs, Store
from onetrunk.explanation.question import ColumnParts, Question
from onetrunk.explanation.way import EMBEDDING, Way, distinct, way_of
from onetrunk.inference.answer_rows import POSITIONS_AT_ONCE
from onetrunk.inference.wide_outputs import add_wide

_TAG = "explain"
ROWS_OF_NOTHING = 8  # that gradients begin from, where what says nothing is a range of values


@dataclass(frozen=True)
class Slopes:
    """Of rows on the way from nothing to the row: their outcomes [B, s, K], and what the gradient at each says of every
    part, float64 [B, s, K, P] (K is 1 where outcomes are taken together)."""

    scores: np.ndarray
    by_part: np.ndarray


class Game:
    """Of one question, in a row that has lost the parts that are `absent`, bool [P]. It counts the passes through the
    trunk."""

    def __init__(self, question: Question, absent: np.ndarray | None = None) -> None:
        self.question = question
        self._there = np.ones(question.part_count, dtype=bool) if absent is None else ~absent
        self.network = question.network
        self.module: Any = question.network.module(question.ask)
        self.forward_passes = 0
        self.backward_passes = 0
        self._device = next(self.network.parameters()).device

    @property
    def parts(self) -> int:
        return self.question.part_count

    @property
    def outcomes(self) -> int:
        return len(self.question.outcomes)

    # -- coalitions --------------------------------------------------------------------------------------------------
    def scores(self, kept: np.ndarray) -> np.ndarray:
        """Outcomes float64 [k, K] of the row with the parts that are kept, bool [k, P]. Equal ones are asked once."""
        unique, back = np.unique(kept, axis=0, return_inverse=True)
        with torch.inference_mode(), _evaluating(self.network):
            out = [self._scores_of(batch) for batch in self._batches(unique)]
        return np.concatenate(out)[back.reshape(-1)]

    def of_columns(self, kept: np.ndarray) -> np.ndarray:
        """As `scores`, of whole columns that are kept, bool [k, columns]."""
        return self.scores(kept[:, self.question.owners()])

    def hidden(self, capture: list[str]) -> Hidden:
        """What the trunk makes of the whole row."""
        with torch.inference_mode(), _evaluating(self.network):
            self.forward_passes += 1
            return self.network.encode(self.batch(np.ones((1, self.parts), dtype=bool)), capture=capture)

    def _batches(self, kept: np.ndarray) -> Iterator[Batch]:
        size = self._documents_at_once()
        for first in range(0, len(kept), size):
            yield self.batch(kept[first : first + size])

    def _documents_at_once(self) -> int:
        store = self.question.store
        pairs = zip(store.encoders, store.contents, store.index[0].tolist(), strict=True)
        positions = sum(int(encoder.max_positions(content)[i]) for encoder, content, i in pairs if i >= 0)
        return max(1, POSITIONS_AT_ONCE // max(1, positions))

    def _scores_of(self, batch: Batch, embeddings: dict[str, Tensor] | None = None) -> np.ndarray:
        self.forward_passes += 1
        hidden, read = self.network.encode(batch, embeddings), self.read(batch)
        return self.outcomes_of(self.network.read(hidden, self.question.ask, read), read).double().cpu().numpy()

    def batch(self, kept: np.ndarray) -> Batch:
        """Documents that are the row with the parts that are kept, bool [k, P]."""
        question, k = self.question, len(kept)
        store, kept = question.store, kept & self._there
        roles = np.where(store.index[0] >= 0, int(Role.GIVEN), int(Role.ABSENT))[None].repeat(k, 0)
        roles[:, -1] = Role.ASKED
        index, contents = store.index.repeat(k, 0), list(store.contents)
        for each in question.columns:
            c, own = _place(store, each), kept[:, each.own]
            if not each.asked and not each.stays:
                roles[~own.any(1), c] = Role.ABSENT
            encoder = store.encoders[c]
            if isinstance(encoder, Divided) and encoder.by_value and not own.all():
                taken = contents[c].take(store.index[0, c].repeat(k))
                contents[c], index[:, c] = encoder.without(taken, ~own, each.asked), np.arange(k)
        wide = self._wide(kept, roles)
        rows = Store(store.names, store.encoders, contents, index, wide=wide)
        group = RoleAssignment(np.arange(k), roles, np.full(k, question.key, dtype=np.uint64))
        batch = assemble({_TAG: group}, rows, given_causal=self.network.given_causal, augment=False)
        for each in question.columns:
            _leave_out(batch, store, each, kept[roles[:, _place(store, each)] != Role.ABSENT])
        return batch.to(self._device)

    def _wide(self, kept: np.ndarray, roles: np.ndarray) -> dict[str, RowOutputs]:
        """What the wide read-out says of each document [k, outputs], where there is one."""
        question, store = self.question, self.question.store
        if self.network.wide_of(question.ask) is None:
            return {}
        contents, index = [], np.full((len(kept), len(store.names)), -1, dtype=np.int64)
        for c, (encoder, content) in enumerate(zip(store.encoders, store.contents, strict=True)):
            each = next((p for p in question.columns if p.column == store.names[c] and not p.asked), None)
            if each is None or c == len(store.names) - 1:
                contents.append(content)
                continue
            there = np.flatnonzero(roles[:, c] != Role.ABSENT)
            left_out = ~kept[there][:, each.own]
            taken = content.take(store.index[0, c].repeat(len(there)))
            changed = isinstance(encoder, Divided) and left_out.any()
            contents.append(encoder.without(taken, left_out, False) if changed else taken)  # type: ignore[attr-defined]
            index[there, c] = np.arange(len(there))
        rows = Store(store.names, store.encoders, contents, index)
        add_wide(self.network, rows, question.given, question.ask)
        return rows.wide

    # -- reads -------------------------------------------------------------------------------------------------------
    def read(self, batch: Batch) -> Read:
        """Where what is explained is read, in all documents: [k * r]."""
        read, k = batch.reads[_TAG][self.question.ask], len(batch.row)
        every = torch.arange(len(read.flat_r), device=read.flat_r.device).view(k, -1)[:, self.question.reads].flatten()
        return Read({name: t[every] for name, t in read.targets.items()}, read.flat_r[every], read.doc_r[every])

    def outcomes_of(self, h: Tensor, read: Read) -> Tensor:
        """Read-outs [k * r, D'] to outcomes [k, K]: what is likelier, or larger, is more."""
        k = int(read.doc_r.max()) + 1
        if isinstance(self.module, Expected):
            centre, scale, _ = self.module.units
            return self.module.expected(h, read.targets).double().view(k, -1).mean(1, keepdim=True) * scale + centre
        loss = self.module.loss(h, read.targets)
        assert loss.each is not None, f"the loss of {self.question.ask} does not tell each read's own"
        each = loss.each.view(k, -1)
        return -each if self.question.apart else -(each * self._shares(read, k)).sum(1, keepdim=True)

    def _shares(self, read: Read, k: int) -> Tensor:
        """How much each read counts, [k, r]: as it weighs, 1 together."""
        w = read.targets["w"].view(k, -1)
        w = torch.where(w.sum(1, keepdim=True) > 0, w, torch.ones_like(w))
        return w / w.sum(1, keepdim=True)

    # -- gradients ---------------------------------------------------------------------------------------------------
    def ways(self, of_values: bool = True) -> list[Way]:
        """Of all columns that gradients reach, from so many rows that say nothing as there are different ones."""
        batch, store = self.batch(np.ones((ROWS_OF_NOTHING, self.parts), dtype=bool)), self.question.store
        reached = [each for each in self.question.columns if (each.parts.position >= 0).all()]
        encoders = [store.encoders[_place(store, each)] for each in reached]
        pairs = zip(encoders, reached, strict=True)
        return distinct([way_of(self.network, encoder, batch, each, of_values) for encoder, each in pairs])

    def along(self, ways: Sequence[Way], shares: np.ndarray) -> np.ndarray:
        """Outcomes float64 [B, s, K] of rows that are, as a share [B, s] of the way, between a row that says nothing
        (0) and the row (1)."""
        with torch.inference_mode(), _evaluating(self.network):
            found = [self._scores_of(*self._on_the_way(ways, *each)[:2]) for each in self._at_once(shares)]
        return np.concatenate(found).reshape(*shares.shape, -1)

    def slopes(self, ways: Sequence[Way], shares: np.ndarray, of_input: bool = False, apart: bool = False) -> Slopes:
        """Gradients with respect to what moves, at shares [B, s] of the way; times the way or, with `of_input`, what
        moves itself."""
        with torch.inference_mode(False), torch.enable_grad(), _evaluating(self.network):
            found = [self._slopes(ways, *each, of_input, apart) for each in self._at_once(shares)]
        scores, by_part = (np.concatenate(each) for each in zip(*found, strict=True))
        return Slopes(*(each.reshape(*shares.shape, *each.shape[1:]) for each in (scores, by_part)))

    def _slopes(
        self, ways: Sequence[Way], start: np.ndarray, share: np.ndarray, of_input: bool, apart: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of documents [k] that begin at rows `start`: outcomes [k, K], and of every part [k, K, P]."""
        batch, embeddings, leaves = self._on_the_way(ways, start, share)
        self.forward_passes += 1
        hidden, read = self.network.encode(batch, embeddings), self.read(batch)
        h = self.network.read(hidden, self.question.ask, read)
        scores = self.outcomes_of(h, read).detach().double().cpu().numpy()
        by_part = np.zeros((len(share), self.outcomes if apart else 1, self.parts))
        sums = list(self._sums(h, read, len(share), apart))
        for j, total in enumerate(sums if leaves else []):
            self.backward_passes += 1
            kept = j < len(sums) - 1
            gradients = torch.autograd.grad(total, [x for *_, x in leaves], retain_graph=kept, allow_unused=True)
            for (way, name, leaf), gradient in zip(leaves, gradients, strict=True):
                if gradient is not None:
                    weighed = gradient * (leaf.detach() if of_input else way.moving[name].way(start))
                    by_part[:, j, way.parts.own] += way.by_part(name, weighed)
        return scores, by_part

    def _at_once(self, shares: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Shares [B, s] as documents, as many as are asked about at once: at which row each begins, and its share."""
        start, size = np.repeat(np.arange(len(shares)), shares.shape[1]), self._documents_at_once()
        for first in range(0, shares.size, size):
            yield start[first : first + size], shares.reshape(-1)[first : first + size]

    def _on_the_way(
        self, ways: Sequence[Way], start: np.ndarray, share: np.ndarray
    ) -> tuple[Batch, dict[str, Tensor], list[tuple[Way, str, Tensor]]]:
        """Documents on the way: their batch, the embeddings of columns of which these move, and all that moves."""
        batch = self.batch(np.ones((len(share), self.parts), dtype=bool))
        embeddings, leaves = {}, []
        for way in ways:
            column, own = way.parts.column, way.leaves(start, share)
            leaves += [(way, name, leaf) for name, leaf in own.items()]
            flat = {name: leaf.flatten(0, 1) for name, leaf in own.items()}
            if EMBEDDING in flat:
                embeddings[column] = flat[EMBEDDING]
            else:
                embed = batch.embeds[column]
                batch.embeds[column] = replace(embed, content={**embed.content, **flat})
        return batch, embeddings, leaves

    def _sums(self, h: Tensor, read: Read, k: int, apart: bool) -> Iterator[Tensor]:
        """Sums over documents: of each outcome, or of all together."""
        if isinstance(self.module, Expected):
            yield self.module.expected(h, read.targets).sum() * self.module.units[1]
            return
        r = len(read.flat_r) // k
        if not self.question.apart:
            weights = [self._shares(read, k)]
        elif apart:
            weights = [torch.eye(r, device=h.device)[j].expand(k, r) for j in range(r)]
        else:
            weights = [torch.ones(k, r, device=h.device)]
        for w in weights:
            yield -self.module.loss(h, {**read.targets, "w": w.reshape(-1).to(h.dtype)}).sum

    def unseen_by_gradients(self) -> np.ndarray | None:
        """How much the outcomes change when the wide read-out alone knows nothing of the row, float64 [K]: no gradient
        passes through its trees. None where there is no wide read-out."""
        if self.network.wide_of(self.question.ask) is None:
            return None
        kept = np.ones((2, self.parts), dtype=bool)
        with torch.inference_mode(), _evaluating(self.network):
            batch = self.batch(kept)
            nothing = self.batch(~kept[:1]).wide[self.question.ask]
            batch.wide[self.question.ask] = torch.cat([batch.wide[self.question.ask][:1], nothing])
            whole, without = self._scores_of(batch)
        return whole - without


class _evaluating:
    """Inside, a model is in eval mode."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.network = network

    def __enter__(self) -> None:
        self.training = self.network.training
        self.network.eval()

    def __exit__(self, *error: object) -> None:
        self.network.train(self.training)


def _place(store: Store, each: ColumnParts) -> int:
    """Where a column stands in the store; the asked one is the last."""
    return len(store.names) - 1 if each.asked else store.names.index(each.column)


def _arrays(embed: Embed) -> dict[str, np.ndarray]:
    return {name: tensor.cpu().numpy() for name, tensor in embed.content.items()}


def _leave_out(batch: Batch, store: Store, each: ColumnParts, kept: np.ndarray) -> None:
    """Hides parts of one column, bool [k', P] of the documents that hold it, and lets nobody see their positions; those
    that are read stay where they are."""
    encoder, embed = store.encoders[_place(store, each)], batch.embeds.get(each.column)
    left_out = ~kept[:, each.own]
    if embed is None or not left_out.any() or not isinstance(encoder, Divided) or encoder.by_value:
        return
    hidden = np.zeros((len(kept), len(embed.flat_n) // len(kept)), dtype=bool)
    hidden[:, each.parts.position] = left_out
    batch.embeds[each.column] = Embed(
        tensors_of(encoder.hide(_arrays(embed), hidden.reshape(-1))), embed.role_n, embed.flat_n, embed.facts
    )
    if not each.asked and not each.stays:
        layout = batch.layout
        doc = layout.doc_BT.flatten().clone()
        doc[embed.flat_n[torch.from_numpy(hidden.reshape(-1))]] = -1
        batch.layout = Layout(doc.view_as(layout.doc_BT), layout.branch_BT, layout.order_BT, layout.pos_BT)
