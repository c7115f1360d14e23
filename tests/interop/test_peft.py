"""Adapters of PEFT come in, merged as PEFT applies them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import worlds

import onetrunk
from onetrunk.core.errors import ModelFileError, UsageError
from onetrunk.storage.tensors import load_tensors, save_tensors

checkpoints = pytest.importorskip("bench.trials.checkpoints", reason="needs transformers")
peft = pytest.importorskip("peft")
PLAIN = {"r": 4, "lora_alpha": 8, "init_lora_weights": False}
TARGETS = {"llama": ["q_proj", "v_proj", "down_proj"], "gpt2": ["c_attn", "c_fc"], "bert": ["query", "dense"]}


def adapted(kind: str, place: Path, **told: Any) -> Any:
    """PEFT's model, its adapter in `place / "adapter"` and its base in `place / "base"`."""
    reference, _ = checkpoints.write(kind, place / "base")
    torch.manual_seed(5)
    config = peft.LoraConfig(target_modules=TARGETS[kind], **{**PLAIN, **told})
    model = peft.get_peft_model(reference, config).eval()
    generator = torch.Generator().manual_seed(6)
    for name, parameter in model.named_parameters():
        if "lora" in name or "modules_to_save" in name:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(place / "adapter")
    return model


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("llama", {}),
        ("llama", {"use_rslora": True}),
        ("llama", {"use_dora": True}),
        ("llama", {"rank_pattern": {"v_proj": 2}, "alpha_pattern": {"layers.0.self_attn.q_proj": 20}}),
        ("llama", {"modules_to_save": ["lm_head"], "bias": "all"}),
        ("gpt2", {"fan_in_fan_out": True}),
        ("gpt2", {"fan_in_fan_out": True, "use_dora": True}),
        ("bert", {}),
    ],
    ids=str,
)
def test_an_adapter_answers_as_in_peft(tmp_path: Path, kind: str, told: dict[str, Any]) -> None:
    reference = adapted(kind, tmp_path, **told)
    onetrunk.import_(str(tmp_path / "adapter"), base=str(tmp_path / "base"), out=str(tmp_path / "ours"), quiet=True)
    model = onetrunk.load(tmp_path / "ours")
    assert model.provenance["stages"][0]["adapter"] == "adapter"
    sides = worlds.Sides.of(model, "text")
    store = worlds.store_of(model, {"text": checkpoints.TEXTS})
    roles = {"given": [], "ask": ["text"]} if kind != "bert" else {"given": ["text"], "ask": []}
    batch = worlds.batch(store, range(4), roles["given"], roles["ask"], given_causal=model.network.given_causal)
    at = 0
    for (_, _), h in worlds.states_by_document(model, batch).items():
        ids = batch.embeds["text"].content["id"][at : at + len(h)]
        at += len(h)
        with torch.no_grad():
            expected = reference(ids[None]).logits[0]
        torch.testing.assert_close(torch.nn.functional.linear(*sides.readout(h)), expected, atol=1e-4, rtol=1e-4)


def test_what_does_not_fit_or_is_not_honoured_is_refused(tmp_path: Path) -> None:
    adapted("llama", tmp_path)
    folder = tmp_path / "adapter"
    kept = {name: (folder / name).read_bytes() for name in ("adapter_config.json", "adapter_model.safetensors")}

    def refused(message: str, base: str = "base", **fields: Any) -> None:
        config = json.loads(kept["adapter_config.json"])
        (folder / "adapter_config.json").write_text(json.dumps({**config, **fields}))
        with pytest.raises((ModelFileError, UsageError), match=message):
            onetrunk.import_(str(folder), base=str(tmp_path / base), out=str(tmp_path / "x"), quiet=True)
        assert not (tmp_path / "x").exists()

    refused("of the kind 'IA3'; only LORA", peft_type="IA3")
    refused("says lora_bias: 'True', which nothing here honours", lora_bias=True)
    refused("only whole names of modules", alpha_pattern={"(a+)+$": 3})
    checkpoints.write("qwen3", tmp_path / "other")
    refused("It belongs to another base", base="other")
    tensors = load_tensors(folder / "adapter_model.safetensors")
    extra = {"base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight": torch.zeros(4, 32)}
    save_tensors(folder / "adapter_model.safetensors", {**tensors, **extra})
    refused("lacks lora_A or lora_B|no tensor of the base")
    (folder / "adapter_model.safetensors").write_bytes(b"\x80\x02 a pickle")
    refused("pickle")
    (folder / "adapter_model.safetensors").write_bytes(kept["adapter_model.safetensors"])
    onetrunk.import_(str(tmp_path / "base"), out=str(tmp_path / "ours"), quiet=True)
    refused("--base names the Hugging Face folder that it was trained on", base="ours")
