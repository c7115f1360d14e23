"""What a checkpoint's files say is honoured or refused by name: transformers reads the same files beside us."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import worlds
from PIL import Image as Pillow
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from onetrunk.core.answer import Sampling
from onetrunk.core.content import Role
from onetrunk.core.errors import ModelFileError
from onetrunk.interop import huggingface
from onetrunk.interop.huggingface.families import FAMILIES
from onetrunk.storage.tensors import load_tensors, save_tensors

checkpoints = pytest.importorskip("bench.trials.checkpoints", reason="needs transformers")
hf = checkpoints.hf

TEXTS = [
    *checkpoints.TEXTS,
    "A photo of a CAT",
    "Ünïcödé and cafe\u0301",  # composed and not
    "a\n\nnew   line, 12345 times",
    "it's, we'll; they've DON'T",
    " leading and trailing ",
    "한국어 テスト 🦀",
]
CLOSE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture
def written(tmp_path: Path) -> Any:
    def of(kind: str) -> Any:
        folder = tmp_path / kind
        return (folder, *checkpoints.write(kind, folder))

    return of


def changed(folder: Path, file: str = "config.json", **fields: Any) -> Path:
    content = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    (folder / file).write_text(json.dumps({k: v for k, v in {**content, **fields}.items() if v is not None}))
    return folder


def tokens(folder: Path, tower: str | None = None) -> Any:
    """Our encoder of a text, with what stands around it."""
    sides = worlds.Sides.of(huggingface.read(folder, tower), "text")
    return lambda text: [*sides.special.before, *sides.encode(text)["id"].tolist(), *sides.special.after]


# -- tokenizers ----------------------------------------------------------------------------------------------
def byte_pairs(folder: Path, specials: list[str], suffix: str = "") -> None:
    """vocab.json and merges.txt, learnt from the texts."""
    ending: dict[str, Any] = {"end_of_word_suffix": suffix} if suffix else {}
    tokenizer = Tokenizer(models.BPE(**ending))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=620, special_tokens=specials, show_progress=False,
                                  initial_alphabet=alphabet, **ending)  # fmt: skip
    tokenizer.train_from_iterator([text.lower() for text in TEXTS] * 3, trainer)
    learnt = json.loads(tokenizer.to_str())["model"]
    vocab = dict(learnt["vocab"])
    for byte in alphabet if suffix else []:  # as CLIP's, a word may end with any byte
        vocab.setdefault(byte + suffix, len(vocab))
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in learnt["merges"]))
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)


def resized(kind: str, folder: Path, rows: int) -> None:
    """A model of this kind with so many tokens."""
    torch.manual_seed(0)
    checkpoints._model(kind, rows).save_pretrained(folder)


@pytest.mark.parametrize(
    ("kind", "name", "specials", "suffix"),
    [
        ("clip", "CLIPTokenizer", ["<|startoftext|>", "<|endoftext|>"], "</w>"),
        ("qwen2", "Qwen2Tokenizer", ["<|endoftext|>", "<|im_start|>"], ""),
        ("gpt2", "GPT2Tokenizer", ["<|endoftext|>"], ""),
        ("roberta", "RobertaTokenizer", ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], ""),
    ],
)
def test_vocabularies_with_merges_read_as_their_class_reads_them(
    tmp_path: Path, kind: str, name: str, specials: list[str], suffix: str
) -> None:
    byte_pairs(tmp_path, specials, suffix)
    rows = len(json.loads((tmp_path / "vocab.json").read_text()))
    resized(kind, tmp_path, rows)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
    theirs = getattr(hf, name).from_pretrained(tmp_path)
    ours = tokens(tmp_path, "text" if kind == "clip" else None)
    for text in TEXTS:
        assert ours(text) == theirs(text)["input_ids"], text
    (tmp_path / "tokenizer_config.json").unlink()  # then the family says
    again = tokens(tmp_path, "text" if kind == "clip" else None)
    assert [again(text) for text in TEXTS] == [ours(text) for text in TEXTS]


def test_tokens_that_are_added_are_honoured(written: Any) -> None:
    folder, _, words = written("qwen3")
    n = len(words)
    changed(folder, "added_tokens.json", **{"<|im_start|>": n, "room": n + 1})
    added = {str(n + 2): {"content": "<|tool|>", "special": True, "normalized": False, "lstrip": False}}
    changed(folder, "tokenizer_config.json", added_tokens_decoder=added, additional_special_tokens=["<|im_start|>"])
    sides = worlds.Sides.of(huggingface.read(folder), "text")
    assert [sides.tokenizer.token_to_id(t) for t in ("<|im_start|>", "room", "<|tool|>")] == [n, n + 1, n + 2]
    assert n + 1 in sides.encode("the room")["id"] and n not in sides.encode("<|im_start|>")["id"]
    changed(folder, "added_tokens.json", **{"<|im_start|>": n + 9})
    with pytest.raises(ModelFileError, match=r"adds the token 'room' as number \d+, and its tokenizer has"):
        huggingface.read(folder)
    changed(folder, "added_tokens.json", **{"<|im_start|>": n, "<|endoftext|>": 3})
    with pytest.raises(ModelFileError, match=r"its token '<\|endoftext\|>' is number 0, and number 3 where"):
        huggingface.read(folder)


def test_what_the_configuration_puts_around_a_text_stands_there(written: Any) -> None:
    folder, _, _ = written("llama")
    for flags in ({"add_bos_token": True, "add_eos_token": True}, {"add_bos_token": False, "add_eos_token": False}):
        changed(folder, "tokenizer_config.json", **flags)
        theirs = hf.PreTrainedTokenizerFast.from_pretrained(folder)
        ours = tokens(folder)
        for text in TEXTS:
            assert ours(text) == theirs(text)["input_ids"]
    byte_pairs(folder, ["<|endoftext|>", "<s>", "</s>"])
    resized("llama", folder, len(json.loads((folder / "vocab.json").read_text())))
    changed(folder, "tokenizer_config.json", tokenizer_class="GPT2Tokenizer", add_bos_token=True, bos_token="<s>")
    theirs = hf.GPT2Tokenizer.from_pretrained(folder)
    ours = tokens(folder)
    assert [ours(text) for text in TEXTS] == [theirs(text)["input_ids"] for text in TEXTS]
    assert ours("a")[0] == 1


def test_the_configuration_decides_on_cases(written: Any) -> None:
    folder, _, words = written("bert")
    words.save_pretrained(folder)  # tokenizer.json, which makes letters small
    (folder / "vocab.txt").unlink(missing_ok=True)
    changed(folder, "tokenizer_config.json", do_lower_case=False)
    theirs = hf.BertTokenizerFast.from_pretrained(folder)
    ours = tokens(folder)
    assert ours("The room") != ours("the room")
    for text in TEXTS:
        assert ours(text) == theirs(text)["input_ids"]


def test_what_nothing_honours_is_refused_by_name(written: Any) -> None:
    folder, _, _ = written("qwen2")
    kept = Path(shutil.copytree(folder, folder.with_name("kept")))
    for file, fields, message in [
        ("config.json", {"residual_multiplier": 0.2}, r"config.json says residual_multiplier: '0.2', which nothing"),
        ("config.json", {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "partial_rotary"),
        ("tokenizer_config.json", {"replacement": "_"}, r"tokenizer_config.json says replacement: '_', which nothing"),
    ]:
        shutil.copy(kept / file, folder / file)
        with pytest.raises(ModelFileError, match=message):
            huggingface.read(changed(folder, file, **fields))
        shutil.copy(kept / file, folder / file)
    huggingface.read(changed(folder, unsloth_version="2026.1", torch_dtype="bfloat16", residual_multiplier=False))


def test_how_text_is_drawn_is_said_to_be_left_out(written: Any) -> None:
    folder, _, _ = written("qwen2")
    changed(folder, "generation_config.json", top_p=0.8, repetition_penalty=1.05, suppress_tokens=[5], max_length=20)
    model = huggingface.read(folder)
    (left,) = model.provenance["stages"][0]["left_out"]
    assert left == "generation_config.json (max_length: 20, repetition_penalty: 1.05, top_p: 0.8)"
    assert worlds.Sides.of(model, "text").special.never == (5,)


def test_padding_that_is_seen_stands_where_it_is_said(tmp_path: Path) -> None:
    """SigLIP sees it. Its classes also make letters small, where their file does not."""
    checkpoints.write("siglip", tmp_path)
    whole = json.loads((tmp_path / "tokenizer.json").read_text())
    del whole["normalizer"]["normalizers"][0]
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
    changed(tmp_path, "tokenizer_config.json", tokenizer_class="SiglipTokenizer")
    model = huggingface.read(tmp_path, "text")
    sides = worlds.Sides.of(model, "text")
    assert sides.encode("SMALL boat!")["id"].tolist() == sides.encode("small boat")["id"].tolist()
    segment = sides.segment(worlds.content_of(sides, ["small boat", "", "a " * 99]), Role.GIVEN, worlds.keys(3))
    own, end = sides.encode("small boat")["id"].tolist(), 1
    assert segment.lens.tolist() == [48] * 3
    rows = segment.content["id"].reshape(3, 48).tolist()
    assert rows[0] == [*own, *[end] * (48 - len(own))] and rows[1] == [end] * 48 and rows[2].count(end) == 1
    changed(tmp_path, "tokenizer_config.json", padding_side="left")
    with pytest.raises(ModelFileError, match="says padding_side: 'left', and its model sees padding"):
        huggingface.read(tmp_path, "text")


# -- configurations and weights ------------------------------------------------------------------------------
def their_class(kind: str) -> Any:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    own = {
        "clip_text_model": hf.CLIPTextConfig,
        "clip_vision_model": hf.CLIPVisionConfig,
        "siglip_text_model": hf.SiglipTextConfig,
        "siglip_vision_model": hf.SiglipVisionConfig,
        "chinese_clip_text_model": hf.ChineseCLIPConfig().text_config.__class__,
        "chinese_clip_vision_model": hf.ChineseCLIPConfig().vision_config.__class__,
    }
    return own.get(kind) or CONFIG_MAPPING[kind]


@pytest.mark.parametrize("kind", FAMILIES)
def test_what_a_configuration_does_not_say_means_what_it_means_there(kind: str) -> None:
    theirs = {f.name: f.default for f in dataclasses.fields(their_class(kind))}
    for name, value in FAMILIES[kind].defaults.items():
        assert theirs.get(name) == value, (name, value, theirs.get(name))


@pytest.mark.parametrize(("kind", "name"), [("llama", "LlamaModel"), ("qwen3", "Qwen3Model")])
def test_a_decoder_without_its_read_out_is_read(tmp_path: Path, kind: str, name: str) -> None:
    """Its tensors have no prefix. It has nothing to write with."""
    checkpoints.write(kind, tmp_path)
    reference = getattr(hf, name).from_pretrained(tmp_path).eval()
    reference.save_pretrained(tmp_path)
    assert "layers.0.self_attn.q_proj.weight" in load_tensors(tmp_path / "model.safetensors")
    words = hf.AutoTokenizer.from_pretrained(tmp_path)
    model = huggingface.read(tmp_path)
    assert model.tasks == []
    store = worlds.store_of(model, {"text": TEXTS})
    batch = worlds.batch(store, range(len(TEXTS)), ["text"], [], given_causal=True)
    for (row, _), h in worlds.states_by_document(model, batch).items():
        with torch.no_grad():
            expected = reference(torch.tensor([words(TEXTS[row])["input_ids"]])).last_hidden_state[0]
        torch.testing.assert_close(h, expected[: len(h)], **CLOSE)


def test_a_chinese_gpt2_with_the_tokenizer_of_bert_is_read(tmp_path: Path) -> None:
    words = checkpoints.word_pieces(tmp_path)
    torch.manual_seed(0)
    config = hf.GPT2Config(vocab_size=len(words), n_positions=48, n_embd=32, n_layer=2, n_head=4,
                           bos_token_id=None, eos_token_id=None)  # fmt: skip
    reference = hf.GPT2LMHeadModel(config).eval()
    reference.save_pretrained(tmp_path)
    changed(tmp_path, tokenizer_class="BertTokenizer", bos_token_id=None, eos_token_id=None)
    (tmp_path / "generation_config.json").unlink(missing_ok=True)
    model = huggingface.read(tmp_path)
    sides = worlds.Sides.of(model, "text")
    assert sides.tokenizer.id_to_token(sides.special.start) == "[CLS]"
    assert sides.tokenizer.id_to_token(sides.special.end) == "[SEP]"
    text = "房间很干净，服务员"
    (answer,) = model.answer({"text": [text]}, "text", sampling=Sampling(max_length=12), prompted=True)
    ids = torch.tensor([words(text)["input_ids"][:-1]])
    out = reference.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False,
                             eos_token_id=sides.special.end, pad_token_id=0)  # fmt: skip
    assert answer.value == words.decode(out[0], skip_special_tokens=True)


def test_a_part_of_a_configuration_may_leave_defaults_out(tmp_path: Path) -> None:
    checkpoints.write("clip", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for part in ("text_config", "vision_config"):
        for name in ("layer_norm_eps", "hidden_act", "num_channels", "attention_dropout"):
            config[part].pop(name, None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    for tower in ("text", "image"):
        trunk = huggingface.read(tmp_path, tower).network.trunk.config
        assert trunk.eps == 1e-5 and trunk.activation == "quick_gelu"
    changed(tmp_path, text_config_dict={"hidden_act": "gelu"})  # of old files, which counts
    assert huggingface.read(tmp_path, "text").network.trunk.config.activation == "gelu"
    assert hf.CLIPConfig.from_pretrained(tmp_path).text_config.hidden_act == "gelu"


def test_a_read_out_that_should_be_there_and_is_not_is_missed(tmp_path: Path) -> None:
    checkpoints.write("untied", tmp_path)
    state = load_tensors(tmp_path / "model.safetensors")
    assert state.pop("cls.predictions.decoder.weight") is not None
    save_tensors(tmp_path / "model.safetensors", state)
    with pytest.raises(ModelFileError, match=r"lacks the matrix of its read-out .*tie_word_embeddings: false"):
        huggingface.read(tmp_path)


# -- pictures ------------------------------------------------------------------------------------------------
PICTURE = Pillow.fromarray(np.random.default_rng(0).integers(0, 256, (31, 22, 3), dtype=np.uint8))


def seen(folder: Path) -> torch.Tensor:
    model = huggingface.read(folder)
    batch = worlds.batch(worlds.store_of(model, {"image": [PICTURE]}), [0], ["image"], [])
    (h,) = worlds.states_by_document(model, batch).values()
    return h


@pytest.mark.parametrize(
    "fields",
    [
        {"do_rescale": False},
        {"rescale_factor": 1 / 127.5},
        {"do_normalize": False},
        {"do_rescale": False, "do_normalize": False},
        {"resample": 3},
        {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.3, 0.2, 0.1]},
    ],
    ids=str,
)
@pytest.mark.parametrize("file", ["preprocessor_config.json", "processor_config.json"])
def test_pictures_are_prepared_as_the_files_say(written: Any, fields: dict[str, Any], file: str) -> None:
    folder, reference, _ = written("vit")
    said = {**json.loads((folder / "preprocessor_config.json").read_text()), **fields}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    theirs = hf.ViTImageProcessorPil.from_pretrained(folder)
    if file == "processor_config.json":
        (folder / "preprocessor_config.json").unlink()
        (folder / file).write_text(json.dumps({"processor_class": "ViTProcessor", "image_processor": said}))
    with torch.no_grad():
        expected = reference(**theirs(PICTURE, return_tensors="pt")).last_hidden_state[0]
    torch.testing.assert_close(seen(folder), expected, **CLOSE)


def test_what_nothing_does_to_pictures_is_refused(written: Any) -> None:
    folder, _, _ = written("vit")
    for fields, message in [
        ({"do_resize": False}, "says do_resize: False; only True can be read"),
        ({"do_pad": True}, "says do_pad: True; only False"),
        ({"crop_pct": 0.9}, "says crop_pct: '0.9', which nothing here honours"),
        ({"resample": 9}, "resampled by 9"),
    ]:
        kept = (folder / "preprocessor_config.json").read_text()
        with pytest.raises(ModelFileError, match=message):
            huggingface.read(changed(folder, "preprocessor_config.json", **fields))
        (folder / "preprocessor_config.json").write_text(kept)
    said = {"do_center_crop": True, "crop_size": {"height": 16, "width": 99}}
    for fields, message in (
        (said, "cut to {'height': 16, 'width': 99}"),
        ({"rescale_factor": 1e18}, "expected numbers"),
    ):
        (folder / "preprocessor_config.json").write_text(json.dumps({**json.loads(kept), **fields}))
        with pytest.raises(ModelFileError, match=message):
            huggingface.read(folder)
    for step in ("do_resize", "do_rescale", "do_normalize"):
        (folder / "preprocessor_config.json").write_text(json.dumps({**json.loads(kept), step: None}))
        with pytest.raises(ModelFileError, match=f"says {step}: null, which one class of transformers reads as false"):
            huggingface.read(folder)


USUAL = {
    "vit": "ViTImageProcessorPil",
    "deit": "DeiTImageProcessorPil",
    "vit_mae": "ViTImageProcessorPil",
    "dinov2": "BitImageProcessorPil",
    "clip_vision_model": "CLIPImageProcessorPil",
    "siglip_vision_model": "SiglipImageProcessorPil",
    "chinese_clip_vision_model": "ChineseCLIPImageProcessorPil",
}


@pytest.mark.parametrize("kind", USUAL)
def test_pictures_are_prepared_in_the_usual_way_where_no_file_says(kind: str) -> None:
    usual = FAMILIES[kind].preparation
    theirs = getattr(hf, USUAL[kind])().to_dict()
    for name in ("image_mean", "image_std", "resample"):
        assert np.array_equal(theirs[name], usual[name]), name
    cut = bool(theirs.get("do_center_crop"))
    assert cut == bool(usual.get("do_center_crop"))
    if cut:
        assert theirs["crop_size"]["height"] == usual["crop_size"]


@pytest.mark.parametrize(
    ("kind", "file", "fields"),
    [
        ("vit", "preprocessor_config.json", {"image_std": ["x", "y", "z"]}),
        ("vit", "preprocessor_config.json", {"image_std": [0.5, 0.5, 0.0]}),
        ("vit", "preprocessor_config.json", {"image_mean": [0.5] * 4}),
        ("vit", "preprocessor_config.json", {"rescale_factor": [1]}),
        ("vit", "preprocessor_config.json", {"size": "x"}),
        ("vit", "preprocessor_config.json", {"resample": [2]}),
        ("vit", "config.json", {"model_type": ["vit"]}),
        ("bert", "config.json", {"vocab_size": {"a": {"b": 1}}}),
        ("bert", "config.json", {"vocab_size": [["x"]]}),
        ("roberta", "config.json", {"vocab_size": 500.5}),
        ("qwen2", "config.json", {"use_sliding_window": True, "layer_types": [True, "full_attention"]}),
        ("qwen2", "config.json", {"use_sliding_window": True, "layer_types": [["x"], []]}),
    ],
    ids=str,
)
def test_values_of_another_kind_are_refused_plainly(
    tmp_path: Path, kind: str, file: str, fields: dict[str, Any]
) -> None:
    """Found by `bench edges`."""
    checkpoints.write(kind, tmp_path)
    told = json.loads((tmp_path / file).read_text())
    (tmp_path / file).write_text(json.dumps({**told, **fields}))
    with pytest.raises(ModelFileError, match=r"config\.json|its pictures (have|are resampled)"):
        huggingface.read(tmp_path)
