"""A session answers any number of requests at once, whatever column each asks for (continuous batching).

`add` a request, `step` as often as you like, and take the parts that each step finishes. A request's rows enter as soon
as the cache has slots for them, take their steps together with everybody else's, and leave when they are done; so a
step costs what the rows cost that are still in it. What is given is read once, into the cache. Rows whose answer takes
one step need no slot: they are read and answered in one call (`inference.at_once`). An answer is a function of its own
row, sampling and key: it does not depend on who else is there.

    session = Session(model, slots=64, positions=1024)
    number = session.add(Request(store, ask="label", given=["review"]))
    while session.busy:
        for part in session.step():
            print(part.request, part.row, part.answer.value)
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from onetrunk.core import rng
from onetrunk.core.answer import Answer
from onetrunk.core.content import Role
from onetrunk.core.decoding import AnswerContext, State
from onetrunk.core.encoder import reads_on
from onetrunk.core.errors import UsageError
from onetrunk.core.module import Constrained, Growing, Guided, Searched
from onetrunk.engine.memory import keep_freed_memory
from onetrunk.inference.at_once import Question, answer_at_once, is_at_once
from onetrunk.inference.given import Given, GivenRows, join_rows, read_given
from onetrunk.inference.grammars import Held, matcher_for
from onetrunk.inference.prefixes import Prefixes, PrefixStore
from onetrunk.inference.request import Entering, Request, Waiting, take_in_order
from onetrunk.inference.sampler import Kind, Rows, join
from onetrunk.model import FoundationModel
from onetrunk.nn.fixed import product_dtype

_BESIDE = 32  # positions that a row counts beside what it is told: so that very many short rows do not enter at once


@lru_cache(1024)
def _key_of(seed: int, ask: str) -> int:
    return rng.key(seed, "answer", ask)


@dataclass(frozen=True)
class Part:
    """One finished answer: of which request, and of which of its store's rows."""

    request: int
    row: int
    answer: Answer


@dataclass
class Work:
    """What a session has done so far."""

    steps: int = 0
    rows: int = 0  # rows that went through the trunk in steps of decoding, twins and beams each by themselves
    positions: int = 0  # positions that did, padding included
    given_rows: int = 0  # rows whose given columns were read


@dataclass
class _Call:
    """New positions of some rows for the trunk."""

    rows: Rows
    x: Tensor  # [N, t, D]
    pos: Tensor
    valid: Tensor
    slots: Tensor  # [N]: the rows' own and, where guided, their twins'
    causal: bool
    keep: bool


