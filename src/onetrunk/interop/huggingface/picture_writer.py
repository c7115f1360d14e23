"""Writes a column of pictures and the trunk as a checkpoint that transformers opens, and compares what it makes of it.

What a checkpoint has no place for goes where it adds up to the same: our column's vector, that of pictures without
noise, and a bias of the patch embedding go into the positions. Its pixels are ours, from -1 to 1.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onetrunk.columns.image.encoder import ImageEncoder
from onetrunk.columns.image.module import ImageModule
from onetrunk.core.content import Role
from onetrunk.core.errors import BadValueError, MissingExtraError, UsageError
from onetrunk.data.table import Table
from onetrunk.inference.embeddings import embed_rows
from onetrunk.inference.model_folder import Model
from onetrunk.interop.huggingface.families import FAMILIES, PICTURES
from onetrunk.interop.huggingface.image_processor import RESAMPLE
from onetrunk.interop.huggingface.settings import Settings, biased
from onetrunk.interop.huggingface.trunk_writer import TrunkWriter, Written, needs, unfit
from onetrunk.interop.parity import Parity
from onetrunk.media.image import open_image
from onetrunk.nn.transformer import Transformer
from onetrunk.storage.strict_json import write_json
from onetrunk.storage.tensors import load_tensors, save_tensors

_PIXELS = 127.5  # bytes to numbers from -1 to 1
_NORMED_LATER = ("clip_vision_model", "chinese_clip_vision_model")  # they norm the first state alone, when it is pooled
# What transformers would add to a trunk, with new numbers; no state of a picture needs it.
_WITHOUT = {"siglip_vision_model": {"vision_use_head": False}, "dinov2": {"use_mask_token": False}}
_POOLED = ("vit", "deit")


def write(model: Model, column: str, folder: Path) -> None:
    """Puts config.json, model.safetensors and preprocessor_config.json in a folder. UsageError where the column or
    the trunk is not what any family holds."""
    made = as_checkpoint(model, column)
    write_json(folder / "config.json", made.config)
    write_json(folder / "preprocessor_config.json", _preparation(_pictures(model, column)))
    save_tensors(folder / "model.safetensors", made.tensors)


def as_checkpoint(model: Model, column: str) -> Written:
    """As the family that it came as, where it still fits, or the first one that does."""
    encoder, module, trunk = _pictures(model, column), model.module(column), model.network.trunk
    if not isinstance(module, ImageModule) or not isinstance(trunk, Transformer) or model.network.given_causal:
        raise UsageError(
            f"{column!r} is seen from its beginning on by a trunk of kind {trunk.config.kind!r}; pictures are written "
            "of transformers that see them whole (given: bidirectional)."
        )
    if not isinstance(module.stem, torch.nn.Identity):
        raise UsageError(
            f"{column!r} goes through convolutions first, which no family has that is written. Train it without: "
            f"columns.{column}.stem=0."
        )
    came = [stage.get("family") for stage in model.provenance.get("stages", []) if stage.get("stage") == "import"]
    reasons = []
    for kind in dict.fromkeys([*(kind for kind in came if kind in PICTURES), *PICTURES]):
        family = FAMILIES[kind]
        tokens = len(family.first)
        reason = unfit(family, trunk)
        if reason is None and family.mlp_ratio and trunk.blocks[0].mlp.up_proj.out_features % trunk.config.width:
            reason = needs("mlp_width", trunk.config.mlp_width, trunk.config.width * 4)
        if reason is None and tokens != encoder.prefix_count:
            reason = f"{column!r} has {encoder.prefix_count} tokens before its patches, a {kind} has {tokens}."
        if reason is None:
            return _Writer(kind, model, column, trunk).written()
        reasons.append(reason)
    raise UsageError(reasons[0])


def _pictures(model: Model, column: str) -> ImageEncoder:
    encoder = model.encoder(column)
    assert isinstance(encoder, ImageEncoder), "who calls it looked"
    return encoder


class _Writer(TrunkWriter):
    def __init__(self, kind: str, model: Model, column: str, trunk: Transformer) -> None:
        super().__init__(kind, model, column, Role.GIVEN, trunk)
        module: Any = model.module(column)
        self.encoder = _pictures(model, column)
        self.without_noise: Tensor = module.without_noise().detach().cpu()

    def written(self) -> Written:
        config = self._config()
        settings = Settings(config, self.family.defaults, Path("config.json"))
        prefix, out = self.family.prefixes[0], {}
        for ours, theirs in self.family.other_names.items():
            assert isinstance(theirs, str), "pictures have one name each"
            state, name = (self.trunk, ours[6:]) if ours.startswith("trunk.") else (self.module, ours)
            for kind in ("weight", "bias"):
                if f"{name}.{kind}" in state and (kind == "weight" or biased(self.family, settings, ours)):
                    out[f"{prefix}{theirs}.{kind}"] = self.norm(ours, state[f"{name}.{kind}"])
        positions, tokens = self._positions(settings), self.family.first
        places = self.family.other_names["position_embedding"]
        out[f"{prefix}{places}"] = positions if str(places).endswith(".weight") else positions[None]
        for name, vector in zip(tokens, self.module.get("prefix", ()), strict=True):
            out[f"{prefix}{name}"] = vector.reshape(1, 1, -1) if name.endswith("token") else vector
        for i in range(self.config.layers):
            out |= self.layer(i, settings)
        return Written(self.kind, config, {name: tensor.contiguous().clone() for name, tensor in out.items()})

    def _positions(self, settings: Settings) -> Tensor:
        """[tokens and patches, D], with all that is added everywhere."""
        first = self.encoder.prefix_count
        positions = self.module["position_embedding"] + self.marker
        everywhere = self.without_noise
        if not biased(self.family, settings, "to_width"):
            everywhere = everywhere + self.module["to_width.bias"]
        return torch.cat([positions[:first], positions[first:] + everywhere])

    def _config(self) -> dict[str, Any]:
        family, encoder = self.family, self.encoder
        sizes = {**self.sizes, "activation": self.activation()}
        config: dict[str, Any] = {
            "architectures": [PICTURES[self.kind]],
            "model_type": self.kind,
            **{theirs: sizes[ours] for ours, theirs in family.settings.items()},
            **family.only,
            **_WITHOUT.get(self.kind, {}),
            **self.biases(),
            "image_size": encoder.size,
            "patch_size": encoder.patch,
            "num_channels": encoder.channels,
            "dtype": "float32",
            "torch_dtype": "float32",
        }
        if family.mlp_ratio:
            config[family.mlp_ratio] = int(self.sizes["mlp_width"] or 0) // self.config.width
        return config


def _preparation(encoder: ImageEncoder) -> dict[str, Any]:
    """How transformers brings a picture to the column's size, and to numbers from -1 to 1."""
    like, size = encoder.like, {"height": encoder.size, "width": encoder.size}
    cuts = like.keep or like.side != encoder.size
    side = {"shortest_edge": like.side} if like.keep else {"height": like.side, "width": like.side}
    return {
        "image_processor_type": "CLIPImageProcessor" if cuts else "ViTImageProcessor",
        "do_resize": True,
        "size": side,
        "resample": RESAMPLE.index(like.resample),
        "do_center_crop": cuts,
        **({"crop_size": size} if cuts else {}),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5] * encoder.channels,
        "image_std": [0.5] * encoder.channels,
        "do_convert_rgb": encoder.channels == 3,
    }


