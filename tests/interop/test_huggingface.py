"""Checkpoints of other people give the answers they give in transformers; bad ones are refused in plain words."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import worlds
from PIL import Image as Pillow

import onetrunk
from onetrunk.core.answer import Sampling
from onetrunk.core.content import Role
from onetrunk.core.errors import ModelFileError, UsageError
from onetrunk.data.ledger import Ledger
from onetrunk.inference.model_folder import load
from onetrunk.interop import huggingface
from onetrunk.storage.tensors import load_tensors, save_tensors

checkpoints = pytest.importorskip("bench.trials.checkpoints", reason="needs transformers")

DECODERS = ["gpt2", "llama", "mistral", "qwen2", "qwen3", "phi3", "olmo2", "smollm3", "gemma3", "yarn", "linear"]
ENCODERS = ["bert", "roberta", "xlm-roberta", "distilbert", "albert", "modernbert", "untied"]
VISION = ["vit", "deit", "vit_mae", "dinov2", "clip", "clip_vision", "siglip", "siglip_vision", "chinese_clip"]
TEXTS = checkpoints.TEXTS
CLOSE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Folder, transformers' model and its tokenizer or processor, of each family once."""
    made: dict[str, Any] = {}

    def of(kind: str) -> Any:
        if kind not in made:
            folder = tmp_path_factory.mktemp("hf") / kind
            made[kind] = (folder, *checkpoints.write(kind, folder))
        return made[kind]

    return of


@pytest.fixture
def copied(written: Any, tmp_path: Path) -> Any:
    """A copy of a checkpoint's folder, to be spoilt."""

    def of(kind: str) -> Path:
        return Path(shutil.copytree(written(kind)[0], tmp_path / f"{kind}-copy"))

    return of


def states(model: Any, column: str, values: list[Any], role: str = "given") -> dict[int, torch.Tensor]:
    """Of every value alone, [t, D], as the column stands in one role."""
    store = worlds.store_of(model, {column: values})
    given, ask = ([column], []) if role == "given" else ([], [column])
    batch = worlds.batch(store, range(len(values)), given, ask, given_causal=model.network.given_causal)
    return {row: h for (row, _), h in worlds.states_by_document(model, batch).items()}


# -- texts ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", DECODERS + ENCODERS)
def test_texts_have_the_same_hidden_states(written: Any, kind: str) -> None:
    folder, reference, words = written(kind)
    model = huggingface.read(folder)
    found = states(model, "text", TEXTS)
    for row, text in enumerate(TEXTS):
        ids = torch.tensor([words(text)["input_ids"]])
        with torch.no_grad():
            expected = reference(ids, output_hidden_states=True).hidden_states[-1][0]
        torch.testing.assert_close(found[row], expected, **CLOSE)


@pytest.mark.parametrize("kind", DECODERS)
def test_decoders_have_the_same_logits_and_write_the_same_text(written: Any, kind: str) -> None:
    folder, reference, words = written(kind)
    model = huggingface.read(folder)
    sides = worlds.Sides.of(model, "text")
    found = states(model, "text", TEXTS, "asked")
    for row, text in enumerate(TEXTS):
        ids = [sides.special.start, *words(text, add_special_tokens=False)["input_ids"]]
        with torch.no_grad():
            expected = reference(torch.tensor([ids])).logits[0]
            logits = F.linear(*sides.readout(found[row]))
        torch.testing.assert_close(logits, expected, **CLOSE)
    sampling = Sampling(max_length=12)
    answers = model.answer({"text": [text[:9] for text in TEXTS]}, "text", sampling=sampling, prompted=True)
    for text, answer in zip(TEXTS, answers, strict=True):
        ids = torch.tensor([[sides.special.start, *words(text[:9], add_special_tokens=False)["input_ids"]]])
        out = reference.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False,
                                 pad_token_id=0)  # fmt: skip
        assert answer.value == words.decode(out[0, 1:], skip_special_tokens=True)


