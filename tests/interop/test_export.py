"""Models leave: what other programs answer with them is what they answer here, or nothing is left behind."""

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
from onetrunk.core.answer import Sampling
from onetrunk.core.calibration import Calibration
from onetrunk.core.errors import EvidenceError, UsageError
from onetrunk.data.ledger import Ledger
from onetrunk.data.prepare import encode
from onetrunk.data.table import read as table_of
from onetrunk.inference.model_folder import Model, Task
from onetrunk.interop import gguf, huggingface, onnx, onnx_parity
from onetrunk.interop.huggingface import writer as hf_writer
from onetrunk.interop.parity import Parity
from onetrunk.storage.tensors import load_tensors, save_tensors

TEXTS = ["the red boat on the sea", "a green tree", "今天下雨了", "two blue birds, two red boats"] * 3
ROWS = {
    "review": [None if i == 5 else text for i, text in enumerate(TEXTS)],
    "nights": [None if i in (3, 5) else 1.5 * i for i in range(12)],
    "label": ["good", "bad", "so-so"] * 4,
    "price": [80.0 + i for i in range(12)],
}


def writer(**options: Any) -> Model:
    """A text-only model; `options` are of the text."""
    trunk = {**worlds.TRUNK, "heads": 4, "kv_heads": 2}
    model = worlds.model({"note": TEXTS}, {"note": "text"}, options={"note": options}, trunk=trunk, given="causal")
    with torch.no_grad():
        model.module("note").head.normal_(0, 0.5, generator=torch.Generator().manual_seed(3))
    model.tasks = [Task([], ["note"])]
    return model


# -- Hugging Face --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("unit", ["bpe", "character"])
def test_a_text_model_opens_in_transformers_with_equal_logits_and_texts(tmp_path: Path, unit: str) -> None:
    transformers = pytest.importorskip("transformers")
    model = writer(unit=unit)
    found = onetrunk.export(model, {"note": TEXTS}, to="huggingface", out=str(tmp_path / "hf"), quiet=True)
    assert found["worst_difference"] < 1e-5 and found["equal_answers"] == found["rows"] == len(TEXTS)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf").eval()
    assert type(theirs).__name__ == "Qwen3ForCausalLM"
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    prompts = ["the red", "a", "今天"]
    answers = model.answer({"note": prompts}, "note", sampling=Sampling(max_length=10), prompted=True)
    for prompt, answer in zip(prompts, answers, strict=True):
        asked = words(prompt, return_tensors="pt")
        out = theirs.generate(**asked, max_new_tokens=10, do_sample=False)
        assert words.decode(out[0], skip_special_tokens=True) == answer.value


ROUND_TRIPS = ["llama", "qwen3", "qwen2", "gpt2", "mistral", "phi3", "olmo2", "smollm3", "gemma3", "yarn", "linear"]
FILLING = ["bert", "roberta", "xlm-roberta", "distilbert", "albert", "modernbert", "untied"]


@pytest.mark.parametrize("kind", ROUND_TRIPS + FILLING)
def test_what_came_from_transformers_goes_back(tmp_path: Path, kind: str) -> None:
    checkpoints = pytest.importorskip("bench.trials.checkpoints")
    reference, words = checkpoints.write(kind, tmp_path / "in")
    onetrunk.import_(str(tmp_path / "in"), out=str(tmp_path / "ours"), quiet=True)
    told: dict[str, Any] = {"to": "huggingface", "ask": "text", "quiet": True}
    found = onetrunk.export(str(tmp_path / "ours"), {"text": TEXTS}, out=str(tmp_path / "out"), **told)
    assert found["worst_difference"] < 1e-5 and found["equal_answers"] == found["rows"] == len(TEXTS)
    again = type(reference).from_pretrained(tmp_path / "out").eval()
    ids = torch.arange(5, 25)[None]  # without padding, whose positions nobody uses
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, reference(ids).logits, atol=1e-5, rtol=1e-5)
    tokenizer = checkpoints.hf.AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in [*TEXTS, "Ünïcode 🦀", "a\nnew   line"]:
        assert tokenizer(text)["input_ids"] == words(text)["input_ids"]
    once_more = huggingface.read(tmp_path / "out")
    first = huggingface.read(tmp_path / "in")
    assert once_more.encoder("text").special == first.encoder("text").special
    assert once_more.provenance["stages"][0]["family"] == first.provenance["stages"][0]["family"]
    for name, tensor in first.network.state_dict().items():
        torch.testing.assert_close(once_more.network.state_dict()[name], tensor, atol=1e-6, rtol=1e-6)


