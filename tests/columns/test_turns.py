"""Conversations: only the assistant's turns are learnt, with their ends, and an answer is the next of them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import worlds

import onetrunk
from onetrunk.columns.families.tokens.special_tokens import END, START
from onetrunk.core.answer import Sampling
from onetrunk.core.content import Role
from onetrunk.core.errors import BadValueError, DataError
from onetrunk.data.table import Table, infer_types
from onetrunk.evaluation.gather import gather_evidence

Text = partial(worlds.Sides, "text")


def talk(*contents: str, system: str | None = None) -> list[dict[str, str]]:
    """A user and the assistant by turns."""
    result = [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]
    return result if system is None else [{"role": "system", "content": system}, *result]


TALKS = [talk("ab", "ba"), talk("cd", "dc", "abc", "cba"), talk("b", "b", system="turn it round")]


def fitted(values: list[Any], **options: Any) -> Any:
    sides = Text({"unit": "character", **options})
    sides.fit(values)
    return sides


def ids(sides: Any, text: str) -> list[int]:
    return sides.encode(text)["id"].tolist()


def test_replies_and_their_ends_are_learnt_and_nothing_else() -> None:
    sides = fitted(TALKS)
    segment = sides.segment(worlds.content_of(sides, TALKS[1:2]), Role.ASKED, worlds.keys(1))
    user, assistant = ids(sides, "user\n"), ids(sides, "assistant\n")
    turns = [(user, "cd"), (assistant, "dc"), (user, "abc"), (assistant, "cba")]
    written = [token for role, content in turns for token in (START, *role, *ids(sides, content), END)]
    assert segment.content["id"].tolist() == written[:-1] and segment.targets["id"].tolist() == written[1:]
    learnt = segment.targets["id"][segment.targets["w"] > 0].tolist()
    assert learnt == [*ids(sides, "dc"), END, *ids(sides, "cba"), END]


def test_one_that_waits_for_a_reply_opens_it_and_teaches_no_end() -> None:
    sides = fitted(TALKS)
    waiting, answered = (sides.encode(talk(*message)) for message in (("ab",), ("ab", "ba")))
    opened = waiting["id"].tolist()
    assert opened == [*ids(sides, "user\nab"), END, START, *ids(sides, "assistant\n")]
    assert answered["id"].tolist()[: len(opened)] == opened
    segment = sides.segment(worlds.content_of(sides, [talk("ab"), ""]), Role.ASKED, worlds.keys(2))
    assert segment.targets["w"].tolist() == [0.0] * (len(opened) + 1) + [1.0], "the end of an empty text is its all"


def test_what_is_no_turn_is_said() -> None:
    sides = fitted(TALKS)
    for value, message in (
        ([{"author": "human", "text": "hi"}], "turn 0 .* found .*author"),
        ([{"role": "user", "content": "hi"}, {"role": "assistant", "content": ""}], "turn 1 .* 0 characters"),
        ([{"role": "user"}], "turn 0"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "turn 0 .*no text .image_url.: put"),
        ([{"role": "assistant", "tool_calls": [{"id": "1"}]}], "turn 0 .*a tool without a name"),
        ([{"role": "a b", "content": "hi"}], "'a b'"),
    ):
        with pytest.raises(BadValueError, match=message):
            sides.encode(value)
    with pytest.raises(BadValueError, match="fine-tune it on conversations"):
        fitted(["ab"]).encode(TALKS[0])


CALL = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ([{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yes"}], [("user", "hi"), ("assistant", "yes")]),
        ([{"role": "user", "parts": [{"text": "hi"}]}, {"role": "model", "parts": ["yes"]}],
         [("user", "hi"), ("assistant", "yes")]),
        ([{"role": "user", "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}], "name": "bo"}],
         [("user", "hi")]),
        ([{"role": "assistant", "content": None, "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}]},
          {"role": "tool", "content": "r", "tool_call_id": "1"}], [("assistant", CALL), ("tool", "r")]),
        ([{"role": "assistant", "content": "so", "function_call": {"name": "f", "arguments": {"x": 1}}}],
         [("assistant", f"so\n{CALL}")]),
        ([{"from": "system", "value": "s", "weight": 0.5}, {"from": "observation", "value": "o"}],
         [("system", "s"), ("tool", "o")]),
        ([{"role": "user", "content": "hi", "tool_calls": None, "name": None}], [("user", "hi")]),  # as Parquet has it
    ],
)  # fmt: skip
def test_the_forms_of_the_field_mean_the_same(value: Any, meant: list[tuple[str, str]]) -> None:
    sides = fitted(TALKS)
    same = [{"role": role, "content": content} for role, content in meant]
    assert sides.encode(value)["id"].tolist() == sides.encode(same)["id"].tolist()
    assert sides.encoder.plain([value, None, "text"]) == [same, None, "text"]
    assert sides.show(value) == sides.show(same)
    assert infer_types(Table({"messages": [value] * 3})) == {"messages": "text"}


def test_what_conversations_lack_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="turn 1 of a conversation must be"):
        fitted([[{"role": "user", "content": "a"}, {"role": "assistant"}]])
    rows = {"messages": [[{"role": "anna", "content": w}, {"role": "ben", "content": w}] for w in "abcdefghij"]}
    with pytest.raises(DataError, match="'messages' teaches nothing: no conversation has a turn of 'assistant'"):
        onetrunk.finetune(rows, ask=["messages"], out=str(tmp_path / "m"), size="nano", split="random", quiet=True)


@pytest.mark.parametrize("unit", ["bpe", "character"])
def test_the_type_is_found_and_what_was_learnt_travels(unit: str) -> None:
    assert infer_types(Table({"messages": TALKS})) == {"messages": "text"}
    sides = fitted(TALKS, unit=unit)
    again = Text({"unit": unit})
    again.set_knowledge(json.loads(json.dumps(sides.knowledge())))
    assert all(np.array_equal(again.encode(t)["id"], sides.encode(t)["id"]) for t in TALKS)
    plain = fitted(["abcd user assistant system:\n"], unit=unit)
    plain.extend(TALKS)
    assert plain.learnt_conversations and "conversations" in plain.knowledge()
    assert sides.show(TALKS[0]) == {"text": "user: ab\nassistant: ba"}
    assert sides.split(TALKS[1]) == (TALKS[1][:3], "cba") and sides.split("ab") == (None, "ab")


@pytest.fixture(scope="module")
def parrot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Learnt to say a word again, after having learnt such texts; by characters, as a causal model."""
    place = tmp_path_factory.mktemp("turns")
    letters = "abcdef"
    words = [a + b for a in letters for b in letters]
    texts = {"text": [f"user assistant\n{w} {w}" for w in words]}
    options = ["size=nano", "attention=causal", "train.tensorboard=false", "pretrain.steps=4"]
    columns = {"text": {"type": "text", "unit": "character", "length": 48}}
    onetrunk.pretrain(
        texts, out=str(place / "base"), settings=options, config={"columns": columns}, split="random:90/5/5", quiet=True
    )
    talks = [talk(a, a, b, b) for a in words for b in words[::5]]
    onetrunk.finetune(
        {"messages": talks}, ask=["text"], map={"text": "messages"}, start=str(place / "base"), out=str(place / "m"),
        settings=["train.tensorboard=false", "finetune.steps=150", "finetune.rate=1.0"], split="random:98/1/1",
        quiet=True,
    )  # fmt: skip
    return place / "m"


