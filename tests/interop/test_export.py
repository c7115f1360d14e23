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
from tokenizers import Tokenizer

import onetrunk
from onetrunk.core.answer import Sampling
from onetrunk.core.calibration import Calibration
from onetrunk.core.errors import EvidenceError, UsageError
from onetrunk.data.ledger import Ledger
from onetrunk.data.prepare import encode
from onetrunk.data.table import read as table_of
from onetrunk.inference.model_folder import Model, Task
from onetrunk.interop import huggingface, onnx, onnx_parity
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


# -- Hugging Face --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("unit", ["bpe", "character"])
def test_a_text_model_opens_in_transformers_with_equal_logits_and_texts(
    tmp_path: Path, unit: str, capfd: pytest.CaptureFixture[str]
) -> None:
    transformers = pytest.importorskip("transformers")
    model = worlds.text_writer(TEXTS, unit=unit)
    found = onetrunk.export(model, {"note": TEXTS}, to="huggingface", out=str(tmp_path / "hf"), quiet=True)
    assert "Loading weights" not in capfd.readouterr().err, "it was told to be quiet"
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
    model = chatting(worlds.text_writer(TEXTS))
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

    refused(worlds.text_writer(TEXTS, bigrams=16), "embeds pairs of tokens")
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


# -- ONNX, of texts ------------------------------------------------------------------------------------------
def test_a_language_model_has_the_same_logits_in_onnx_runtime(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = worlds.text_writer(TEXTS)
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
