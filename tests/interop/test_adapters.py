"""Adapters: small, whole on their own, loaded by `peft`, and refused on another base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import onetrunk
from onetrunk.core.errors import ModelFileError, UsageError
from onetrunk.inference.model_folder import Model
from onetrunk.storage.tensors import load_tensors

TEXTS = ["the red boat on the sea", "a green tree", "two blue birds, two red boats"] * 80
QUICK = ["pretrain.steps=2", "finetune.steps=8", "train.tensorboard=false", "train.lr=0.05", "train.ema=0"]


def quick(verb: str, data: Any, out: Path, **options: Any) -> Model:
    settings = [*QUICK, *options.pop("settings", [])]
    return getattr(onetrunk, verb)(data, out=str(out), settings=settings, quiet=True, allow_equal_rows=True, **options)


def table(n: int = 240) -> dict[str, list[Any]]:
    return {"review": [f"room {i} was {'good' if i % 2 else 'bad'}" for i in range(n)], "label": ["y", "n"] * (n // 2)}


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("lora") / "writer"
    quick(
        "finetune",
        {"note": TEXTS},
        out,
        ask=["note"],
        types={"note": "text"},
        size="nano",
        settings=["attention=causal"],
    )
    return out


def same(one: Model, other: Model, atol: float = 0.0) -> bool:
    a, b = one.network.state_dict(), other.network.state_dict()
    return a.keys() == b.keys() and all(torch.allclose(a[name], b[name], atol=atol, rtol=0) for name in a)


@pytest.mark.parametrize("setting", ["dora=false", "dora=true", "bits=4"])
def test_peft_loads_what_a_text_learnt(writer: Path, tmp_path: Path, setting: str) -> None:
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    tuned = quick(
        "finetune", {"note": TEXTS}, tmp_path / "tuned", ask=["note"], types={"note": "text"},
        start=str(writer), lora=4, settings=[ f"finetune.lora.{setting}"],
    )  # fmt: skip
    again = onetrunk.load(writer, tmp_path / "tuned" / "adapter")
    assert same(again, tuned, atol=1e-6)
    assert any("magnitude" in name for name in again.adapter.learnt) == (setting == "dora=true")
    assert not load_tensors(tmp_path / "tuned" / "adapter" / "columns.safetensors"), "only the trunk has changed"
    onetrunk.export(str(writer), {"note": TEXTS}, to="huggingface", out=str(tmp_path / "base"), quiet=True)
    onetrunk.export(tuned, {"note": TEXTS}, to="huggingface", out=str(tmp_path / "whole"), quiet=True)
    base, whole = (
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / name).eval() for name in ("base", "whole")
    )
    ids = torch.randint(0, 100, (2, 12))
    with torch.no_grad():
        before = base(ids).logits
        adapted = peft.PeftModel.from_pretrained(base, tmp_path / "tuned" / "adapter").eval()
        torch.testing.assert_close(adapted(ids).logits, whole(ids).logits, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(before, whole(ids).logits, atol=1e-3)


def test_an_adapter_and_its_base_are_the_model(tmp_path: Path) -> None:
    quick("pretrain", table(), tmp_path / "base", ignore=["label"], size="nano")
    tuned = quick(
        "finetune", table(), tmp_path / "tuned", ask=["label"], start=str(tmp_path / "base"), lora=2,
        settings=["finetune.lora.targets=[q_proj, v_proj]"],
    )  # fmt: skip
    base, folder = onetrunk.load(tmp_path / "base"), tmp_path / "tuned" / "adapter"
    changed = [
        name for name, tensor in tuned.network.trunk.state_dict().items()
        if not torch.equal(tensor, base.network.trunk.state_dict()[name])
    ]  # fmt: skip
    assert changed == [f"layers.{i}.self_attn.{m}.weight" for i in (0, 1) for m in ("q_proj", "v_proj")]
    assert torch.equal(tuned.module("review").table, base.module("review").table)
    kept = load_tensors(folder / "columns.safetensors")
    label = tuned.network.column_modules.parameter_name("label", "")
    assert {name for name in kept if name.startswith("column_modules.")} == {
        name for name in kept if name.startswith(label)
    }
    assert any(name.startswith(label) for name in kept)
    size = sum(path.stat().st_size for path in folder.iterdir() if path.suffix == ".safetensors")
    assert size < 0.2 * (tmp_path / "tuned" / "model.safetensors").stat().st_size
    folder.rename(tmp_path / "alone")
    onetrunk.import_(str(tmp_path / "alone"), base=str(tmp_path / "base"), out=str(tmp_path / "again"), quiet=True)
    again = onetrunk.load(tmp_path / "again")
    assert same(tuned, again, atol=1e-6) and again.tasks == tuned.tasks
    assert (tmp_path / "again" / "adapter").is_dir()


def test_another_base_and_damaged_adapters_are_refused(writer: Path, tmp_path: Path) -> None:
    quick(
        "finetune", {"note": TEXTS}, tmp_path / "tuned", ask=["note"], types={"note": "text"}, start=str(writer), lora=4
    )
    adapter = tmp_path / "tuned" / "adapter"

    def refused(message: str, base: Path = writer) -> None:
        with pytest.raises(ModelFileError, match=message) as error:
            onetrunk.import_(str(adapter), base=str(base), out=str(tmp_path / "x"), quiet=True)
        assert error.value.exit_code == 4 and not (tmp_path / "x").exists()

    refused("belongs to another base: expected one with the digest", tmp_path / "tuned")
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "r": 5}))
    refused(r"should have shape \[5, ")
    (adapter / "adapter_model.safetensors").write_bytes(b"\x80\x02 a pickle")
    refused("pickle")
    (adapter / "adapter_config.json").unlink()
    refused("is no adapter folder")


def test_what_lora_needs_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name one with --from"):
        quick("finetune", table(), tmp_path / "x", ask=["label"], size="nano", lora=2)
    with pytest.raises(UsageError, match="freezes the whole trunk and --freeze 1 a part of it"):
        quick("finetune", table(), tmp_path / "y", ask=["label"], size="nano", lora=2, freeze="1")


@pytest.mark.parametrize("way", [{"lora": 2}, {"freeze": "trunk"}])
def test_a_frozen_text_learns_no_words_that_would_stay_as_they_came(tmp_path: Path, way: dict[str, Any]) -> None:
    quick("pretrain", table(), tmp_path / "base", ignore=["label"], size="nano")
    rows = table()
    rows["review"] = [f"{text}, extraordinary" for text in rows["review"]]
    common = {"ask": ["label"], "start": str(tmp_path / "base")}
    tuned = quick("finetune", rows, tmp_path / "tuned", **common, **way)
    base = onetrunk.load(tmp_path / "base")
    assert torch.equal(tuned.module("review").table, base.module("review").table)
    assert tuned.encoder("review").knowledge() == base.encoder("review").knowledge()
    grown = quick("finetune", rows, tmp_path / "grown", **common)
    assert grown.encoder("review").size == base.encoder("review").size + 1
