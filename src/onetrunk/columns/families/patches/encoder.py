"""Values of one size, cut in a grid of patches: which are masked, how noisy they are, what is to be predicted."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from onetrunk.columns.families.patches.levels import asked_level, denoising_targets, noisy
from onetrunk.core import rng
from onetrunk.core.content import Content, Role, Segment
from onetrunk.core.encoder import Encoder, SegmentContext, Symmetric
from onetrunk.core.parts import Arrays, Divided, Parts
from onetrunk.core.wide import Wide, WideFeatures, numbers


@dataclass(frozen=True)
class PatchGrid:
    """How a value is cut. `axes` are its axes in order, those that are cut as two: how many patches, and how much of
    one; `order` names the axes again, those that count patches first."""

    shape: tuple[int, ...]  # of a value
    axes: tuple[int, ...]
    order: tuple[int, ...]
    patch_axes: int  # how many axes count patches

    @property
    def count(self) -> int:
        """Patches of a value."""
        return prod(self.axes[i] for i in self.order[: self.patch_axes])

    @property
    def patch_size(self) -> int:
        """Numbers of a patch."""
        return prod(self.shape) // self.count

    @cached_property
    def ordered(self) -> tuple[int, ...]:
        """The axes of cut values."""
        return tuple(self.axes[i] for i in self.order)

    @cached_property
    def back(self) -> tuple[int, ...]:
        """Where each of `axes` stands in `order`."""
        return tuple(int(i) for i in np.argsort(self.order))

    def cut(self, x: np.ndarray) -> np.ndarray:
        """Values [m, *shape] to patches [m, count, patch_size]."""
        split = x.reshape(len(x), *self.axes).transpose(0, *(1 + i for i in self.order))
        return np.ascontiguousarray(split).reshape(len(x), self.count, self.patch_size)

    def join(self, patches: np.ndarray) -> np.ndarray:
        """The inverse of `cut`."""
        split = patches.reshape(len(patches), *self.ordered).transpose(0, *(1 + i for i in self.back))
        return np.ascontiguousarray(split).reshape(len(patches), *self.shape)


class PatchEncoder(Encoder, Wide, Divided):
    """A type says how its values become arrays of one shape, how they are cut and how they are augmented. `pixels`,
    uint8, are what is kept of a value; in the network they are from -1 to 1."""

    divisible = True
    shared = True

    options: Any  # among them `mask_rate`, the share of patches that are masked

    @property
    @abstractmethod
    def grid(self) -> PatchGrid: ...

    @property
    def prefix_count(self) -> int:
        """Learnt positions that stand before the patches."""
        return 0

    @abstractmethod
    def value(self, pixels: np.ndarray) -> Any:
        """uint8 pixels, as `encode` leaves them or of the grid's shape, as a value of the column is written."""

    @abstractmethod
    def augmented(self, x: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values [m, *shape], each changed in its own way; and the maps [m, 2, 3] from what is seen to the original,
        both from -1 to 1."""

    def sketch(self, pixels: np.ndarray) -> np.ndarray:
        """What simple models see of a value's pixels: numbers from 0 to 1 [k]."""
        return pixels.reshape(-1) / 255.0

    def wide_features(self, content: Content) -> WideFeatures:
        """Its sketch."""
        sketches = [self.sketch(pixels) for pixels in content.gather()["pixels"]]
        dense = np.stack(sketches) if sketches else np.zeros((0, len(self.sketch(self.blank()["pixels"]))))
        return WideFeatures(len(content), {"sketch": numbers(dense)}, dense)

    def noise(self, keys: np.ndarray) -> np.ndarray:
        """Normal numbers [m, patches, numbers of a patch], each value's of its own key."""
        return rng.normal(rng.mix(keys, "noise"), self.grid.count, self.grid.patch_size)

    def facts(self, arrays: dict[str, np.ndarray], maps: np.ndarray) -> dict[str, np.ndarray]:
        """What columns that are read on this one are told of each value (`core.content.Segment`)."""
        return {}

    def whole(self, x: np.ndarray) -> np.ndarray:
        """What is kept of values, as far as the grid needs more."""
        return x

    def max_positions(self, content: Content) -> np.ndarray:
        return np.full(len(content), self.prefix_count + self.grid.count, dtype=np.int64)

    def parts(self, content: Content, asked: bool) -> Parts:
        grid = self.grid
        if asked:
            return Parts(np.zeros(0, dtype=np.int64), [], "patch")
        shape = grid.ordered[: grid.patch_axes]
        names = ("frame", "row", "column")[-len(shape) :]
        labels = [
            ", ".join(f"{name} {i + 1}" for name, i in zip(names, where, strict=True)) for where in np.ndindex(shape)
        ]
        return Parts(self.prefix_count + np.arange(grid.count), labels, "patch", grid=shape)

    def hide(self, arrays: Arrays, hidden: np.ndarray) -> Arrays:
        """In the middle between black and white."""
        patches = self.grid.cut(arrays["pixels"])
        own = hidden.reshape(len(patches), -1)[:, self.prefix_count :]
        return {**arrays, "pixels": self.grid.join(np.where(own[..., None], np.float32(0), patches))}

    def view(self, content: Content) -> np.ndarray | None:
        pixels = self.whole(content.gather()["pixels"])[0]
        if self.grid.patch_axes < 3:
            return np.ascontiguousarray(pixels.transpose(1, 2, 0).squeeze())
        frames = pixels[:: len(pixels) // self.grid.ordered[0]]  # the first of each tube
        return np.ascontiguousarray(np.concatenate(list(frames), axis=-1).transpose(1, 2, 0).squeeze())

    def without(self, content: Content, left_out: np.ndarray, asked: bool) -> Content:
        arrays = content.gather()
        patches = self.grid.cut(self.whole(arrays["pixels"]))
        grey = self.grid.join(np.where(left_out[..., None], np.uint8(128), patches))
        return Content({**arrays, "pixels": grey[:, : arrays["pixels"].shape[1]]})

    def segment(self, content: Content, context: SegmentContext) -> Segment:
        m, grid, role = len(content), self.grid, context.role
        arrays = content.gather()
        x = self.whole(arrays["pixels"].astype(np.float32) / 127.5 - 1)
        maps = np.tile(np.eye(2, 3, dtype=np.float32), (m, 1, 1))
        if context.augment and m and role != Role.ASKED:  # a drawing should look like the data, not its distortions
            x, maps = self.augmented(x, context.keys)
        facts, lens = self.facts(arrays, maps), self.max_positions(content)
        level = np.ones((m, grid.count), dtype=np.float32)
        if role == Role.GIVEN:
            return Segment({"pixels": x, "level": level}, lens, facts=facts)
        if role == Role.ASKED:
            level *= asked_level(context.keys)[:, None]
        else:
            level -= rng.uniform(rng.mix(context.keys, "hide"), grid.count) < self.options.mask_rate
        clean = grid.cut(x)
        seen = grid.join(noisy(clean, self.noise(context.keys), level[..., None]))
        reads = np.flatnonzero(level.reshape(-1) < 1)
        targets = denoising_targets(clean.reshape(m * grid.count, grid.patch_size)[reads], level.reshape(-1)[reads])
        reads += self.prefix_count * (reads // grid.count + 1)
        return Segment({"pixels": seen, "level": level}, lens, reads=reads, targets=targets, facts=facts)


class MirroredEncoder(PatchEncoder, Symmetric):
    """Values whose pixels' last axis goes from left to right; with the option `flip` training mirrors half of them."""

    def undecided(self) -> Mapping[str, str]:
        return {"flip": "mirrored"} if self.options.flip is None else {}

    def changed(self, content: Content, change: str) -> Content:
        arrays = content.gather()
        return Content({**arrays, "pixels": np.ascontiguousarray(arrays["pixels"][..., ::-1])})

    def decide(self, change: str, allowed: bool) -> None:
        self.options = self.options.model_copy(update={change: allowed})


def moved(x: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Pictures [m, C, H, W] seen through affine maps [m, 2, 3] of places from -1 to 1 to places in the original;
    outside of it its border goes on. Only training does this, and training has torch."""
    import torch
    import torch.nn.functional as F

    grid = F.affine_grid(torch.from_numpy(maps), list(x.shape), align_corners=False)
    return F.grid_sample(torch.from_numpy(x), grid, padding_mode="border", align_corners=False).numpy()
