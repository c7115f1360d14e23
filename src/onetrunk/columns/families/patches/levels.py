"""Noise levels of patches, and what is to be predicted at them."""

from __future__ import annotations

import numpy as np

from onetrunk.core import rng

_MIN_DISTANCE = 0.2  # 1 - t is clamped here: the weight of nearly clean patches stays bounded
_LOW = 1.5  # this power of a uniform number is more often low, where most of a drawing is decided


def noisy(x: np.ndarray, noise: np.ndarray, level: np.ndarray) -> np.ndarray:
    """x, noise [m, ...] and level broadcastable to them."""
    return level * x + (1 - level) * noise


def velocity_weight(level: np.ndarray) -> np.ndarray:
    """How much a patch at this level counts; 1 for a masked one."""
    return 1 / np.maximum(1 - level, _MIN_DISTANCE) ** 2


def asked_level(keys: np.ndarray) -> np.ndarray:
    """The one level at which all of an asked value stands, float32 [m]."""
    return rng.uniform(rng.mix(keys, "level")) ** _LOW


def denoising_targets(clean: np.ndarray, level: np.ndarray) -> dict[str, np.ndarray]:
    """What the read-out is to predict of r patches: clean [r, numbers of a patch], level [r]."""
    return {
        "patch": clean,
        "velocity": velocity_weight(level).astype(np.float32),
        "w": np.ones(len(clean), dtype=np.float32),
    }