@pytest.mark.parametrize("kind", ENCODERS)
def test_encoders_fill_in_the_same_words(written: Any, kind: str) -> None:
    folder, reference, words = written(kind)
    model = huggingface.read(folder)
    sides = worlds.Sides.of(model, "text")
    store = worlds.store_of(model, {"text": TEXTS})
    batch = worlds.batch(store, range(4), [], [], masked=["text"])
    found = worlds.states_by_document(model, batch)
    content = batch.embeds["text"].content["id"]
    assert int((content == words.mask_token_id).sum()) > 3
    reads = batch.reads["predict"]["text"]
    first = 0
    for row, text in enumerate(TEXTS):
        ids = content[first : first + len(found[row, "text"])]
        assert len(ids) == len(words(text)["input_ids"]) and ids[0] == words.cls_token_id
        with torch.no_grad():
            expected = reference(ids[None]).logits[0]
            logits = F.linear(*sides.readout(found[row, "text"]))
        torch.testing.assert_close(logits, expected, **CLOSE)
        first += len(ids)
    loss = model.module("text").loss(model.network.encode(batch).h_ND[reads.flat_r], reads.targets)
    assert bool(torch.isfinite(loss.sum)) and float(loss.count) == len(reads.flat_r)


@pytest.mark.parametrize("kind", [*DECODERS, *ENCODERS])
def test_a_text_has_the_same_tokens(written: Any, kind: str) -> None:
    folder, _, words = written(kind)
    sides = worlds.Sides.of(huggingface.read(folder), "text")
    for text in [*TEXTS, "", "Ünïcode 🦀", "a\nnew   line"]:
        assert sides.encode(text)["id"].tolist() == words(text, add_special_tokens=False)["input_ids"]
        segment = sides.segment(worlds.content_of(sides, [text]), Role.GIVEN, worlds.keys(1))
        assert segment.content["id"].tolist() == words(text)["input_ids"]
    for token in ("<s>", "[MASK]", "<|endoftext|>"):
        assert not set(sides.encode(token)["id"].tolist()) & {sides.special.end, sides.special.start}


NO_TYPES: dict[str, Any] = {"layer_types": None}
SLIDES = {"sliding_window": 20, "use_sliding_window": True}


@pytest.mark.parametrize(
    ("kind", "fields", "seen"),
    [
        ("mistral", {"sliding_window": 20}, 20),
        ("mistral", {"sliding_window": None}, 64),
        ("qwen2", {**NO_TYPES, **SLIDES, "max_window_layers": 1}, 20),  # the second layer alone has a window
        ("qwen2", {**NO_TYPES, **SLIDES, "max_window_layers": 2}, 64),
        ("qwen2", {**NO_TYPES, **SLIDES, "use_sliding_window": False, "max_window_layers": 0}, 64),
        ("qwen2", {**SLIDES, "layer_types": ["full_attention", "sliding_attention"]}, 20),
        ("gemma3", {"sliding_window": 20}, 20),  # its first layer alone
    ],
)
def test_a_window_bounds_the_context(copied: Any, kind: str, fields: dict[str, Any], seen: int) -> None:
    """Up to there all is as in transformers. Of longer texts no more is seen, and that is said."""
    folder, text = copied(kind), " ".join(TEXTS)[:60]
    config = {**json.loads((folder / "config.json").read_text()), **fields}
    kept = {k: v for k, v in config.items() if v is not None or k == "sliding_window"}
    (folder / "config.json").write_text(json.dumps(kept))
    model = huggingface.read(folder)
    sides, ledger = worlds.Sides.of(model, "text"), Ledger()
    assert model.encoder("text").options.length == seen
    (left,) = model.provenance["stages"][0]["left_out"] or [""]
    assert left == ("sliding_window (texts are seen up to 20 tokens, not up to 64)" if seen == 20 else "")
    reference = checkpoints.hf.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    words = checkpoints.hf.AutoTokenizer.from_pretrained(folder)
    ids = [sides.special.start, *words(text, add_special_tokens=False)["input_ids"]]
    assert 30 < len(ids) < 64
    with torch.no_grad():
        expected = reference(torch.tensor([ids])).logits[0, :seen]
    found = states(model, "text", [text], "asked")[0]
    torch.testing.assert_close(F.linear(*sides.readout(found))[: len(expected)], expected, **CLOSE)
    # It goes on from what fits as transformers does, to where its context ends.
    prompts = [text[:8], text]
    sampling = Sampling(max_length=64)
    answers = model.answer({"text": prompts}, "text", sampling=sampling, ledger=ledger, prompted=True)
    given = torch.tensor([[sides.special.start, *words(text[:8], add_special_tokens=False)["input_ids"]]])
    out = reference.generate(given, attention_mask=torch.ones_like(given), max_length=seen + 1,
                             do_sample=False, pad_token_id=0)  # fmt: skip
    assert answers[0].value == words.decode(out[0, 1:], skip_special_tokens=True)
    told = [entry["reason"] for entry in ledger.as_json()]
    room = seen - model.encoder("text").special.around
    assert told == ([f"texts longer than {room} tokens, of which only {room} are seen"] if seen == 20 else [])


