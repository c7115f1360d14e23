"""Prompts that begin alike are read once, and their answers are the same to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import worlds

from onetrunk.core.answer import Answer, Sampling
from onetrunk.inference.model_folder import Model, Task
from onetrunk.inference.prefixes import PrefixStore
from onetrunk.inference.session import Session

BLOCK = 64
LETTERS = "abcdefgh \n"


def text(length: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list(LETTERS), length))


BEGINNING = text(200, 0)
PROMPTS = [BEGINNING + text(n, 1 + n) for n in (0, 5, 55, 56, 57, 120)] + [BEGINNING[:100] + text(60, 9), text(30, 3)]


def written(trunk: dict[str, Any] | None = None) -> Model:
    torch.manual_seed(1)
    table = {"title": [LETTERS, *PROMPTS], "price": [float(i) for i in range(len(PROMPTS) + 1)]}
    options = {"title": {"unit": "character", "length": 512, "bigrams": 50}}
    made = worlds.model(table, {"title": "text", "price": "number"}, options=options, trunk=trunk or worlds.TRUNK)
    made.tasks = [Task([], ["title"])]
    return made


@pytest.fixture(scope="module")
def made() -> Model:
    return written()


def answers(
    made: Model, store: PrefixStore | None, prompts: list[str], together: bool = False, **sampling: Any
) -> list[Answer]:
    session = Session(made.network, slots=8, positions=600, prefix_store=store)
    out: dict[int, Answer] = {}
    for prompt in prompts:
        drawn = Sampling(max_length=6, **sampling)
        request = made.request({"title": [prompt]}, "title", [], drawn, prompted=True)
        session.add(request)
        while session.busy and not together:
            out |= {part.request: part.answer for part in session.step()}
    while session.busy:
        out |= {part.request: part.answer for part in session.step()}
    assert session.free_slots == 8
    return [out[i] for i in range(len(prompts))]


def bare(answer: Answer) -> Any:
    assert answer.written is not None
    return answer.value, answer.logprob, answer.written.tokens, answer.written.logprobs, answer.written.top


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "seed": 3, "top_logprobs": 2}, {"beams": 3}])
def test_answers_are_equal_to_the_bit(made: Model, sampling: dict[str, Any]) -> None:
    store = PrefixStore(1 << 24)
    plain = answers(made, None, PROMPTS, **sampling)
    first = answers(made, store, PROMPTS, **sampling)
    second = answers(made, store, PROMPTS, **sampling)
    assert list(map(bare, plain)) == list(map(bare, first)) == list(map(bare, second))
    if sampling.get("beams", 1) == 1:
        reused = [each.written.reused for each in first if each.written]
        assert reused == [0, 192, 192, 192, 192, 192, BLOCK, 0]
        whole = [(len(prompt)) // BLOCK * BLOCK for prompt in PROMPTS]
        assert [each.written.reused for each in second if each.written] == whole
        assert store.reused == sum(reused) + sum(whole) and store.read == sum(whole) - sum(reused)


def test_a_prompt_is_read_in_blocks_as_in_one_pass(made: Model) -> None:
    store = PrefixStore(1 << 24)
    for _ in range(2):
        for prompt, answer in zip(PROMPTS, answers(made, store, PROMPTS, temperature=1.0), strict=True):
            assert answer.written is not None and answer.value.startswith(prompt)
            logprobs = worlds.token_logprobs(made, "title", answer.value)[len(prompt) :]
            for i, (token, logprob) in enumerate(zip(answer.written.tokens, answer.written.logprobs, strict=True)):
                assert logprob == pytest.approx(float(logprobs[i, token]), rel=1e-4)


def test_the_store_keeps_to_its_bound(made: Model) -> None:
    store = PrefixStore(1 << 24)
    answers(made, store, PROMPTS[:1])
    block = store.bytes // 3
    assert store.bytes == 3 * block
    small = PrefixStore(2 * block + 1)
    plain = answers(made, None, PROMPTS)
    for _ in range(2):
        assert list(map(bare, answers(made, small, PROMPTS))) == list(map(bare, plain))
        assert 0 < small.bytes <= 2 * block + 1
    nothing = PrefixStore(0)
    assert list(map(bare, answers(made, nothing, PROMPTS))) == list(map(bare, plain))
    assert nothing.bytes == nothing.reused == 0


def test_prompts_of_all_lengths_together(made: Model) -> None:
    store = PrefixStore(1 << 24)
    plain = answers(made, None, PROMPTS)
    for result in (answers(made, store, PROMPTS, together=True), answers(made, store, PROMPTS, together=True)):
        assert [each.value for each in result] == [each.value for each in plain]
        for one, other in zip(result, plain, strict=True):
            assert one.logprob == pytest.approx(other.logprob, rel=1e-4)


def test_what_is_given_is_seen_so_nothing_is_shared(made: Model) -> None:
    store, prompt = PrefixStore(1 << 24), PROMPTS[0]
    session = Session(made.network, slots=2, positions=600, prefix_store=store)
    for price in (1.0, 5.0):
        row = {"price": [price], "title": [prompt]}
        session.add(made.request(row, "title", ["price"], Sampling(max_length=4), prompted=True))
        while session.busy:
            session.step()
    assert store.bytes == store.read == store.reused == 0


def test_a_recurrent_trunk_shares_nothing() -> None:
    made, store = written({"kind": "lstm", "width": 16, "layers": 2}), PrefixStore(1 << 24)
    assert list(map(bare, answers(made, store, PROMPTS[:3]))) == list(map(bare, answers(made, None, PROMPTS[:3])))
    assert store.bytes == 0
