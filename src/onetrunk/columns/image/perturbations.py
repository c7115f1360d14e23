"""Pictures as poor cameras and small files leave them: blurred, noisy, compressed."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from onetrunk.core import rng
from onetrunk.core.errors import BadValueError
from onetrunk.core.perturbation import Draw, Perturbation
from onetrunk.media.image import open_image


def image_perturbations() -> tuple[Perturbation, ...]:
    return (
        Perturbation("blur", "Gaussian blur, of such a standard deviation", "of the shorter side", (0.01, 0.03, 0.06),
                     _of_pictures(_blurred)),
        Perturbation("noise", "Gaussian noise in every pixel, of such a standard deviation", "of full scale",
                     (0.05, 0.1, 0.2), _of_pictures(_noisy)),
        Perturbation("JPEG", "saved as JPEG", "JPEG quality", (50, 20, 5), _of_pictures(_compressed)),
    )  # fmt: skip


def _blurred(image: Image.Image, severity: float, key: int) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(severity * min(image.size)))


def _noisy(image: Image.Image, severity: float, key: int) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float32)
    noise = rng.normal(np.array([key], dtype=np.uint64), *pixels.shape)[0]
    return Image.fromarray((pixels + 255 * severity * noise).round().clip(0, 255).astype(np.uint8))


def _compressed(image: Image.Image, severity: float, key: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=round(severity))
    return open_image(file.getvalue())


def _of_pictures(change: Callable[[Image.Image, float, int], Image.Image]) -> Callable[[Any, float, Draw], Any]:
    def changed(value: Any, severity: float, draw: Draw) -> Any:
        try:
            image = open_image(value)
        except BadValueError:  # whoever reads it says so
            return value
        return change(image, severity, draw.key)

    return changed
