"""What a model without sense writes follows the grammar all the same."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema_rs
import numpy as np
import pytest
import torch
import worlds
from tokenizers import Tokenizer, decoders, models

from onetrunk.columns.text.spelling import bytes_of_tokens
from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.errors import UsageError
from onetrunk.core.grammar import Grammar
from onetrunk.inference.grammars import matcher_for
from onetrunk.inference.model_folder import Model
from onetrunk.inference.session import Session

TEXTS = [
    'The café was "warm" {and} clean: 12,5 [no].',
    "今天 三月 的 房间 很 暖和 🙂 true null false",
    "Ünïcode \\ and \t tabs, -3.5e2 numbers 0123456789",
]
CLOSED = {"type": "object", "additionalProperties": False}
TREE: dict[str, Any] = {
    "$defs": {
        "node": {
            **CLOSED,
            "properties": {"v": {"type": "boolean"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
            "required": ["v", "next"],
        }
    },
    "$ref": "#/$defs/node",
}
SCHEMAS: list[dict[str, Any]] = [
    {"enum": ["café", "三月", '"quoted" \\ 🙂', 3, -1.5, None, True, {"a": [1]}]},
    {"type": "integer", "minimum": -20, "maximum": 1000},
    {"type": "number", "minimum": 0.5, "maximum": 2.25, "multipleOf": 0.25},
    {"type": "string", "maxLength": 12},
    {"type": "string", "pattern": "^[A-Z][a-z]{2,5} [0-9]{3}$"},
    {"type": "string", "format": "date"},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
    {"type": ["boolean", "null"]},
    {
        **CLOSED,
        "properties": {
            "名": {"type": "string", "maxLength": 6},
            "kind": {"enum": ["warm", "cold"]},
            "size": {
                **CLOSED,
                "properties": {"w": {"type": "integer", "minimum": 1, "maximum": 99}},
                "required": ["w"],
            },
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 2},
        },
        "required": ["名", "kind", "size"],
    },
]
REGEXES = [r"[a-z]{2,6}@[a-z]{2,5}\.(com|org)", r"(三月|四月) \d{1,2}日?", "", r"a*b{3}", r"\(\d{3}\) \d{4}", "é|🙂{2}"]
BAD_SCHEMAS = [
    ({"type": "foo"}, "no JSON schema"),
    ({"enum": []}, "contradicts itself"),
    ({"type": "string", "minLength": 5, "maxLength": 2}, "contradicts itself"),
    ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "contradicts itself"),
    ({"$ref": "#"}, "no end"),
    ({"$ref": "https://example.com/schema"}, "no JSON schema"),
    ({"$ref": "file:///etc/passwd"}, "no JSON schema"),
    ({"not": {"type": "string"}}, "keywords"),
    ({"type": "array", "uniqueItems": True}, "keywords"),
    ({"type": "string", "pattern": "(?=x)y"}, "no JSON schema"),
    ({"enum": [f"v{i}" for i in range(9000)], "title": "x" * 90_000}, "at most 100,000 characters"),
]
BAD_REGEXES = [
    ("[", "no regular expression"),
    (r"(a)\1", "no regular expression"),
    ("(?<=x)y", "no regular expression"),
    ("(a{1000}){1000}", "too large"),
    ("a" * 100_001, "at most 100,000 characters"),
    ("a[^\\x00-\\U0010FFFF]", "contradicts itself"),
]


@pytest.fixture(scope="module", params=["bpe", "character"])
def writer(request: pytest.FixtureRequest) -> Model:
    torch.manual_seed(0)
    texts = [*TEXTS, *(json.dumps(schema, ensure_ascii=False) for schema in SCHEMAS), *REGEXES]
    if request.param == "character":
        texts += ["".join(map(chr, range(32, 127)))]
    return worlds.text_writer([text for text in texts if text] * 3, unit=request.param, length=512)


def answers(made: Model, count: int, **sampling: Any) -> list[Answer]:
    rows = {"note": [None] * count}
    return made.answer(rows, "note", [], Sampling(**{"max_length": 500, "temperature": 1.0, **sampling}))


@pytest.mark.parametrize("schema", [*SCHEMAS, TREE], ids=lambda schema: json.dumps(schema)[:40])
def test_json_follows_its_schema(writer: Model, schema: dict[str, Any]) -> None:
    validator, texts = jsonschema_rs.validator_for(schema), set()
    for answer in answers(writer, 12, seed=7, temperature=2.0, grammar=Grammar.json_schema(schema)):
        assert answer.written is not None
        if answer.written.cut:
            assert schema is TREE, "only this one has no longest answer"
            continue
        validator.validate(json.loads(answer.value))
        texts.add(answer.value)
    assert len(texts) > 1


@pytest.mark.parametrize("pattern", REGEXES)
def test_a_text_follows_its_pattern(writer: Model, pattern: str) -> None:
    for answer in answers(writer, 12, seed=3, top_p=0.95, grammar=Grammar.regex(pattern)):
        assert answer.written is not None
        assert re.fullmatch(pattern, answer.value) or answer.written.cut, answer.value


def test_one_of_some_texts(writer: Model) -> None:
    choices = ["a.b", "a+", "三月", "(x|y)"]
    result = {answer.value for answer in answers(writer, 30, grammar=Grammar.choice(choices))}
    assert result <= set(choices) and len(result) > 1


def test_any_object_is_one_as_far_as_there_is_room(writer: Model) -> None:
    for answer in answers(writer, 12, max_length=200, grammar=Grammar.json_schema({"type": "object"})):
        assert answer.written is not None and answer.value.startswith("{")
        if not answer.written.cut:
            assert isinstance(json.loads(answer.value), dict)


@pytest.mark.parametrize(("schema", "words"), BAD_SCHEMAS)
def test_schemas_that_nothing_can_follow(writer: Model, schema: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        answers(writer, 1, grammar=Grammar.json_schema(schema))


@pytest.mark.parametrize(("pattern", "words"), BAD_REGEXES)
def test_patterns_that_nothing_can_follow(writer: Model, pattern: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        answers(writer, 1, grammar=Grammar.regex(pattern))


def test_others_are_as_they_were_beside_a_grammar(writer: Model) -> None:
    """Rows of one session, with and without a grammar, in any order of coming and going."""
    drawn = [
        {
            "temperature": 1.0,
            "seed": i,
            "max_length": 20 + i,
            "grammar": Grammar.json_schema(SCHEMAS[i]) if i % 2 else None,
        }
        for i in range(8)
    ]
    alone = [answers(writer, 1, **each)[0] for each in drawn]
    session, out = Session(writer.network, slots=5, positions=600), {}
    for each in drawn:
        session.add(writer.request({"note": [None]}, "note", [], Sampling(**each)))
        out |= {part.request: part.answer for part in session.step()}
    while session.busy:
        out |= {part.request: part.answer for part in session.step()}
    assert [out[i].value for i in range(8)] == [answer.value for answer in alone]
    assert not session._held._matchers, "a slot that is free follows nothing"


def test_a_grammar_that_cannot_be_followed_further_cuts_the_text(writer: Model) -> None:
    """Bytes spell every character; single characters only those that were learnt."""
    spells = writer.encoder("note").options.unit == "bpe"
    for answer in answers(writer, 4, grammar=Grammar.regex("[ab]{3}漢")):
        assert answer.written is not None and answer.written.cut == (not spells)
        assert re.fullmatch("[ab]{3}漢?", answer.value) and answer.value.endswith("漢") == spells


def test_grammars_are_of_columns_that_are_written(writer: Model) -> None:
    table = {"kind": ["a", "b"] * 6, "smiles": ["CCO", "CC", "C=O"] * 4}
    made = worlds.model(table, {"kind": "category", "smiles": "molecule"})
    for ask in table:
        with pytest.raises(UsageError, match="grammar"):
            made.answer(table, ask, [], Sampling(grammar=Grammar.regex("a")))
    with pytest.raises(UsageError, match="beams"):
        Sampling(grammar=Grammar.regex("a"), beams=2)
    with pytest.raises(UsageError, match="there are none"):
        Grammar.choice([])
    with pytest.raises(UsageError, match="only what JSON can hold"):
        Grammar.json_schema({"enum": [float("nan")]})


def test_matchers_of_one_grammar_share_what_is_compiled(writer: Model) -> None:
    encoder, grammar = writer.encoder("note"), Grammar.regex("ab?c")
    one, other = matcher_for(encoder, grammar), matcher_for(encoder, grammar)
    before = other.forbidden().copy()
    one.take(encoder.tokenizer.encode("a").ids[0])
    assert (other.forbidden() == before).all() and (one.forbidden() != before).any()


# -- tokens as bytes -------------------------------------------------------------------------------------------------
def test_tokens_are_the_bytes_that_they_are_decoded_to(writer: Model) -> None:
    encoder = writer.encoder("note")
    spelt = encoder.spellings()
    assert len(spelt) == encoder.size and all(not spelt[i] for i in encoder.controls)
    for text in TEXTS:
        ids = encoder.tokenizer.encode(text, add_special_tokens=False).ids
        assert b"".join(spelt[i] for i in ids).decode() == encoder.decode(ids) == text
    dice = np.random.default_rng(0)
    able = [i for i, each in enumerate(spelt) if each]
    for _ in range(200):
        ids = dice.choice(able, 8).tolist()
        assert b"".join(spelt[i] for i in ids).decode(errors="replace") == encoder.decode(ids)


def test_tokens_of_other_tokenizers() -> None:
    pieces = {"<unk>": 0, "▁the": 1, "▁": 2, "a": 3, "<0xE4>": 4, "<0xB8>": 5, "<0x89>": 6}
    tokenizer = Tokenizer(models.BPE(pieces, [], byte_fallback=True, unk_token="<unk>"))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    assert bytes_of_tokens(tokenizer, 8, [0]) == [b"", b" the", b" ", b"a", b"\xe4", b"\xb8", b"\x89", b""]
    assert tokenizer.decode([1, 4, 5, 6, 3]) == " the三a"
    tokenizer.decoder = decoders.WordPiece()
    with pytest.raises(UsageError, match="WordPiece"):
        bytes_of_tokens(tokenizer, 8, [0])