def test_a_pretrained_text_learns_to_converse(parrot: Path, tmp_path: Path) -> None:
    model = onetrunk.load(parrot)
    asked = [talk("ab"), talk("fe"), talk("ab", "ab", "dc")]
    rows = {"text": asked}
    assert onetrunk.predict(model, rows, quiet=True)["text"].tolist() == ["ab", "fe", "dc"]
    (started,) = model.answer({"text": [talk("ab", "a")]}, "text", [])
    assert started.value == "ab", "a reply that was begun goes on"
    drawn = onetrunk.generate(model, data=json.dumps({"text": talk("ca")}), n=3, temperature=0.1, quiet=True)
    assert drawn["text"].tolist() == ["ca"] * 3
    options = onetrunk.predict(model, rows, out=str(tmp_path / "out.jsonl"), quiet=True)
    assert options["text"].tolist() == ["ab", "fe", "dc"]
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert written[2]["text_true"] == asked[2] and written[2]["text"] == "dc"


def test_conversations_are_judged_by_how_likely_their_replies_are(parrot: Path) -> None:
    fresh = {"text": [talk(w, w) for w in ("abc", "fed", "add", "bad")]}
    (task,) = onetrunk.evaluate(str(parrot), fresh, against={"text": TALKS}, quiet=True).tasks
    nats, parts = onetrunk.load(parrot).losses(fresh, "text", [])
    assert parts.tolist() == [4.0] * 4, "three letters and the end"
    assert task.metrics["bits_per_byte"] == pytest.approx(nats.sum() / np.log(2) / 12)


def test_beside_another_column_the_last_reply_is_asked_for() -> None:
    rows = {"topic": ["x", "y"] * 3, "chat": [*TALKS, *TALKS]}
    made = worlds.model(rows, {"topic": "category", "chat": "text"}, options={"chat": {"unit": "character"}})

    (task,) = gather_evidence(made, rows, [(["topic"], "chat")]).tasks
    assert task.metric == "exact_match" and task.rows == 6
    assert task.samples[0].given["chat"]["text"].startswith(("user", "system"))


def test_transformers_renders_and_answers_alike(parrot: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    exported = onetrunk.export(str(parrot), {"text": TALKS}, to="huggingface", out=str(tmp_path / "hf"), quiet=True)
    assert exported["equal_answers"] == exported["rows"] == len(TALKS)
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf").eval()
    text = words.apply_chat_template(talk("ea"), tokenize=False, add_generation_prompt=True)
    asked = words(text, add_special_tokens=False, return_tensors="pt")
    out = theirs.generate(**asked, max_new_tokens=8, do_sample=False)[0, asked["input_ids"].shape[1] :]
    (ours,) = onetrunk.load(parrot).answer({"text": [talk("ea")]}, "text", [], Sampling(max_length=8))
    assert words.decode(out, skip_special_tokens=True) == ours.value == "ea"


def test_the_end_of_a_long_answer_is_learnt_as_often_as_its_middle() -> None:
    text = "".join(chr(ord("a") + i) for i in range(26))
    sides = Text({"unit": "character", "length": 8})
    sides.fit([text])
    content = worlds.content_of(sides, [text] * 4000)
    targets = sides.segment(content, Role.ASKED, worlds.keys(4000), True).targets["id"]
    counts = torch.from_numpy(targets).bincount(minlength=sides.size).double() / 4000
    alike = 8 / (27 + 7)  # windows are drawn from so many places, of which each token lies in eight
    middle = counts[sides.encode(text)["id"][8:18].astype(np.int64)]
    assert (middle - alike).abs().max() < 0.03 and counts[END] > alike - 0.03