def test_older_tokenizer_files_read_alike(written: Any, copied: Any) -> None:
    folder, _, _ = written("gpt2")
    old = copied("gpt2")
    whole = json.loads((old / "tokenizer.json").read_text())
    (old / "vocab.json").write_text(json.dumps(whole["model"]["vocab"]))
    (old / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in whole["model"]["merges"]))
    (old / "tokenizer.json").unlink()
    one, other = worlds.Sides.of(huggingface.read(folder), "text"), worlds.Sides.of(huggingface.read(old), "text")
    assert one.special == other.special
    for text in TEXTS:
        assert one.encode(text)["id"].tolist() == other.encode(text)["id"].tolist()


def test_shards_read_like_one_file(written: Any, tmp_path: Path) -> None:
    folder, _, _ = written("qwen3")
    checkpoints.write("qwen3", tmp_path / "parts", shard="20KB")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 2
    one, other = huggingface.read(folder), huggingface.read(tmp_path / "parts")
    for name, tensor in one.network.state_dict().items():
        assert torch.equal(tensor, other.network.state_dict()[name])


def test_names_without_a_prefix_and_of_old_norms_are_known(written: Any, copied: Any) -> None:
    folder, _, _ = written("bert")
    old = copied("bert")
    state = load_tensors(old / "model.safetensors")
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in state.items()
    }
    save_tensors(old / "model.safetensors", renamed)
    for name, tensor in huggingface.read(folder).network.state_dict().items():
        assert torch.equal(tensor, huggingface.read(old).network.state_dict()[name])
    bare = {name.removeprefix("bert."): tensor for name, tensor in state.items() if name.startswith("bert.")}
    save_tensors(old / "model.safetensors", bare)
    model = huggingface.read(old)
    assert model.encoder("text").token_head.transform == 0 and model.encoder("text").token_head.tied


