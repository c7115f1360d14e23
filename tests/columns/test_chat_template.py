"""A checkpoint's chat template gives what transformers renders, and costs no more than it may."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import pytest

from onetrunk.columns.text.chat_template import ChatTemplate
from onetrunk.core.errors import BadValueError, ModelFileError

CHATML = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{- bos_token }}\n{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    "{%- set date_string = strftime_now('%d') %}{%- else %}{%- set date_string = '26' %}{%- endif %}{%- endif %}"
    "{% for message in messages %}{% set content = '<|start|>' + message['role'] + '\n\n' + message['content'] | trim "
    "+ '<|eot|>' %}{% if loop.index0 == 0 %}{% set content = date_string ~ content %}{% endif %}"
    "{% if message.role == 'assistant' %}{% generation %}{{ content }}{% endgeneration %}"
    "{% else %}{{ content }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant\n\n' }}{% endif %}"
)
MACRO = (
    "{%- macro said(turn) -%}[{{ turn.role }}] {{ turn.content | tojson }}{%- endmacro -%}"
    "{% set ns = namespace(count=0) %}{% for m in messages %}{% set ns.count = ns.count + 1 %}{% if ns.count > 3 %}"
    "{% break %}{% endif %}{{ ns.count }} {{ said(m) }}{{ eos_token if m.role == 'assistant' }}{% endfor %}"
)
CONVERSATION = [
    {"role": "user", "content": " Where is the <boat>?"},
    {"role": "assistant", "content": 'On the "sea", 海。'},
    {"role": "user", "content": "And now"},
]


@pytest.mark.parametrize("text", [CHATML, LLAMA3, MACRO], ids=["chatml", "llama3", "macro"])
@pytest.mark.parametrize("turns", [CONVERSATION, CONVERSATION[:2], CONVERSATION[:1]], ids=len)
@pytest.mark.parametrize("waits", [True, False])
def test_it_renders_what_transformers_renders(text: str, turns: list[dict[str, str]], waits: bool) -> None:
    utils = pytest.importorskip("transformers.utils.chat_template_utils")
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    (expected,), _ = utils.render_jinja_template(
        conversations=[turns], chat_template=text, add_generation_prompt=waits, **tokens
    )
    template = ChatTemplate(text, tokens)
    template.day = datetime.now()
    assert template.render(turns, waits) == expected


@pytest.mark.parametrize(
    "text",
    [
        "{% for i in range(10**9) %}{% endfor %}",
        "{% for i in range(1000000) %}{% for j in range(1000000) %}{% endfor %}{% endfor %}",
        "{% set n = namespace(x='abcdefghij') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
        "{% set n = namespace(x='abcdefghij') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}",
        "{% set x = 'a' * 9000000 %}{{ x | replace('a', x) }}",
        "{% set x = 'a' * 9000000 %}{{ range(100000) | join(x) }}",
        "{{ range(1000000000) | list | length }}",
        "{{ 'a' * 1000000000 }}",
        "{{ [1] * 1000000000 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ 'a'.center(1000000000) }}",
        "{{ 'a' | center(1000000000) }}",
        "{% set x = 'a' * 9000000 %}{{ x.replace('a', x) }}",
        "{% set x = 'a' * 9000000 %}{{ x }}{{ x }}",
        "{% macro m(n) %}{{ m(n + 1) }}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception('only one turn') }}",
        "{{ messages[0].nothing.more }}",
    ],
)
def test_what_costs_or_reaches_too_much_is_refused(text: str) -> None:
    template, started = ChatTemplate(text, {}), time.monotonic()
    with pytest.raises(BadValueError, match="the model's own chat template does not take"):
        template.render(CONVERSATION, True)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("text", ["{% for %}", "{{ unclosed", "{% include 'x' %", "a" * 200_001])
def test_what_is_no_template_is_refused(text: str) -> None:
    with pytest.raises(ModelFileError):
        ChatTemplate(text, {})


def test_what_the_assistant_says_is_learnt_with_its_end() -> None:
    def letters(text: str) -> tuple[list[int], list[tuple[int, int]]]:
        return [ord(c) for c in text], [(i, i + 1) for i in range(len(text))]

    ids, learnt = ChatTemplate(CHATML, {}).encode(CONVERSATION[:2], "assistant", letters)
    assert "".join(chr(i) for i, own in zip(ids, learnt, strict=True) if own) == 'On the "sea", 海。<|im_end|>'
    ids, learnt = ChatTemplate(CHATML, {}).encode(CONVERSATION, "assistant", letters)
    assert "".join(map(chr, ids)).endswith("And now<|im_end|>\n<|im_start|>assistant\n") and any(learnt)


def test_replies_that_are_spelt_otherwise_are_refused() -> None:
    upper = "{% for m in messages %}{{ m.content | upper }}.{% endfor %}{% if add_generation_prompt %}Bot:{% endif %}"

    def letters(text: str) -> Any:
        return [ord(c) for c in text], [(i, i + 1) for i in range(len(text))]

    with pytest.raises(BadValueError, match="spells otherwise than asked for"):
        ChatTemplate(upper, {}).encode(CONVERSATION[:2], "assistant", letters)
