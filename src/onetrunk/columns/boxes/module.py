"""Boxes in the network: a position for each that is given; asked, a dense read-out on their picture's positions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onetrunk.columns.boxes.cells import cell_centres
from onetrunk.columns.boxes.encoder import IGNORED, MAX_CANDIDATES, BoxesEncoder
from onetrunk.core.answer import Answer
from onetrunk.core.batch import Loss, state_of
from onetrunk.core.content import ReadPositions
from onetrunk.core.decoding import AnswerContext, Query, State
from onetrunk.core.encoder import Growth
from onetrunk.core.module import ColumnModule, grown
from onetrunk.nn.heads.dense import Dense, boxes_at, overlaps, quality_focal, suppress
from onetrunk.nn.init import normal

_FREQUENCIES = 6  # of a given box's corners


class BoxesModule(ColumnModule[BoxesEncoder]):
    read_out = ("dense", "label_head", "box_head")

    def __init__(self, encoder: BoxesEncoder, width: int) -> None:
        super().__init__(encoder, width)
        count = len(encoder.classes)
        self.dense = Dense(width, count, self.options.cells)
        self.table = nn.Parameter(normal(count, width, std=width**-0.5))
        self.unknown = nn.Parameter(torch.zeros(width))
        self.mask = nn.Parameter(normal(2, width, std=width**-0.5))  # instead of a label, of corners
        self.box_embedding = nn.Linear(8 * _FREQUENCIES, width)
        self.label_head = nn.Parameter(torch.zeros(count, width))
        self.box_head = nn.Linear(width, 4)

    def grow(self, growth: Growth) -> None:
        rows = growth.tables["classes"]
        if rows:
            self.dense.grow(rows)
            self.table, self.label_head = grown(self.table, rows), grown(self.label_head, rows)

    def embed(self, content: dict[str, Tensor]) -> Tensor:
        ids, masked = content["id"], content["masked"]
        label = torch.where((ids < 0)[:, None], self.unknown, F.embedding(ids.clamp(min=0), self.table))
        octaves = torch.pi * 2.0 ** torch.arange(_FREQUENCIES, device=ids.device)
        angle = (content["box"][..., None] * octaves / 2).flatten(1)
        corners = self.box_embedding(torch.cat([angle.sin(), angle.cos()], dim=1))
        label = torch.where(masked[:, :1], self.mask[0], label)
        return label + torch.where(masked[:, 1:], self.mask[1], corners)

    # -- positions to answers ----------------------------------------------------------------------------------------
    def loss(self, h: Tensor, targets: dict[str, Tensor]) -> Loss:
        """Of a read, the sum over its cells: quality focal of the classes, and 1 - generalised IoU of the boxes. Of
        what is masked in place, cross entropy and the same of its box."""
        w = targets["w"]
        cells, in_place = (reads.nonzero()[:, 0] for reads in (~targets["in_place"], targets["in_place"]))
        each = h.new_zeros(len(h), dtype=torch.float32)
        for reads, losses in ((cells, self._dense_losses), (in_place, self._losses_in_place)):
            own = {name: target[reads] for name, target in targets.items()}
            each = each.index_put((reads,), losses(h[reads], own))
        return Loss((each * w).sum(), w.sum(), each.detach())

    def _dense_losses(self, h: Tensor, targets: dict[str, Tensor]) -> Tensor:
        ids, typical = targets["id"], self.encoder.typical
        logits, raw = self.dense(h)
        guess = boxes_at(raw, targets["centre"], typical)
        iou, generalised = overlaps(guess, targets["box"].nan_to_num())
        classes = torch.arange(logits.shape[-1], device=h.device)
        quality = (ids[..., None] == classes) * iou.detach()[..., None]
        of_class = quality_focal(logits, quality).sum(-1) * (ids != IGNORED)
        return (of_class + self.options.size_weight * (1 - generalised) * targets["boxed"]).sum(-1)

    def _losses_in_place(self, h: Tensor, targets: dict[str, Tensor]) -> Tensor:
        label = targets["id"][:, 0]
        logits = F.linear(h, self.label_head).float()
        of_class = F.cross_entropy(logits, label.clamp(min=0), reduction="none") * (label >= 0)
        middle = torch.zeros(len(label), 2, device=h.device)
        guess = boxes_at(self.box_head(h).float(), middle, self.encoder.typical)
        apart = 1 - overlaps(guess, targets["box"][:, 0])[1]
        return of_class + self.options.size_weight * apart * targets["boxed"][:, 0]

    def start(self, context: AnswerContext) -> State:
        device = context.device
        pictures = context.read_positions or ReadPositions(torch.zeros(context.n, dtype=torch.int64).numpy())
        self.encoder.grid_side(pictures)
        nowhere = torch.zeros(context.n, 2, 3, device=device)  # where every picture is missing
        return {**context.state(), "frame": nowhere, **state_of(pictures, device)}

    def query(self, state: State) -> Query:
        raise NotImplementedError("boxes are read on the positions of their picture: nothing of their own is embedded")

    def step(self, state: State, h: Tensor, unconditional: Tensor | None) -> State:
        """Of every cell a `box` in pixels of the original [n, cells, (x, y, width, height)] and each class's `score`
        [n, cells, C], 0 where there is no picture."""
        n, P, _ = h.shape
        logits, raw = self.dense(h.flatten(0, 1))
        k = self.options.cells
        centre = torch.from_numpy(cell_centres(round(P**0.5), k)).to(h.device)
        boxes = boxes_at(raw.view(n, P, k**2, 4), centre, self.encoder.typical).clamp(-1, 1).flatten(1, 2)
        corners = torch.stack([boxes[..., [0, 0, 2, 2]], boxes[..., [1, 3, 1, 3]]], dim=-1)  # [n, cells, 4, xy]
        frame = state["frame"][:, None, None]
        pixels = (frame[..., :2] * corners[..., None, :]).sum(-1) + frame[..., 2]
        low = pixels.amin(2)
        box = torch.cat([low, pixels.amax(2) - low], dim=-1)
        score = logits.sigmoid().reshape(n, -1, logits.shape[-1]) * (state["lens"] > 0)[:, None, None]
        return {**state, "done": ~state["done"], "box": box, "score": score}

    def finish(self, state: State) -> list[Answer]:
        """The best of all cells and classes, without what overlaps a better one."""
        scores, C = state["score"].flatten(1), state["score"].shape[2]
        score, best = scores.topk(min(MAX_CANDIDATES, scores.shape[1]), dim=1)
        ids, box = best % C, state["box"].gather(1, (best // C)[..., None].expand(-1, -1, 4))
        corners = torch.cat([box[..., :2], box[..., :2] + box[..., 2:]], dim=-1)
        keep = suppress(corners, ids, self.options.overlap) & (score >= max(self.options.min_score, 1e-6))
        keep &= keep.cumsum(1) <= self.options.max_boxes
        return [
            Answer(
                [
                    {"label": self.encoder.classes[i], "box": [round(x, 2) for x in b], "score": round(s, 4)}
                    for b, i, s in zip(*(array[k].tolist() for array in arrays), strict=True)
                ]
            )
            for *arrays, k in zip(box.cpu(), ids.cpu(), score.cpu(), keep.cpu(), strict=True)
        ]