# -- pictures and sounds -------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", VISION)
def test_pictures_have_the_same_hidden_states(written: Any, kind: str) -> None:
    folder, reference, processor = written(kind)
    model = huggingface.read(folder, "image" if kind in ("clip", "chinese_clip", "siglip") else None)
    dice = np.random.default_rng(0)
    sides = [(16, 16), (37, 23), (20, 50), (200, 150)]
    pictures = [Pillow.fromarray(dice.integers(0, 256, (h, w, 3), dtype=np.uint8)) for h, w in sides]
    found = states(model, "image", pictures)
    processor = processor[1] if isinstance(processor, tuple) else processor
    reference = getattr(reference, "vision_model", reference)
    for row, picture in enumerate(pictures):
        pixels = processor(picture, return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            order = {"noise": torch.arange(16.0)[None]} if kind == "vit_mae" else {}  # else it mixes the patches
            expected = reference(pixel_values=pixels, **order).last_hidden_state[0]
            expected = reference.post_layernorm(expected) if "clip" in kind and "sig" not in kind else expected
        torch.testing.assert_close(found[row], expected, **CLOSE)


@pytest.mark.parametrize("kind", ["clip", "chinese_clip", "siglip"])
def test_clips_words_have_the_same_hidden_states(written: Any, kind: str) -> None:
    folder, reference, (words, _) = written(kind)
    model = huggingface.read(folder, "text")
    found = states(model, "text", TEXTS)
    for row, text in enumerate(TEXTS):
        with torch.no_grad():
            filled = {"padding": "max_length", "max_length": 48} if kind == "siglip" else {}  # it sees its padding
            ids = words(text, **filled)["input_ids"]
            expected = reference.text_model(torch.tensor([ids])).last_hidden_state[0]
        assert len(ids) == 48 or kind != "siglip"
        torch.testing.assert_close(found[row], expected, **CLOSE)
    vectors = onetrunk.embed(model, {"text": TEXTS}, column="text", pool="last", quiet=True).vectors
    np.testing.assert_allclose(vectors, np.stack([found[row][-1].numpy() for row in range(4)]), atol=1e-5)
    with pytest.raises(
        UsageError, match="several towers: import one that can be read, with --tower text or --tower image"
    ):
        huggingface.read(folder)


def test_whispers_encoder_is_a_trunk(written: Any) -> None:
    folder, reference, _ = written("whisper")
    trunk, encoder = huggingface.read_trunk(folder), reference.encoder
    sound = torch.randn(2, 8, 40)
    with torch.no_grad():
        expected = encoder(sound).last_hidden_state
        x = torch.nn.functional.gelu(encoder.conv2(torch.nn.functional.gelu(encoder.conv1(sound))))
        x = x.transpose(1, 2) + encoder.embed_positions.weight
        there = torch.ones(x.shape[:2], dtype=torch.bool)
        pos = torch.arange(x.shape[1]).expand(2, -1)
        h, _ = trunk.extend(x, pos, there, trunk.start_cache(2, worlds.CPU), causal=False, keep=False)
    torch.testing.assert_close(h, expected, **CLOSE)
    with pytest.raises(UsageError, match=r"is a whisper: .* Its trunk alone is"):
        huggingface.read(folder)


# -- as a folder of ours -------------------------------------------------------------------------------------
@pytest.mark.parametrize(("kind", "column"), [("bert", "text"), ("qwen2", "text"), ("deit", "image")])
def test_it_is_kept_as_a_folder_of_ours(written: Any, tmp_path: Path, kind: str, column: str) -> None:
    model = huggingface.read(written(kind)[0])
    model.save(tmp_path / "ours")
    again = load(tmp_path / "ours")
    assert again.provenance["stages"][0]["family"] == kind
    assert again.encoder(column).knowledge() == model.encoder(column).knowledge()
    values = TEXTS if column == "text" else [np.full((9, 12), 7, dtype=np.uint8)]
    for row, h in states(model, column, values).items():
        assert torch.equal(h, states(again, column, values)[row])


def test_what_was_not_taken_is_told(written: Any) -> None:
    left = huggingface.read(written("deit")[0]).provenance["stages"][0]["left_out"]
    assert left == ["pooler"]
    assert huggingface.read(written("gpt2")[0]).provenance["stages"][0]["left_out"] == []
    left = huggingface.read(written("clip")[0], "text").provenance["stages"][0]["left_out"]
    assert left == ["logit_scale", "text_projection", "vision_model", "visual_projection"]


# -- what is refused -----------------------------------------------------------------------------------------
def changed(folder: Path, file: str = "config.json", **fields: Any) -> Path:
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({k: v for k, v in {**content, **fields}.items() if v is not None}))
    return folder


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "bloom"}, r"family 'bloom', which is not known. Known: albert, bert, .*qwen3.*whisper"),
        ({"hidden_size": None}, r"should have shape \[4096\] by config.json"),  # as in transformers
        ({"num_hidden_layers": 10**9}, r"config.json: Key 'layers' .*less than or equal to 256"),
        ({"num_hidden_layers": 3}, r"lacks the tensor 'model.layers.2"),
        ({"intermediate_size": 56}, r"should have shape \[56, 32\] by config.json, found \[48, 32\]"),
        ({"hidden_act": "relu"}, r"hidden_act: 'relu'; silu, gelu, .* can be read"),
        ({"rope_parameters": {"rope_type": "new"}}, r"of type 'new'; default, linear, dynamic, llama3, yarn"),
        ({"rope_parameters": {"rope_type": "yarn", "spin": 3}}, r"have a spin: 3, which is not known"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 2.0}}, r"does not say 'low_freq_factor'"),
        ({"attn_logit_softcapping": 50.0}, r"says attn_logit_softcapping: '50.0', which nothing here honours"),
        ({"layer_types": ["full_attention", "linear_attention"]}, "layers of the types linear_attention"),
        ({"quantization_config": {"bits": 4}}, "is quantised"),
        ({"vocab_size": 100}, r"tokenizer has tokens up to \d+, its model only 100 rows"),
        ({"vocab_size": 1000}, r"They are not of one model"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_configuration_that_does_not_fit_is_refused(copied: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFileError, match=message) as error:
        huggingface.read(changed(copied("qwen3"), **fields))
    assert error.value.exit_code == 4


def test_code_in_a_configuration_is_inert(copied: Any) -> None:
    plain = huggingface.read(folder := copied("qwen3"))
    folder = changed(folder, auto_map={"AutoModelForCausalLM": "evil.Evil"}, trust_remote_code=True)
    (folder / "evil.py").write_text("open(__file__ + '.ran', 'w')")
    assert huggingface.read(folder).columns.keys() == plain.columns.keys()
    assert not (folder / "evil.py.ran").exists() and "evil" not in sys.modules


def test_missing_shards_and_paths_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    checkpoints.write("qwen3", tmp_path / "parts", shard="20KB")
    lost = sorted((tmp_path / "parts").glob("*.safetensors"))[1]
    kept = lost.read_bytes()
    lost.unlink()
    with pytest.raises(ModelFileError, match=f"lacks {lost.name}, one of the"):
        huggingface.read(tmp_path / "parts")
    lost.write_bytes(kept)
    index = tmp_path / "parts" / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    index.write_text(json.dumps({"weight_map": {**content["weight_map"], "model.extra": lost.name}}))
    with pytest.raises(ModelFileError, match=r"names 'model.extra', which no file holds"):
        huggingface.read(tmp_path / "parts")
    index.write_text(json.dumps({"weight_map": {"x": "../model.safetensors"}}))
    with pytest.raises(ModelFileError, match="files beside it"):
        huggingface.read(tmp_path / "parts")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_pipe_is_refused_and_not_waited_for(copied: Any, name: str) -> None:
    folder = copied("qwen3")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(ModelFileError, match=rf"{name} is no file"):
        huggingface.read(folder)


@pytest.mark.parametrize(
    ("kind", "name", "key", "value", "tower"),
    [
        ("clip", "config.json", "text_config", 0.5, "text"),
        ("untied", "config.json", "tie_word_embeddings", True, None),
        ("llama", "tokenizer.json", "model", {"dropout": 0.5}, None),  # texts would be read anew each time
        ("albert", "config.json", "num_hidden_groups", 0, None),
        ("gemma3", "config.json", "query_pre_attn_scalar", [], None),
        ("llama", "tokenizer.json", "post_processor", {"special_tokens": {}}, None),  # its tokenizer panics
    ],
)
def test_what_cannot_be_is_refused_by_the_name_of_its_file(
    copied: Any, kind: str, name: str, key: str, value: Any, tower: str | None
) -> None:
    folder = copied(kind)
    told = json.loads((folder / name).read_text())
    told[key] = {**told[key], **value} if isinstance(value, dict) else value
    (folder / name).write_text(json.dumps(told))
    with pytest.raises(ModelFileError, match=name):
        huggingface.read(folder, tower)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_a_pickle_is_refused_by_its_content(copied: Any, name: str, tmp_path: Path) -> None:
    folder = copied("qwen3")
    (folder / "model.safetensors").unlink()
    canary = tmp_path / "it_ran"

    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (canary,)

    torch.save({"x": Evil()}, folder / name)
    with pytest.raises(ModelFileError, match="pickle"):
        huggingface.read(folder)
    assert not canary.exists()


def test_a_tokenizer_that_could_cost_is_refused(copied: Any) -> None:
    evil = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    folder = changed(copied("qwen3"), "tokenizer.json", pre_tokenizer={"type": "Sequence", "pretokenizers": [evil]})
    with pytest.raises(ModelFileError, match=r"not known to be harmless: '\(a\+\)\+\$'"):
        huggingface.read(folder)
    (folder / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": {}, "merges": [["a", "b"]]}}')
    with pytest.raises(ModelFileError, match="is not a tokenizer that can be read"):
        huggingface.read(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelFileError, match="has no tokenizer: expected"):
        huggingface.read(folder)


def test_pictures_of_another_size_are_refused(copied: Any) -> None:
    folder = changed(copied("vit"), "preprocessor_config.json", size={"height": 24, "width": 24})
    with pytest.raises(ModelFileError, match=r"'width': 24\} cut to None; its model sees 16 × 16 pixels"):
        huggingface.read(folder)


def test_what_is_no_checkpoint_is_named(written: Any, copied: Any, tmp_path: Path) -> None:
    huggingface.read(written("gpt2")[0]).save(tmp_path / "ours")
    nameless = changed(copied("gpt2"), model_type=None)
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for folder, kind, message in [
        (nameless, ModelFileError, r"does not say its family \(model_type\). Known: albert, "),
        (tmp_path / "empty", ModelFileError, "expected config.json beside safetensors, found none"),
        (tmp_path / "ours", UsageError, "is a model folder already"),
        (tmp_path / "file", UsageError, "is a file: expected a Hugging Face folder"),
        (tmp_path / "nowhere", UsageError, "There is no folder"),
    ]:
        with pytest.raises(kind, match=message):
            huggingface.read(folder)


def test_flags_that_choose_nothing_are_refused(written: Any, tmp_path: Path) -> None:
    for flags, message in [
        ({"words": "words.json"}, "--words is for Keras weights"),
        ({"base": "base", "tower": "text"}, "--tower chooses one of CLIP's"),
    ]:
        with pytest.raises(UsageError, match=message):
            onetrunk.import_(str(written("gpt2")[0]), out=str(tmp_path / "out"), quiet=True, **flags)
    assert not (tmp_path / "out").exists()