# -- checking ------------------------------------------------------------------------------------------------
@contextmanager
def without_bars() -> Iterator[None]:
    """Inside, transformers shows no progress of what takes no time."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def compare(model: Model, column: str, folder: Path, values: list[Any]) -> Parity:
    """What transformers makes of the folder against what the model makes of the same pictures: the pixels, which must
    be equal, and the trunk's states, at the first and the last position and on average. And every tensor."""
    try:
        import transformers
    except ImportError:
        raise MissingExtraError("transformers", "interop", "Checking a Hugging Face export") from None
    encoder, parity = _pictures(model, column), Parity()
    made, in_file = as_checkpoint(model, column), load_tensors(folder / "model.safetensors")
    parity.same("the list of tensors", sorted(made.tensors), sorted(in_file))
    for name in made.tensors.keys() & in_file.keys():
        if not torch.equal(made.tensors[name], in_file[name]):
            parity.faults.append(f"the tensor {name} holds other numbers")
    parity.same("config.json", made.config, json.loads((folder / "config.json").read_text(encoding="utf-8")))
    kind: Any = getattr(transformers, PICTURES[made.kind])
    bare = {"add_pooling_layer": False} if made.kind in _POOLED else {}
    with without_bars():
        theirs, told = kind.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, output_loading_info=True, **bare
        )
    parity.same("what the file lacks", [], sorted(told["missing_keys"]))
    if parity.faults:
        return parity
    processor = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True, use_fast=False)
    read = {i: pixels for i, value in enumerate(values) if (pixels := _pixels(encoder, value)) is not None}
    table = Table({column: [values[i] for i in read]})
    own = {pool: embed_rows(model, table, [column], pool) for pool in ("cls", "last", "mean")}
    for row, (i, pixels) in enumerate(read.items()):
        picture = open_image(values[i]).convert("RGB" if encoder.channels == 3 else "L")
        given = processor(picture, return_tensors="pt")["pixel_values"]
        found = (given[0].numpy() + 1) * _PIXELS
        parity.answer(pixels.tolist(), np.rint(found).astype(np.int64).tolist())
        parity.add(pixels, found)
        h = _states(theirs.eval(), given)
        parity.add(np.stack([each[row] for each in own.values()]), torch.stack([h[0], h[-1], h.mean(0)]).numpy())
    return parity


def _pixels(encoder: ImageEncoder, value: Any) -> np.ndarray | None:
    try:
        return encoder.encode(value)["pixels"]
    except BadValueError:
        return None


def _states(theirs: Any, pixels: Tensor) -> Tensor:
    """[tokens and patches, D], normed."""
    with torch.inference_mode():
        h: Tensor = theirs(pixel_values=pixels).last_hidden_state[0]
        inner = getattr(theirs, "vision_model", theirs)
        return inner.post_layernorm(h) if theirs.config.model_type in _NORMED_LATER else h