PICTURED = ["vit", "deit", "vit_mae", "dinov2", "clip", "clip_vision", "siglip", "siglip_vision", "chinese_clip"]


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


def test_what_is_learnt_beside_a_checkpoint_goes_out_too(tmp_path: Path) -> None:
    """Its column's marker, which is nothing at first: into the read-out's own table, the positions, or the types."""
    checkpoints = pytest.importorskip("bench.trials.checkpoints")
    for kind in ("qwen2", "gpt2", "bert", "modernbert"):
        checkpoints.write(kind, tmp_path / kind)
        model = huggingface.read(tmp_path / kind)
        with torch.no_grad():
            model.network.marker("text").normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
        told: dict[str, Any] = {"to": "huggingface", "ask": "text", "quiet": True}
        found = onetrunk.export(model, {"text": TEXTS}, out=str(tmp_path / f"{kind}-out"), **told)
        assert found["worst_difference"] < 1e-5 and found["equal_answers"] == found["rows"]


def spoilt_json(path: Path, **fields: Any) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **fields}))


def test_the_gate_reads_back_all_that_was_written_for_transformers(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    model = chatting(writer())
    values = [*TEXTS[:2], [{"role": "user", "content": "a boat"}, {"role": "assistant", "content": "the sea"}]]

    def measured(spoil: Any) -> Parity:
        place = Path(tempfile.mkdtemp(dir=tmp_path))
        hf_writer.write(model, "note", place)
        spoil(place)
        return hf_writer.compare(model, "note", place, values)

    def nothing(place: Path) -> None: ...

    def no_start(place: Path) -> None:
        spoilt_json(place / "tokenizer.json", post_processor=None)

    def template(place: Path) -> None:
        told = json.loads((place / "tokenizer_config.json").read_text())["chat_template"]
        spoilt_json(place / "tokenizer_config.json", chat_template=told.replace("\n", " "))

    def merges(place: Path) -> None:
        content = json.loads((place / "tokenizer.json").read_text())
        content["model"]["merges"] = content["model"]["merges"][1:]
        (place / "tokenizer.json").write_text(json.dumps(content))

    def decoder(place: Path) -> None:
        spoilt_json(place / "tokenizer.json", decoder=None)

    def ends(place: Path) -> None:
        spoilt_json(place / "generation_config.json", eos_token_id=7)

    def one_number(place: Path) -> None:
        state = load_tensors(place / "model.safetensors")
        state["lm_head.weight"][-1, 0] += 1e-6
        save_tensors(place / "model.safetensors", state)

    measured(nothing).check(1e-4, "it")
    for spoil in (no_start, template, merges, decoder, ends, one_number):
        with pytest.raises(EvidenceError, match="does not hold what was written"):
            measured(spoil).check(1e-4, "it")


def chatting(model: Model) -> Model:
    model.encoder("note").learnt_conversations = True
    return model


def test_what_the_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    def refused(model: Model, message: str, ask: str = "note") -> None:
        with pytest.raises(UsageError, match=message):
            onetrunk.export(
                model, {**ROWS, "note": TEXTS}, to="huggingface", ask=ask, out=str(tmp_path / "x"), quiet=True
            )
        assert not (tmp_path / "x").exists()

    refused(writer(bigrams=16), "embeds pairs of tokens")
    relu2 = worlds.model({"note": TEXTS}, {"note": "text"}, trunk={**worlds.TRUNK, "activation": "relu2"})
    refused(relu2, "has activation 'relu2'; the Hugging Face format that is written needs 'swiglu'")
    lstm = worlds.model({"note": TEXTS}, {"note": "text"}, trunk={"kind": "lstm", "width": 16, "layers": 1})
    refused(lstm, "has kind 'lstm'")
    refused(worlds.model(ROWS, {"label": "category", "review": "text"}), "is neither text nor pictures", "label")


# -- ONNX ----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def answering() -> Model:
    kinds = {"review": "text", "nights": "number", "label": "category", "price": "number"}
    model = worlds.model(ROWS, kinds, trunk={**worlds.TRUNK, "layers": 1})
    model.tasks = [Task(["review", "nights"], ["label"])]
    model.module("label").calibration = Calibration(100, "validation rows", temperature=0.5, doubt=0.1)
    model.module("price").calibration = Calibration(100, "validation rows", spread=1.5)
    return model


def test_one_shot_answers_are_the_same_in_onnx_runtime(tmp_path: Path, answering: Model) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    place = tmp_path / "onnx"
    given = ["review", "nights"]
    found = onetrunk.export(answering, ROWS, to="onnx", out=str(place), quiet=True)
    assert found["worst_difference"] < 1e-4 and found["rows"] == found["equal_answers"] == 11  # one has nothing given
    assert json.loads((place / "export.json").read_text()) == found
    session = onnxruntime.InferenceSession(place / "model.onnx", providers=["CPUExecutionProvider"])
    (row,) = answering.answer({"review": [TEXTS[0]]}, "label", given)
    # By hand, for one row of another length, with nothing of onetrunk: the tokens, where they stand, and no nights.
    from tokenizers import Tokenizer

    ids = np.array(Tokenizer.from_file(str(place / "review.tokenizer.json")).encode(TEXTS[0]).ids)
    feed = {"gather": np.arange(len(ids))[None], "pos": np.arange(len(ids))[None], "review.id": ids.astype(np.int32)}
    none = {"nights.value": np.zeros(0, np.float32), "nights.hidden": np.zeros(0, bool)}
    outputs = dict(zip([o.name for o in session.get_outputs()], session.run(None, {**feed, **none}), strict=True))
    classes = json.loads((place / "columns.json").read_text())["label"]["knowledge"]["classes"]
    for name, p in zip(classes, outputs["label.p"][0], strict=True):
        assert row.probability[name] == pytest.approx(float(p), abs=1e-5)
    assert outputs["row.embedding"].shape == (1, answering.network.width)


@pytest.mark.parametrize("given", [["image"], ["word", "image"]])
@pytest.mark.parametrize("ask", ["boxes", "label"])
def test_what_is_read_on_another_column_is_the_same_in_onnx_runtime(tmp_path: Path, given: list[str], ask: str) -> None:
    """Boxes on a picture that one row lacks; a class on the last token of texts of different lengths."""
    pytest.importorskip("onnxruntime")
    rows = {
        "image": [None if i == 4 else worlds._picture(i) for i in range(12)],
        "word": ["red", "blue", "a longer text"] * 4,
        "boxes": [worlds._scene(i) for i in range(12)],
        "label": ["x", "y"] * 6,
    }
    kinds = {"image": "image", "word": "text", "boxes": "boxes", "label": "category"}
    options = {"label": {"on": "word"}, "boxes": {"min_score": 0.005, "max_boxes": 9}}
    model = worlds.model(rows, kinds, trunk={**worlds.TRUNK, "layers": 1}, options=options)
    with torch.no_grad():
        for kernel in (model.module("boxes").dense.kind, model.module("label").head):
            kernel.normal_(0, 0.5, generator=torch.Generator().manual_seed(1))
    told: dict[str, Any] = {"to": "onnx", "ask": ask, "given": given, "quiet": True}
    if ask == "label" and "word" not in given:
        with pytest.raises(UsageError, match="read on the column 'word', which is not given: --given word"):
            onetrunk.export(model, rows, out=str(tmp_path / "onnx"), **told)
        return
    found = onetrunk.export(model, rows, out=str(tmp_path / "onnx"), **told)
    assert found["worst_difference"] < 1e-4
    assert found["rows"] == found["equal_answers"] == (12 if "word" in given else 11)
    answers = model.answer(rows, ask, given)  # there is something to differ in:
    if ask == "boxes":
        assert [len(answer.value) for answer in answers] == [0 if i == 4 else 9 for i in range(12)]
    else:
        assert len({answer.probability["x"] for answer in answers}) > 2


# -- GGUF ----------------------------------------------------------------------------------------------------
def test_a_text_model_goes_on_in_llama_cpp_as_it_does_here(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    llama = pytest.importorskip("xllamacpp")
    model = writer()
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


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3", "gpt2"])
def test_what_came_from_transformers_goes_on_in_llama_cpp(tmp_path: Path, kind: str) -> None:
    checkpoints = pytest.importorskip("bench.trials.checkpoints")
    pytest.importorskip("gguf")
    pytest.importorskip("xllamacpp")
    checkpoints.write(kind, tmp_path / "in")
    if kind == "llama":  # its rotations are longer, which is not written
        with pytest.raises(UsageError, match="without rope_scaling"):
            onetrunk.export(huggingface.read(tmp_path / "in"), {"text": TEXTS}, to="gguf", quiet=True)
        config = json.loads((tmp_path / "in" / "config.json").read_text())
        spoilt_json(tmp_path / "in" / "config.json", rope_parameters={"rope_theta": 1e4}, rope_scaling=None)
        assert config["attention_bias"]
    onetrunk.import_(str(tmp_path / "in"), out=str(tmp_path / "ours"), quiet=True)
    found = onetrunk.export(str(tmp_path / "ours"), {"text": TEXTS}, to="gguf", out=str(tmp_path / "gguf"), quiet=True)
    assert found["worst_difference"] < 1e-3  # llama.cpp has GPT-2's activation from a table of 16 bits
    assert found["equal_answers"] == found["rows"] > 3


def test_the_gate_reads_back_the_whole_gguf_file(tmp_path: Path) -> None:
    library = pytest.importorskip("gguf")
    pytest.importorskip("xllamacpp")
    model = writer()
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
            onetrunk.export(writer(**options), {"note": TEXTS}, to="gguf", out=str(tmp_path / "x"), quiet=True)
    assert not (tmp_path / "x").exists()


# -- ONNX, of texts ------------------------------------------------------------------------------------------
def test_a_language_model_has_the_same_logits_in_onnx_runtime(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = writer()
    onetrunk.export(model, {"note": TEXTS}, to="onnx", out=str(tmp_path / "onnx"), quiet=True)
    onetrunk.export(model, {"note": TEXTS}, to="huggingface", out=str(tmp_path / "hf"), quiet=True)
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "model.onnx", providers=["CPUExecutionProvider"])
    theirs = pytest.importorskip("transformers").AutoModelForCausalLM.from_pretrained(tmp_path / "hf").eval()
    for shape in ((1, 1), (3, 7)):
        ids = np.random.default_rng(0).integers(4, model.encoder("note").size, shape)
        with torch.no_grad():
            expected = theirs(torch.from_numpy(ids)).logits.numpy()
        np.testing.assert_allclose(session.run(None, {"ids": ids})[0], expected, atol=1e-4)


def test_eight_bits_are_smaller_and_the_gate_is_closed_to_what_differs(tmp_path: Path, answering: Model) -> None:
    pytest.importorskip("onnxruntime")
    common = {"to": "onnx", "quiet": True, "ask": "price", "given": ["review", "nights"]}
    exact = onetrunk.export(answering, ROWS, out=str(tmp_path / "fp32"), **common)
    assert exact["worst_difference"] < 1e-4 and exact["rows"] == exact["equal_answers"]
    found = onetrunk.export(answering, ROWS, out=str(tmp_path / "int8"), int8=True, **common)
    sizes = [(tmp_path / name / "model.onnx").stat().st_size for name in ("fp32", "int8")]
    assert sizes[1] < sizes[0] and 1e-4 < found["worst_difference"] < 0.2
    common["ask"] = "embedding"
    with pytest.raises(EvidenceError, match="does not answer as the model does") as error:
        onetrunk.export(answering, ROWS, out=str(tmp_path / "strict"), int8=True, tolerance=1e-4, **common)
    assert error.value.exit_code == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fp32", "int8"]


def test_embeddings_alone_are_written(tmp_path: Path, answering: Model) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    told: dict[str, Any] = {"to": "onnx", "ask": "embedding", "given": ["review", "nights"], "quiet": True}
    found = onetrunk.export(answering, ROWS, out=str(tmp_path / "onnx"), **told)
    assert found["worst_difference"] < 1e-4 and found["rows"] == found["equal_answers"] == 11
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "model.onnx", providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["row.embedding"]
    assert json.loads((tmp_path / "onnx" / "export.json").read_text()) == found


def test_what_takes_many_steps_is_refused(tmp_path: Path) -> None:
    rows = {"picture": [worlds._drawing(i) for i in range(12)], "label": ["a", "b"] * 6}
    model = worlds.model(rows, {"picture": "image", "label": "category"})
    with pytest.raises(UsageError, match="takes many steps"):
        onetrunk.export(model, rows, to="onnx", ask="picture", out=str(tmp_path / "x"), quiet=True)
    with pytest.raises(UsageError, match=r"Unknown format 'onix'. Did you mean 'onnx'\?"):
        onetrunk.export(model, rows, to="onix", ask="label", out=str(tmp_path / "x"), quiet=True)


def test_parity_is_relative_and_nan_never_passes() -> None:
    parity = Parity()
    parity.add(np.array([3.0, 4.0]), np.array([3.0, 4.5]))
    assert parity.worst == pytest.approx(0.5 / (12.5**0.5))
    parity.check(0.2, "it")
    parity.add(np.array([1.0]), np.array([np.nan]))
    with pytest.raises(EvidenceError, match="differ by inf"):
        parity.check(1e9, "it")


def test_answers_that_differ_are_no_parity_but_where_the_model_hardly_prefers_its_own() -> None:
    parity = Parity()
    parity.answer("yes", "yes")
    parity.answer("yes", "no", gap=0.001)
    parity.check(0.001, "it")
    parity.answer("yes", "no", gap=0.01)
    with pytest.raises(EvidenceError, match="2 of 3 answers differ, such as 'no' where the model says 'yes'"):
        parity.check(0.001, "it")
    parity = Parity()
    parity.answer("yes", "maybe", gap=float("nan"))
    with pytest.raises(EvidenceError, match="1 of 1 answers differ"):
        parity.check(0.001, "it")


def test_the_gate_reads_back_all_that_was_written_as_onnx(tmp_path: Path, answering: Model) -> None:
    """A file beside the graph decides what an answer means."""
    pytest.importorskip("onnxruntime")
    table, given = table_of(ROWS), ["review", "nights"]
    columns = [answering.columns[name] for name in given]
    store = encode(table, columns, answering.network.encoders, Ledger())
    onnx.write(answering, "label", given, store, tmp_path, False)
    kept = (tmp_path / "columns.json").read_text()

    def measured(change: Any) -> Parity:
        content = json.loads(kept)
        change(content)
        (tmp_path / "columns.json").write_text(json.dumps(content))
        return onnx_parity.compare(answering, "label", given, table, tmp_path)

    measured(lambda content: None).check(1e-3, "it")

    def reversed_classes(content: dict[str, Any]) -> None:
        content["label"]["knowledge"]["classes"].reverse()

    def rescaled(content: dict[str, Any]) -> None:
        content["nights"]["knowledge"] = {**content["nights"]["knowledge"], "centre": 7.0}

    def no_classes(content: dict[str, Any]) -> None:
        del content["label"]["knowledge"]["classes"]

    for change in (reversed_classes, rescaled, no_classes):
        with pytest.raises(EvidenceError):
            measured(change).check(1e-3, "it")
    (tmp_path / "columns.json").write_text(kept)
    words = json.loads((tmp_path / "review.tokenizer.json").read_text())
    words["model"]["merges"] = words["model"]["merges"][1:]
    (tmp_path / "review.tokenizer.json").write_text(json.dumps(words))
    parity = onnx_parity.compare(answering, "label", given, table, tmp_path)
    with pytest.raises(EvidenceError, match="make something else of the values of 'review'"):
        parity.check(1e-3, "it")
