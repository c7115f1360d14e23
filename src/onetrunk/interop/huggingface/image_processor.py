"""How a checkpoint prepares its pictures, from its own files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from onetrunk.core.errors import ModelFileError
from onetrunk.interop.huggingface.checkpoint import Checkpoint
from onetrunk.interop.huggingface.unsupported import OF_PICTURES, refuse_unknown
from onetrunk.storage.strict_json import read_json

RESAMPLE = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by Pillow's number
_BYTES, _LARGEST = 1 / 255, 1e6
_ONLY = {"do_resize": True, "do_convert_rgb": True, "do_pad": False, "do_flip_channel_order": False,
         "do_thumbnail": False, "do_align_long_axis": False, "do_reduce_labels": False}  # fmt: skip
_USUALLY = {"do_resize": True, "do_center_crop": False, "do_rescale": True, "do_normalize": True}
_READ = {"size", "crop_size", "do_center_crop", "resample", "do_rescale", "rescale_factor", "do_normalize",
         "image_mean", "image_std", *_ONLY}  # fmt: skip


def read_preparation(folder: Path, usual: Mapping[str, Any]) -> dict[str, Any]:
    """What the folder says of its pictures, or its family's usual way. Raises ModelFileError for what it says and
    nothing here honours."""
    own, both = folder / "preprocessor_config.json", folder / "processor_config.json"
    config: dict[str, Any] = {}
    where = own
    if both.exists() and isinstance(nested := read_json(both).get("image_processor"), dict):
        config, where = nested, both  # the newer file
    elif own.exists():
        config = read_json(own)
    for key, value in config.items():
        if key in _ONLY and value not in (None, _ONLY[key]):
            raise ModelFileError(f"{where} says {key}: {value!r}; only {_ONLY[key]!r} can be read.")
        if value is None and {**_USUALLY, **usual}.get(key) is True:
            raise ModelFileError(
                f"{where} says {key}: null, which one class of transformers reads as false, another as its own usual "
                "way. Write true or false."
            )
    refuse_unknown(where, config, _READ | OF_PICTURES, "pictures do")
    _check_numbers(where, config)
    return {**usual, **{key: value for key, value in config.items() if value is not None}}


def _check_numbers(where: Path, config: Mapping[str, Any]) -> None:
    """Raises ModelFileError for a mean, a scale or a size that is none."""
    for key in ("image_mean", "image_std", "rescale_factor"):
        value = config.get(key)
        each = value if isinstance(value, list) and key != "rescale_factor" else [value]
        good = all(
            isinstance(n, int | float) and not isinstance(n, bool) and abs(n) <= _LARGEST and (n or key == "image_mean")
            for n in each
        )
        if value is not None and not (each and good):
            raise ModelFileError(f"{where} says {key}: {str(value)[:60]!r}; expected numbers.")
    for key in ("size", "crop_size"):
        value = config.get(key)
        if value is not None and not isinstance(value, int | dict):
            raise ModelFileError(f"{where} says {key}: {str(value)[:60]!r}; expected pixels.")


def picture_knowledge(checkpoint: Checkpoint, p: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """An image encoder's options and knowledge."""
    folder, s = checkpoint.folder, checkpoint.settings
    trained, patch, channels = _side(s["image_size"]), _side(s["patch_size"]), s["num_channels"]
    if not trained or not patch or channels not in (1, 3) or trained % patch:
        raise ModelFileError(
            f"{folder}: pictures of {s['image_size']!r} pixels, {channels!r} channels and patches of "
            f"{s['patch_size']!r} cannot be read; only square ones of 1 or 3 channels, whole patches."
        )
    wanted = p["size"] if isinstance(p["size"], dict) else {"height": p["size"], "width": p["size"]}
    keep = "shortest_edge" in wanted
    side = wanted["shortest_edge"] if keep else wanted.get("height")
    cut = p.get("crop_size", trained) if p.get("do_center_crop") else None
    square = not isinstance(cut, dict) or cut.get("width") == cut.get("height")
    crop = (cut.get("height") if isinstance(cut, dict) else cut) if cut is not None else None
    size = crop if crop is not None else None if keep else side
    fits = size == trained or (checkpoint.family.resizes and isinstance(size, int) and size % patch == 0)
    if (
        not fits
        or not square
        or size is None
        or not isinstance(side, int)
        or side < size
        or (not keep and wanted.get("width") != side)
    ):
        raise ModelFileError(
            f"{folder}: its files make pictures of size {wanted} cut to {cut!r}; its model sees {trained} × {trained} "
            "pixels."
        )
    for key in ("image_mean", "image_std"):
        if isinstance(p.get(key), list) and len(p[key]) not in (1, channels):
            raise ModelFileError(
                f"{folder}: its pictures have {key} of {len(p[key])} channels; its model sees {channels}."
            )
    resample = p.get("resample", 2)
    if not isinstance(resample, int) or resample not in range(len(RESAMPLE)):
        raise ModelFileError(f"{folder}: its pictures are resampled by {resample!r}, which is not known.")
    like = {"side": side, "keep": keep, "resample": RESAMPLE[resample], "tokens": len(checkpoint.family.first),
            "clean_is_none": True}  # fmt: skip
    options = {"size": size, "patch": patch, "stem": 0}
    return options, {"size": size, "patch": patch, "channels": channels, "like": like}


def _side(size: Any) -> int | None:
    """Of a square, however it is said."""
    if isinstance(size, list | tuple) and len(set(size)) == 1:
        size = size[0]
    return size if isinstance(size, int) else None


def take_up_scale(module: Any, p: Mapping[str, Any]) -> None:
    """Our pixels x are from -1 to 1, theirs, of bytes b, are (factor * b - mean) / std: the patch embedding takes up
    the difference."""
    channels = module.encoder.channels
    plain = not p.get("do_normalize", True)
    mean = torch.tensor([0.0] * channels if plain else p["image_mean"], dtype=torch.float32).reshape(-1)
    std = torch.tensor([1.0] * channels if plain else p["image_std"], dtype=torch.float32).reshape(-1)
    half = 127.5 * (p.get("rescale_factor", _BYTES) if p.get("do_rescale", True) else 1.0)
    linear = module.to_width
    with torch.no_grad():
        linear.bias += (linear.weight * ((half - mean) / std)[:, None, None]).sum((1, 2, 3))
        linear.weight *= (half / std)[:, None, None]