class Session:
    """See the head of this file. `step` computes; `add` and `remove` only take note. One thread at a time."""

    @torch.inference_mode()
    def __init__(
        self,
        model: FoundationModel,
        *,
        slots: int = 64,
        positions: int = 1024,
        positions_at_once: int = 16_384,
        enter_from: int = 1,
        prefix_store: PrefixStore | None = None,
    ) -> None:
        """
        Args:
            model: answers as it is now; it is not changed.
            slots: answers that are made at once; a guided one takes two, one with beams as many.
            positions: that a slot holds: what is given, the prompt and the answer.
            positions_at_once: that go through the trunk in one call, about.
            enter_from: rows enter once so many slots are free (or nothing is being made): more of them at once cost
                less each, fewer wait less.
            prefix_store: keeps beginnings of prompts, so that prompts that begin alike are read once.
        """
        weight = next(model.parameters())
        device = weight.device
        dtype = weight.dtype if device.type == "cpu" else product_dtype(model.trunk)  # as attention gets keys
        if torch.is_autocast_enabled(device.type):
            dtype = torch.get_autocast_dtype(device.type)
        if device.type == "cpu":
            keep_freed_memory(large_pages=False)  # which a short run waits for longer than it gains
        self.model, self.device = model, device
        self.slots = slots
        self.positions_at_once, self.enter_from = positions_at_once, enter_from
        self.cache = model.start_slots(slots, positions, dtype)
        self.work = Work()
        self._held, self._prefixes = Held(), Prefixes(prefix_store, self.cache)
        self._free = list(range(slots))  # a heap: low slots first, so that those in use are neighbours
        self._numbers = itertools.count()
        self._waiting: list[Waiting] = []
        self._at_once: list[Waiting] = []  # whose rows take no slot and no second step
        self._rows: dict[Kind, Rows] = {}

    # -- what a caller sees ------------------------------------------------------------------------------------------
    @property
    def busy(self) -> bool:
        """Is anything left to do?"""
        return bool(self._waiting or self._at_once or self._rows)

    @property
    def free_slots(self) -> int:
        return len(self._free)

    def add(self, request: Request) -> int:
        """Takes a request and returns its number.

        Raises UsageError for what the column cannot answer, and for a row that no slot could hold.
        """
        module, sampling = self.model.module(request.ask), request.sampling
        rows = np.arange(len(request.store.index)) if request.rows is None else request.rows
        given_rows = GivenRows(request.store, rows, [name for name in request.given if name != request.ask])
        prompted = np.zeros(len(rows), dtype=np.int64)
        given = given_rows.lengths_by_column()
        lengths, at_once = given.sum(1), is_at_once(self.model, request.ask)
        if request.prompt is not None:
            prompt = request.prompt.take(rows)
            prompted = prompt.lens if prompt.ragged else module.encoder.max_positions(prompt)
            lengths = lengths + module.encoder.max_positions(prompt)
        keys = rng.mix(_key_of(sampling.seed, request.ask), rows + request.first_row)
        guided = isinstance(module, Guided) and sampling.guidance != 1
        waiting = Waiting(
            next(self._numbers),
            request,
            given_rows,
            keys,
            lengths,
            guided,
            sampling.beams if isinstance(module, Searched) else 1,
        )
        self._check(waiting, given, module.answer_positions(prompted, sampling))
        if sampling.grammar is not None:
            if not isinstance(module, Constrained):
                raise UsageError(f"{request.ask!r} is not written token by token, so it can follow no grammar.")
            matcher_for(module.encoder, sampling.grammar)  # refuses what nothing can follow
        if len(rows):
            # What cannot be begun is refused now, not in the middle of others' steps.
            if not at_once and reads_on(module.encoder) is None:
                module.start(AnswerContext.alike(keys[:1].repeat(waiting.beams), sampling, self.device))
            (self._at_once if at_once else self._waiting).append(waiting)
        return waiting.number

    def remove(self, request: int) -> bool:
        """Forgets a request: what of it waits and what is being made, whose slots are free at once. False where nothing
        of it was left."""
        before = len(self._waiting) + len(self._at_once)
        self._waiting = [each for each in self._waiting if each.number != request]
        self._at_once = [each for each in self._at_once if each.number != request]
        there = len(self._waiting) + len(self._at_once) < before
        for kind, rows in list(self._rows.items()):
            gone = rows.own["request"] == request
            if bool(gone.any()):
                there = True
                del self._rows[kind]
                self._leave(rows.select(gone.nonzero()[:, 0]))
                self._keep(rows.select((~gone).nonzero()[:, 0]))
        return there

    @torch.inference_mode()
    def unfinished(self, request: int) -> dict[int, Answer]:
        """What has been made so far of a request's answers, by row: of columns whose answers grow piece by piece
        (`Growing`), and are not searched for with beams. Rows that wait have none."""
        out: dict[int, Answer] = {}
        for kind, rows in self._rows.items():
            module = self.model.module(kind.ask)
            if kind.beams > 1 or not isinstance(module, Growing):
                continue
            index = (rows.own["request"] == request).nonzero()[:, 0]
            if len(index):
                own = rows.select(index)
                out |= dict(zip(own.own["row"].tolist(), module.finish(own.state), strict=True))
        return out

    @torch.inference_mode()
    def step(self) -> list[Part]:
        """One step of every row that is being made, after those have entered that there is room for. Returns what is
        finished by it. If it raises (such as where memory is out), the session has forgotten every request, and takes
        new ones."""
        training, succeeded = self.model.training, False
        if training:
            self.model.eval()
        try:
            finished = self._answer_at_once() + self._enter()
            calls = [self._call(rows) for rows in self._rows.values()]
            self._rows = {}
            for call, h in zip(calls, self._run(calls), strict=True):
                finished += self._settle(call.rows, self._stepped(call.rows, h))
            self.work.steps += 1
            succeeded = True
            return finished
        finally:
            if not succeeded:
                self._waiting, self._at_once, self._rows, self._free = [], [], {}, list(range(self.slots))
                self._held.clear()
                self._prefixes.clear()
            if training:
                self.model.train()

    # -- entering ----------------------------------------------------------------------------------------------------
    def _check(self, waiting: Waiting, given: np.ndarray, answers: np.ndarray) -> None:
        """`given` int64 [rows, C] are the positions of what is given, `answers` int64 [rows] of each answer at most."""
        if waiting.slots > self.slots:
            raise UsageError(
                f"One answer of {waiting.request.ask!r} takes {waiting.slots} slots (beams, and guidance twice); this "
                f"session has {self.slots}. Ask for fewer beams, or start it with more slots."
            )
        longest, limit = int(max(given.max(initial=0), answers.max(initial=0))), self.model.trunk.max_positions
        if limit is not None and longest > limit:
            raise UsageError(
                f"A column takes {longest:,} positions; this trunk knows {limit:,}. Shorten the values or the answer "
                "(max_length)."
            )
        needs = given.sum(1) + answers
        if self.cache.positions is not None and len(needs) and int(needs.max()) > self.cache.positions:
            row = int(needs.argmax())
            raise UsageError(
                f"Row {int(waiting.given_rows.rows[row])} takes up to {int(needs[row]):,} positions, what is given and "
                f"the answer together; a slot of this session holds {self.cache.positions:,}. Shorten the values or "
                "the answer (max_length), or start the session with more positions."
            )

    def _answer_at_once(self) -> list[Part]:
        """Answers as many of the rows that take one step as go through the trunk in one call, in their order."""
        entering = take_in_order(self._at_once, self.positions_at_once)
        if not entering:
            return []
        requests = [each.waiting.request for each in entering]
        questions = [
            Question(each.given_rows, request.ask, each.keys, request.sampling)
            for each, request in zip(entering, requests, strict=True)
        ]
        answers = answer_at_once(self.model, questions)
        count = sum(map(len, answers))
        self.work.given_rows += count
        self.work.rows += count
        return [
            Part(each.waiting.number, row, answer)
            for each, own in zip(entering, answers, strict=True)
            for row, answer in zip(each.given_rows.rows.tolist(), own, strict=True)
        ]

    def _enter(self) -> list[Part]:
        """Reads what is given in as many waiting rows as fit, in their order, and begins their answers."""
        entering = self._entering()
        if not entering:
            return []
        joined = join_rows(self.model, [each.given_rows for each in entering])
        keys = np.concatenate([each.keys for each in entering])
        slots = self._take(len(keys))
        given = read_given(self.model, joined, keys, self.cache.rows(slots))
        self.work.given_rows += len(keys)
        finished, first = [], 0
        for each in entering:
            here = slice(first, first + len(each.keys))
            first = here.stop
            if reads_on(self.model.encoder(each.waiting.request.ask)) is None:
                self._begin(each, slots[here], given.pooled[here])
            else:
                finished += self._read_on(each, slots[here], given, here)
        return finished

    def _entering(self) -> list[Entering]:
        free, entering = len(self._free), []
        if self._rows and free < min(self.enter_from, self.slots):
            return []
        count, longest = 0, 0
        while self._waiting:
            first = self._waiting[0]
            costs = first.slots * (first.lengths[first.entered :][: free // first.slots] + _BESIDE)
            widest = np.maximum(np.maximum.accumulate(costs), longest) if len(costs) else costs
            fits = int((widest * (count + np.arange(1, len(costs) + 1)) <= self.positions_at_once).sum())
            fits = max(fits, int(not count and len(costs) > 0))  # what never fits enters alone
            if not fits:
                break
            entering.append(first.take(fits))
            count, longest, free = count + fits, int(widest[fits - 1]), free - fits * first.slots
            if first.entered < len(first.keys):
                break
            del self._waiting[0]
        return entering

    def _take(self, count: int) -> Tensor:
        """Empty slots, int64 [count]."""
        slots = torch.tensor([heapq.heappop(self._free) for _ in range(count)], dtype=torch.int64, device=self.device)
        self.cache.clear(slots)
        return slots

    def _begin(self, entering: Entering, slots: Tensor, pooled: Tensor) -> None:
        """The first state of rows that take steps of the trunk."""
        waiting, given_rows, request = entering.waiting, entering.given_rows, entering.waiting.request
        module, beams = self.model.module(request.ask), entering.waiting.beams
        whose = np.arange(len(given_rows.rows)).repeat(beams)
        if beams > 1:
            others = self._take(len(slots) * (beams - 1))
            self.cache.copy(slots.repeat_interleave(beams - 1), others)
            slots = torch.cat([slots[:, None], others.view(len(slots), -1)], dim=1).flatten()
        prompt = None if request.prompt is None else request.prompt.take(given_rows.rows[whose])
        sampling = [request.sampling] * len(whose)
        state = module.start(AnswerContext(entering.keys[whose], sampling, self.device, prompt))
        own = {**self._whose(entering, whose), "slot": slots}
        if waiting.guided:
            own["twin"] = self._take(len(slots))
        if module.pooled:
            own["pooled"] = pooled[torch.from_numpy(whose).to(self.device)]
        if self.model.wide_of(request.ask) is not None:  # read out with the pooled states, and after them
            wide = torch.from_numpy(request.store.wide[request.ask][given_rows.rows[whose]]).to(pooled)
            own["pooled"] = torch.cat([own["pooled"], wide], dim=1)
        rows = Rows(Kind(request.ask, waiting.guided, beams, 0), state, own)
        self._held.begin(module, rows, request.sampling.grammar)
        self._keep(Rows(rows.kind, self._prefixes.begin(module, rows), own))

    def _read_on(self, entering: Entering, slots: Tensor, given: Given, here: slice) -> list[Part]:
        """Answers of a column that is read on another one's positions: nothing more is asked of the trunk."""
        request = entering.waiting.request
        module = self.model.module(request.ask)
        other = reads_on(module.encoder)
        assert other is not None, "only such columns come here"
        on, h_NTD = given.positions_of(other)
        on = on.take(here)
        sampling = [request.sampling] * len(entering.keys)
        state = module.start(AnswerContext(entering.keys, sampling, self.device, read_positions=on))
        while not bool(state["done"].all()):
            state = self._read(request.ask, state, h_NTD[here], None)
        own = {**self._whose(entering, np.arange(len(entering.keys))), "slot": slots}
        return self._finish(Rows(Kind(request.ask, False, 1, 0), state, own))

    def _whose(self, entering: Entering, index: np.ndarray) -> State:
        number = torch.full((len(index),), entering.waiting.number)
        return {"request": number, "row": torch.from_numpy(entering.given_rows.rows[index])}

    # -- stepping ----------------------------------------------------------------------------------------------------
    def _call(self, rows: Rows) -> _Call:
        """What the rows ask of the trunk."""
        module, n = self.model.module(rows.kind.ask), len(rows)
        query = module.query(rows.state)
        x = module.embed(query.content).view(n, query.t, -1) + self.model.marker(rows.kind.ask)[Role.ASKED]
        first = query.pos[:, None] if isinstance(query.pos, Tensor) else query.pos
        pos = first + torch.arange(query.t, device=self.device).expand(n, -1)
        valid = torch.ones_like(pos, dtype=torch.bool) if query.valid is None else query.valid
        if rows.kind.guided:
            x, pos, valid = x.repeat(2, 1, 1), pos.repeat(2, 1), valid.repeat(2, 1)
        return _Call(rows, x, pos, valid, rows.slots(), query.causal and query.t > 1, query.keep)

    def _run(self, calls: Sequence[_Call]) -> list[Tensor]:
        """States [N, t, D] of every call. Calls of about one length go through the trunk together."""
        together: dict[tuple[bool, int], list[int]] = {}
        for i, call in enumerate(calls):
            together.setdefault((call.causal, (call.x.shape[1] - 1).bit_length()), []).append(i)
        out: list[Tensor] = [call.x for call in calls]
        for (causal, _), chosen in together.items():
            h = self._extend([calls[i] for i in chosen], causal)
            for i, states in zip(chosen, torch.split(h, [len(calls[i].x) for i in chosen]), strict=True):
                out[i] = states[:, : calls[i].x.shape[1]]
        return out

    def _extend(self, calls: Sequence[_Call], causal: bool) -> Tensor:
        t = max(call.x.shape[1] for call in calls)
        x = torch.cat([F.pad(call.x, (0, 0, 0, t - call.x.shape[1])) for call in calls])
        pos = torch.cat([F.pad(call.pos, (0, t - call.pos.shape[1])) for call in calls])
        valid = torch.cat([F.pad(call.valid, (0, t - call.valid.shape[1])) for call in calls])
        keep = torch.cat([torch.full((len(call.x),), call.keep, device=self.device) for call in calls])
        slots = torch.cat([call.slots for call in calls])
        self.work.rows += len(x)
        self.work.positions += len(x) * t
        out = []
        for each in torch.split(torch.arange(len(x), device=self.device), max(1, self.positions_at_once // t)):
            cache = self.cache.rows(slots[each])
            h, _ = self.model.extend(x[each], pos[each], valid[each], cache, causal=causal, keep=keep[each])
            out.append(h)
        return torch.cat(out)

    def _stepped(self, rows: Rows, h: Tensor) -> State:
        unconditional = None
        if rows.kind.guided:
            h, unconditional = h.chunk(2)
        if "pooled" in rows.own:
            ask, pooled = rows.kind.ask, rows.own["pooled"]
            h = self.model.with_pooled(ask, h, pooled)
            if unconditional is not None:
                unconditional = self.model.with_pooled(ask, unconditional, torch.zeros_like(pooled))
        return self._read(rows.kind.ask, rows.state, h, unconditional)

    def _read(self, ask: str, state: State, h: Tensor, unconditional: Tensor | None) -> State:
        """Read-outs are computed in the weights' own precision, also where the trunk is not."""
        dtype = next(self.model.parameters()).dtype
        with torch.autocast(self.device.type, enabled=False):
            without = None if unconditional is None else unconditional.to(dtype)
            return self.model.module(ask).step(state, h.to(dtype), without)

    # -- leaving -----------------------------------------------------------------------------------------------------
    def _settle(self, rows: Rows, state: State) -> list[Part]:
        """Rows after a step: those that are done leave, the others are kept, as what kind they are now."""
        rows, module = Rows(rows.kind, state, rows.own), self.model.module(rows.kind.ask)
        if rows.kind.beams > 1:
            self._reorder(rows)
        self._held.advance(module, rows)
        self._prefixes.advance(module, rows)
        finished = rows.finished()
        if not bool(finished.any()):
            self._keep(rows)
            return []
        if bool(finished.all()):
            return self._finish(rows)
        self._keep(rows.select((~finished).nonzero()[:, 0]))
        return self._finish(rows.select(finished.nonzero()[:, 0]))

    def _reorder(self, rows: Rows) -> None:
        """Each beam's slot becomes that of the beam it goes on from."""
        order = rows.state["order"]
        moved = (order != torch.arange(len(order), device=order.device)).nonzero()[:, 0]
        for name in ("slot", "twin") if rows.kind.guided else ("slot",):
            self.cache.copy(rows.own[name][order[moved]], rows.own[name][moved])

    def _keep(self, rows: Rows) -> None:
        """Goes on with these rows, together with those that are of their kind."""
        for part in rows.by_phase() if len(rows) else []:
            there = self._rows.get(part.kind)
            self._rows[part.kind] = part if there is None else join([there, part])

    def _finish(self, rows: Rows) -> list[Part]:
        answers = self.model.module(rows.kind.ask).finish(rows.state)
        whose = zip(rows.own["request"].tolist(), rows.own["row"].tolist(), answers, strict=True)
        self._leave(rows)
        return [Part(*each) for each in itertools.islice(whose, 0, None, rows.kind.beams)]

    def _leave(self, rows: Rows) -> None:
        slots = rows.slots().tolist()
        self._held.leave(slots)
        self._prefixes.leave(slots)
        for slot in slots:
            heapq.heappush(self._free, slot)
