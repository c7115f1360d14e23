"""`/v1/decisions`, OpenAI's: an input and typed questions in, probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from onetrunk.core.config import Config
from onetrunk.serving.folders import Asked, Folder
from onetrunk.serving.questions import (
    Question,
    Verdict,
    check_options,
    choose,
    judge,
    picture_size,
    sampling_of,
)
from onetrunk.serving.request_errors import bad
from onetrunk.serving.service import Endpoint, Service, as_json
from onetrunk.serving.state import State

_IGNORED = "What the system and the developer say is not read: a question is a column of the model."


# -- OpenAI's --------------------------------------------------------------------------------------------------------
class OpenAIChoice(Config):
    value: str | bool
    description: str | None = None


class OpenAILevel(Config):
    label: str
    description: str | None = None


class OpenAIQuestion(Config):
    type: Literal["predicate", "choice", "score"]
    instructions: Any = None
    name: str | None = None
    choices: list[OpenAIChoice] | None = Field(None, description="Of a choice.")
    levels: list[OpenAILevel] | None = Field(None, description="Of a score, the lowest first.")


class DecisionsBody(Config):
    model: str
    input: str | list[dict[str, Any]]
    questions: list[OpenAIQuestion] = Field(min_length=1, max_length=400)
    coverage: float = Field(0.9, gt=0, lt=1, description="How likely sets of options, and intervals, hold the truth.")
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    safety_identifier: str | None = None


def _openai_question(i: int, asked: OpenAIQuestion) -> Question:
    instructions = asked.instructions if isinstance(asked.instructions, str) else ""
    has = {"choices": asked.choices is not None, "levels": asked.levels is not None}
    if has != {"choices": asked.type == "choice", "levels": asked.type == "score"}:
        raise bad(
            f"questions.{i}: a choice has choices, a score has levels, a predicate has neither.", f"questions.{i}"
        )
    options: list[str | bool] = [choice.value for choice in asked.choices or []]
    options += [level.label for level in asked.levels or []]
    return Question(asked.name, asked.type, instructions, options, f"questions.{i}")


def _openai_state(body: DecisionsBody) -> State:
    state = State("input")
    if isinstance(body.input, str):
        state.texts.append(body.input)
        return state
    for i, item in enumerate(body.input):
        where = f"input.{i}"
        role, content = item.get("role"), item.get("content")
        if item.get("type", "message") != "message" or role not in ("user", "developer", "system"):
            raise bad(
                f"{where}: a decision reads messages of the user; found {str(item.get('type', role))[:50]!r}.", where
            )
        if role != "user":
            state.notes = [_IGNORED]
            continue
        parts = [{"type": "input_text", "text": content}] if isinstance(content, str) else content
        if not isinstance(parts, list):
            raise bad(f"{where}.content: expected a text or a list of parts.", where)
        for j, part in enumerate(parts):
            _add_part(state, part, f"{where}.content.{j}")
    return state


def _add_part(state: State, part: Any, where: str) -> None:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "input_text" and isinstance(part.get("text"), str):
        state.texts.append(part["text"])
    elif kind == "input_json" and "data" in part:
        state.add_json(part["data"])
    elif kind == "input_image" and isinstance(part.get("image_url"), str):
        state.files.append(("image", part["image_url"]))
    else:
        raise bad(f"{where}: expected input_text, input_json or input_image, with its text, data or image_url.", where)


def _openai_answer(verdict: Verdict) -> dict[str, Any]:
    question, p = verdict.question, verdict.probabilities
    out: dict[str, Any] = {"type": question.kind, "name": question.name}
    if question.kind == "predicate":
        return {**out, "probability": p[0]}
    if question.kind == "choice":
        options = [{"value": value, "probability": each} for value, each in zip(question.options, p, strict=True)]
        chosen = question.options[verdict.best]
        out |= {"choice": chosen, "confidence": verdict.confidence, "probabilities": options}
        return {**out, **verdict.around}
    levels = [
        {"label": label, "value": i, "probability": each}
        for i, (label, each) in enumerate(zip(question.options, p, strict=True))
    ]
    out |= {"score": verdict.score, "confidence": verdict.confidence, "probabilities": levels}
    return {**out, **verdict.around}


# -- answers ---------------------------------------------------------------------------------------------------------
def endpoints(service: Service) -> list[Endpoint]:
    async def decisions(request: HttpRequest) -> Response:
        body = await service.body(request, DecisionsBody)
        folder = service.folders.get(body.model)
        questions = [_openai_question(i, asked) for i, asked in enumerate(body.questions)]
        verdicts, asked, notes = await decided(service, request, folder, _openai_state(body), questions, body.coverage)
        usage = {
            "input_tokens": asked.tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": len(questions),
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": asked.tokens + len(questions),
        }
        answers = [_openai_answer(verdict) for verdict in verdicts]
        return as_json({"object": "decision", "model": folder.name, "answers": answers, "usage": usage, "notes": notes})

    summary = "Answer typed questions about an input."
    return [Endpoint("/v1/decisions", "POST", summary, decisions, DecisionsBody)]


async def decided(
    service: Service,
    request: HttpRequest,
    folder: Folder,
    state: State,
    questions: Sequence[Question],
    coverage: float,
) -> tuple[list[Verdict], Asked, list[str]]:
    """A verdict on each question, in their order."""

    check_options(questions)
    chosen = [choose(folder, question) for question in questions]
    rows = state.rows_for(folder)
    samplings = {
        each.column: sampling_of(each, coverage) for each in sorted(chosen, key=lambda each: bool(each.levels))
    }
    boxes = [each.column for each in chosen if each.question.kind == "box"]
    sizes = await service.front(lambda: {name: picture_size(folder, name, rows) for name in boxes}) if boxes else {}
    asked, answers = await service.ask(request, folder, rows, samplings)
    if asked.rows != 1:
        raise bad(f"{state.where}: a decision is about one row; these are {asked.rows}.")
    verdicts = [judge(folder, each, answers[each.column][0], sizes.get(each.column)) for each in chosen]
    return verdicts, asked, [*state.notes, *asked.notes]
