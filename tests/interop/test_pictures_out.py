"""What sees pictures goes back to transformers, which sees the same in them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import worlds
from PIL import Image as Pillow

import onetrunk
from onetrunk.core.errors import EvidenceError, UsageError
from onetrunk.interop import huggingface
from onetrunk.interop.huggingface import writer as hf_writer
from onetrunk.storage.tensors import load_tensors, save_tensors

PICTURED = ["vit", "deit", "vit_mae", "dinov2", "clip", "clip_vision", "siglip", "siglip_vision", "chinese_clip"]


def spoilt_json(path: Path, **fields: Any) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **fields}))


def pictures(channels: int = 3) -> list[Any]:
    dice = np.random.default_rng(0)
    sides = [(16, 16), (37, 23), (20, 50), (200, 150)]
    arrays = [dice.integers(0, 256, (h, w, channels), dtype=np.uint8) for h, w in sides]
    return [Pillow.fromarray(array if channels == 3 else array[..., 0]) for array in arrays]


@pytest.mark.parametrize("kind", PICTURED)
def test_pictures_from_transformers_go_back(tmp_path: Path, kind: str) -> None:
    """With what is learnt beside a checkpoint, which is nothing at first: the column's marker, and its levels."""
    checkpoints = pytest.importorskip("bench.trials.checkpoints")
    transformers = checkpoints.hf
    reference, processor = checkpoints.write(kind, tmp_path / "in")
    tower = "image" if kind in ("clip", "chinese_clip", "siglip") else None
    first = huggingface.read(tmp_path / "in", tower)
    told: dict[str, Any] = {"to": "huggingface", "ask": "image", "quiet": True}
    found = onetrunk.export(first, {"image": pictures()}, out=str(tmp_path / "out"), **told)
    assert found["worst_difference"] < 1e-5 and found["equal_answers"] == found["rows"] == 4
    again = transformers.AutoModel.from_pretrained(tmp_path / "out").eval()
    prepare = transformers.AutoImageProcessor.from_pretrained(tmp_path / "out", use_fast=False)
    reference = getattr(reference, "vision_model", reference)
    processor = processor[1] if isinstance(processor, tuple) else processor
    for picture in pictures():
        with torch.no_grad():
            order = {"noise": torch.arange(16.0)[None]} if kind == "vit_mae" else {}  # else it mixes the patches
            expected = reference(**processor(picture, return_tensors="pt"), **order).last_hidden_state
            h = again(**prepare(picture, return_tensors="pt")).last_hidden_state
        torch.testing.assert_close(h, expected, atol=1e-4, rtol=1e-4)
    once_more = huggingface.read(tmp_path / "out")
    for name, tensor in first.network.trunk.state_dict().items():
        torch.testing.assert_close(once_more.network.trunk.state_dict()[name], tensor, atol=1e-6, rtol=1e-6)
    with torch.no_grad():
        first.network.marker("image").normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
        first.module("image").level_embedding.bias.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    found = onetrunk.export(first, {"image": pictures()}, out=str(tmp_path / "more"), **told)
    assert found["worst_difference"] < 1e-5 and found["equal_answers"] == found["rows"] == 4


def test_our_own_pictures_are_written_where_a_family_holds_their_trunk(tmp_path: Path) -> None:
    """As a SigLIP, whose patches alone are read; else it is said what it would need."""
    pytest.importorskip("transformers")
    plain = {"positions": "none", "norm": "layer", "qk_norm": False, "bias": "all", "activation": "gelu_tanh"}
    for channels in (1, 3):
        model = worlds.model({"photo": pictures(channels)}, {"photo": "image"}, trunk={**worlds.TRUNK, **plain},
                             options={"photo": {"stem": 0, "size": 16}}, given="bidirectional")  # fmt: skip
        told: dict[str, Any] = {"to": "huggingface", "ask": "photo", "quiet": True}
        out = tmp_path / str(channels)
        found = onetrunk.export(model, {"photo": pictures(channels)}, out=str(out), **told)
        assert found["worst_difference"] < 1e-5 and found["equal_answers"] == found["rows"] == 4
        assert json.loads((out / "config.json").read_text())["model_type"] == "siglip_vision_model"
    for options, trunk, message in [({"stem": 8}, plain, r"convolutions first.* columns.photo.stem=0"),
                                    ({"stem": 0}, {}, "has activation 'swiglu'; .* needs 'gelu'")]:  # fmt: skip
        model = worlds.model({"photo": pictures()}, {"photo": "image"}, trunk={**worlds.TRUNK, **trunk},
                             options={"photo": options}, given="bidirectional")  # fmt: skip
        with pytest.raises(UsageError, match=message):
            onetrunk.export(model, {"photo": pictures()}, out=str(tmp_path / "x"), **told)


def test_the_gate_reads_back_all_that_was_written_of_pictures(tmp_path: Path) -> None:
    checkpoints = pytest.importorskip("bench.trials.checkpoints")
    checkpoints.write("vit", tmp_path / "in")
    model = huggingface.read(tmp_path / "in")

    def spoilt(change: Any) -> None:
        with tempfile.TemporaryDirectory() as place:
            hf_writer.write(model, "image", Path(place))
            change(Path(place))
            hf_writer.compare(model, "image", Path(place), pictures()).check(1e-3, "it")

    def one_number(place: Path) -> None:
        tensors = load_tensors(place / "model.safetensors")
        tensors["vit.embeddings.cls_token"][0, 0, 0] += 1e-6
        save_tensors(place / "model.safetensors", tensors)

    spoilt(lambda place: None)
    prepared = "preprocessor_config.json"
    for change, message in [
        (one_number, "cls_token holds other numbers"),
        (lambda place: spoilt_json(place / "config.json", layer_norm_eps=1e-2), "config.json is"),
        (lambda place: spoilt_json(place / prepared, image_mean=[0.4] * 3), "numbers differ"),
        (lambda place: spoilt_json(place / prepared, resample=0), "numbers differ"),
    ]:
        with pytest.raises(EvidenceError, match=message):
            spoilt(change)
