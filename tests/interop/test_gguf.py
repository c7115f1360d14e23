"""A text that is written leaves as one GGUF file: llama.cpp goes on from it as the model does, or it is refused."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
import worlds
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

import onetrunk
from onetrunk.core.answer import Sampling
from onetrunk.core.errors import EvidenceError, UsageError
from onetrunk.inference.model_folder import Model
from onetrunk.interop import gguf, huggingface

TEXTS = ["the red boat on the sea", "a green tree", "今天下雨了", "two blue birds, two red boats"] * 3
LONG = [*TEXTS[:3], " ".join(TEXTS[:4])]  # one beyond what some rotations were first trained for


def spoilt_json(path: Path, **fields: Any) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **fields}))


def test_a_text_model_goes_on_in_llama_cpp_as_it_does_here(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    llama = pytest.importorskip("xllamacpp")
    model = worlds.text_writer(TEXTS)
    found = onetrunk.export(model, {"note": TEXTS}, to="gguf", out=str(tmp_path / "gguf"), quiet=True)
    assert found["worst_difference"] < 1e-4 and found["equal_answers"] == found["rows"] == len(TEXTS)
    told = llama.CommonParams()
    told.model.path, told.n_ctx, told.port, told.verbosity = str(tmp_path / "gguf" / "model.gguf"), 256, 0, -1
    there = llama.Server(told)
    for prompt in ("the red", "a", "今天", "two  blue\n birds"):
        (own,) = model.answer(
            {"note": [prompt]}, "note", sampling=Sampling(max_length=12, temperature=0), prompted=True
        )
        theirs = there.handle_completions({"prompt": prompt, "temperature": 0, "max_tokens": 12})
        text = theirs["choices"][0]["text"].replace("\ufffd", "")
        assert own.value.replace("\ufffd", "").removeprefix(prompt).startswith(text[:8])


IN_LLAMA_CPP = ["llama", "mistral", "qwen2", "qwen3", "gpt2", "yarn", "phi3", "linear", "olmo2", "smollm3", "gemma3"]


@pytest.mark.parametrize("kind", IN_LLAMA_CPP)
def test_what_came_from_transformers_goes_on_in_llama_cpp(tmp_path: Path, kind: str) -> None:
    checkpoints = pytest.importorskip("bench.trials.checkpoints")
    pytest.importorskip("gguf")
    pytest.importorskip("xllamacpp")
    checkpoints.write(kind, tmp_path / "in")
    onetrunk.import_(str(tmp_path / "in"), out=str(tmp_path / "ours"), quiet=True)
    found = onetrunk.export(str(tmp_path / "ours"), {"text": LONG}, to="gguf", out=str(tmp_path / "gguf"), quiet=True)
    assert found["worst_difference"] < 1e-3  # llama.cpp has GPT-2's activation from a table of 16 bits
    assert found["equal_answers"] == found["rows"] > 3


LLAMA3 = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16,
        "beta_fast": 4.0, "beta_slow": 0.5}  # fmt: skip
HALVES = {"rope_type": "longrope", "rope_theta": 1e4, "factor": 2.0, "original_max_position_embeddings": 60}


USUAL_YARN = {**YARN, "beta_fast": 32.0, "beta_slow": 1.0, "attention_factor": 1.3}
LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 3.0}
ONE_OF_TWO = {"full_attention": LINEAR, "sliding_attention": {"rope_type": "default", "rope_theta": 500.0}}


@pytest.mark.parametrize(
    ("kind", "fields", "refused"),
    [
        ("mistral", {"rope_parameters": {**YARN, "truncate": False, "attention_factor": 1.3}}, ""),
        ("qwen2", {"rope_parameters": LINEAR}, ""),
        ("olmo2", {"rope_parameters": USUAL_YARN}, ""),
        ("gemma3", {"rope_parameters": ONE_OF_TWO}, ""),
        ("qwen3", {"rope_parameters": YARN}, r"are YaRN's \(beta_fast 4, beta_slow 0.5, truncate true\), .* its QWEN3"),
        ("qwen3", {"rope_parameters": {**YARN, "truncate": False}}, r"are YaRN's .*truncate false\), .*in its QWEN3"),
        ("smollm3", {"rope_parameters": LLAMA3}, r"are Llama 3's, which llama.cpp has no place for in its SMOLLM3"),
        ("qwen3", {"rope_parameters": {**HALVES, "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}},
         r"are LongRoPE's, .*in its QWEN3"),
        ("gemma3", {"rope_parameters": {**ONE_OF_TWO, "full_attention": USUAL_YARN}},
         r"are YaRN's .*in its GEMMA3: expected linear ones\. "),
        ("smollm3", {"no_rope_layers": [1, 0, 1, 0]}, "rotary, none, rotary, none; .* every 4th has no positions"),
        ("gemma3", {"layer_types": ["full_attention", "sliding_attention"]}, "rotary, local; .* every n-th sees"),
        ("mistral", {"hidden_act": "gelu"}, "Its activation is geglu; that of llama.cpp's LLAMA is swiglu"),
    ],
)  # fmt: skip
def test_what_a_family_may_have_is_llama_cpps_or_refused(
    tmp_path: Path, kind: str, fields: dict[str, Any], refused: str
) -> None:
    checkpoints = pytest.importorskip("bench.trials.checkpoints")
    pytest.importorskip("gguf")
    pytest.importorskip("xllamacpp")
    checkpoints.write(kind, tmp_path / "in")
    spoilt_json(tmp_path / "in" / "config.json", **fields)
    model = huggingface.read(tmp_path / "in")
    told: dict[str, Any] = {"to": "gguf", "ask": "text", "out": str(tmp_path / "gguf"), "quiet": True}
    if refused:
        with pytest.raises(UsageError, match=refused):
            onetrunk.export(model, {"text": LONG}, **told)
        return
    found = onetrunk.export(model, {"text": LONG}, **told)
    assert found["worst_difference"] < 1e-3 and found["equal_answers"] == found["rows"] > 3


def test_a_bias_that_llama_cpp_has_no_place_for_is_refused(tmp_path: Path) -> None:
    hf, checkpoints = pytest.importorskip("transformers"), pytest.importorskip("bench.trials.checkpoints")
    pytest.importorskip("gguf")
    words = checkpoints.byte_level(["<unk>", "<s>", "</s>"])
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    biased = hf.Olmo2Config(vocab_size=words.get_vocab_size(), attention_bias=True, **ids, **checkpoints.GROUPED)
    model = hf.Olmo2ForCausalLM(biased)
    model.model.layers[1].self_attn.q_proj.bias.data[0] = 0.5  # where all are zero, they are left out
    model.save_pretrained(tmp_path)
    hf.PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>").save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"Its maps have biases \(attention_bias\), .* in its OLMO2"):
        gguf.write(huggingface.read(tmp_path), "text", tmp_path)


def sentence_pieces(style: str) -> Tokenizer:
    """As transformers makes one of a SentencePiece model: every way to make a piece of two others is a merge."""
    texts = [text.replace(" ", "▁") for text in TEXTS]
    letters = sorted({letter for text in texts for letter in text if ord(letter) < 128 or letter == "▁"})
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    made = ["th", "he", "▁t", "▁th", "▁the", "ed", "re", "red", "▁b", "oa", "oat", "▁boat", "▁s", "sea", "▁sea", "two"]
    vocabulary = {piece: i for i, piece in enumerate([*pieces, *made, *letters, "ea", "tw", "▁r", "▁red"])}
    made += ["ea", "tw", "▁r", "▁red"]
    splits = [(piece[:i], piece[i:]) for piece in made for i in range(1, len(piece))]
    merges = [pair for pair in splits if pair[0] in vocabulary and pair[1] in vocabulary]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    space = normalizers.Replace(" ", "▁")
    if style == "legacy":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), space])
    elif style == "gemma":
        tokenizer.normalizer = space
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=style == "split")
    spaced = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(spaced if style == "gemma" else [*spaced, decoders.Strip(" ", 1, 0)])
    around = "<s> $A"
    tokenizer.post_processor = processors.TemplateProcessing(single=around, special_tokens=[("<s>", 1)])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


def spelt_by(tokenizer: Tokenizer, folder: Path) -> Model:
    hf = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    rows = tokenizer.get_vocab_size() + 3
    written = hf.LlamaForCausalLM(hf.LlamaConfig(vocab_size=rows, max_position_embeddings=128, **sizes))
    for parameter in written.parameters():
        parameter.data.normal_(1.0 if parameter.ndim == 1 else 0.0, 0.2)
    written.save_pretrained(folder)
    fast = hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    fast.save_pretrained(folder)
    return huggingface.read(folder)


@pytest.mark.parametrize("style", ["first", "legacy", "gemma"])
def test_sentence_pieces_are_llama_cpps(tmp_path: Path, style: str) -> None:
    library = pytest.importorskip("gguf")
    pytest.importorskip("xllamacpp")
    model = spelt_by(sentence_pieces(style), tmp_path / "in")
    rows = [*TEXTS[:4], "two  boats, the sea", "Ünïcode 🦀 the red", "the\nred sea"]
    told: dict[str, Any] = {"to": "gguf", "ask": "text", "quiet": True}
    if style == "first":  # the one that puts no second space before one: llama.cpp does
        with pytest.raises(EvidenceError, match="does not answer as the model does"):
            onetrunk.export(model, {"text": [" the red boat"]}, out=str(tmp_path / "x"), **told)
    else:
        rows.append(" the red boat")
    found = onetrunk.export(model, {"text": rows}, out=str(tmp_path / "out"), **told)
    assert found["worst_difference"] < 1e-4 and found["equal_answers"] == found["rows"] == len(rows)
    fields = {name: f.contents() for name, f in library.GGUFReader(tmp_path / "out" / "model.gguf").fields.items()}
    said = {name.removeprefix("tokenizer.ggml."): value for name, value in fields.items()}
    assert said["model"] == "llama" and said["add_space_prefix"] == (style != "gemma") and "merges" not in said
    scores = dict(zip(said["tokens"], said["scores"], strict=True))
    assert scores["th"] > scores["▁th"] > scores["▁the"] > scores["▁red"] > scores["t"]
    kinds = dict(zip(said["tokens"], said["token_type"], strict=True))
    assert [kinds[token] for token in ("<unk>", "<s>", "<0x0A>", "▁the", "[PAD")[:4]] == [2, 3, 6, 1]


def test_sentence_pieces_that_llama_cpp_would_make_otherwise_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("gguf")

    def fewer(description: dict[str, Any]) -> None:
        description["model"]["merges"].pop()

    def mixed(description: dict[str, Any]) -> None:
        merges = description["model"]["merges"]
        merges.append(merges.pop(merges.index(["▁t", "he"])))

    def no_byte(description: dict[str, Any]) -> None:
        vocabulary = description["model"]["vocab"]
        vocabulary["<0x1Z>"] = vocabulary.pop("<0x0A>")

    def same(description: dict[str, Any]) -> None: ...

    for style, change, message in [
        ("split", same, "it normalises or splits a text in another way"),
        ("first", fewer, "its merges leave out how"),
        ("first", mixed, "its merges are not in the order of what they make"),
        ("first", no_byte, "some bytes have no token"),
    ]:
        description = json.loads(sentence_pieces(style).to_str())
        change(description)
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        model = spelt_by(Tokenizer.from_str(json.dumps(description)), folder)
        with pytest.raises(UsageError, match=rf"not one that is written as GGUF \({message}"):
            gguf.write(model, "text", folder)


def test_the_gate_reads_back_the_whole_gguf_file(tmp_path: Path) -> None:
    library = pytest.importorskip("gguf")
    pytest.importorskip("xllamacpp")
    model = worlds.text_writer(TEXTS)
    gguf.write(model, "note", tmp_path)
    gguf.compare(model, "note", tmp_path, TEXTS[:1]).check(1e-3, "it")
    found = library.GGUFReader(tmp_path / "model.gguf", "r+")
    (read_out,) = [tensor for tensor in found.tensors if tensor.name == "output.weight"]
    read_out.data[-1, 0] += 1e-6
    found.data.flush()
    with pytest.raises(EvidenceError, match=r"the tensor output.weight holds other numbers"):
        gguf.compare(model, "note", tmp_path, TEXTS[:1]).check(1e-3, "it")


def test_what_gguf_does_not_hold_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    for options, message in [({"unit": "character"}, "not one that is written as GGUF"), ({"bigrams": 9}, "bigrams")]:
        with pytest.raises(UsageError, match=message):
            onetrunk.export(
                worlds.text_writer(TEXTS, **options), {"note": TEXTS}, to="gguf", out=str(tmp_path / "x"), quiet=True
            )
    assert not (tmp_path / "x").exists()
