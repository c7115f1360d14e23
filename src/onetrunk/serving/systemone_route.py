"""`/v1/systemone`: a state and typed questions in, probabilities out, and places in pictures.

The body is JSON, or a form whose part `request` is that JSON and whose other parts are pictures.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from onetrunk.core.config import Config
from onetrunk.serving.bodies import decoded_file, parse_object
from onetrunk.serving.decisions_route import decided
from onetrunk.serving.forms import MULTIPART, is_form, read_form
from onetrunk.serving.questions import Question, Verdict
from onetrunk.serving.request_errors import bad
from onetrunk.serving.service import Endpoint, Service, as_json, parsed
from onetrunk.serving.state import State

_MOST_PICTURES = 32  # of one form


class SystemOneQuestion(Config):
    type: Literal["noul", "choice", "score", "box"]
    instructions: Any = None
    criteria: Any = None


class SystemOneAsset(Config):
    type: Literal["image"] | None = None
    format: Literal["png", "jpg", "jpeg"] | None = None
    data_base64: str | None = None
    part: str | None = Field(None, description="In a form, the name of the part that holds the picture.")


class SystemOneBody(Config):
    model: str | None = None
    state: str | dict[str, Any] | list[Any]
    questions: dict[str, SystemOneQuestion] = Field(min_length=1, max_length=400)
    assets: dict[str, SystemOneAsset] | None = None
    coverage: float = Field(0.9, gt=0, lt=1, description="How likely sets of options, and intervals, hold the truth.")


def endpoints(service: Service) -> list[Endpoint]:
    async def systemone(request: HttpRequest) -> Response:
        started = time.monotonic()
        body, parts = await _body(service, request)
        folder = service.folders.get(body.model)
        questions = [_question(name, asked) for name, asked in body.questions.items()]
        state = await service.front(lambda: _state(body, parts))
        verdicts, asked, notes = await decided(service, request, folder, state, questions, body.coverage)
        answers = {verdict.question.name: _answer(verdict) for verdict in verdicts}
        usage = {"input_tokens": asked.tokens, "output_tokens": len(questions)}
        milliseconds = round(1000 * (time.monotonic() - started), 3)
        return as_json(
            {"model": folder.name, "answers": answers, "usage": usage, "latency_ms": milliseconds, "notes": notes}
        )

    summary = "Answer typed questions about a state."
    kinds = ("application/json", MULTIPART)
    return [Endpoint("/v1/systemone", "POST", summary, systemone, SystemOneBody, kinds)]


async def _body(service: Service, request: HttpRequest) -> tuple[SystemOneBody, dict[str, bytes]]:
    """The body, and pictures that came beside it."""
    if not is_form(request):
        return await service.body(request, SystemOneBody), {}
    fields, files = await read_form(service, request, _MOST_PICTURES)
    if list(fields) != ["request"]:
        raise bad(f"Expected a form of the part request, which is JSON, and pictures; found {', '.join(fields)[:100]}.")
    raw = fields["request"].encode("utf-8", "surrogatepass")
    return await service.front(lambda: parsed(SystemOneBody, parse_object(raw, service.limits))), files


def _question(name: str, asked: SystemOneQuestion) -> Question:
    where = f"questions.{name[:100]}"
    instructions = asked.instructions if isinstance(asked.instructions, str) else ""
    if asked.type == "noul":
        return Question(name, "predicate", instructions, (), where)
    if asked.type == "box":
        if asked.criteria is not None:
            raise bad(f"{where}.criteria: a box has none.", where)
        return Question(name, "box", instructions, (), where)
    if asked.type == "choice":
        if not isinstance(asked.criteria, dict):
            raise bad(f"{where}.criteria: expected an object of options and their descriptions.", where)
        return Question(name, "choice", instructions, list(asked.criteria), where)
    if not isinstance(asked.criteria, list):
        raise bad(f"{where}.criteria: expected a list of levels, the lowest first.", where)
    return Question(name, "score", instructions, [_label(level) for level in asked.criteria], where)


def _label(level: Any) -> str:
    return level if isinstance(level, str) else str(level)


def _state(body: SystemOneBody, parts: Mapping[str, bytes]) -> State:
    """What is told, with each picture where its name stands. Raises RequestError for one that stands nowhere."""
    state, pictures, used = State("state"), _pictures(body, parts), set[str]()
    for value in body.state if isinstance(body.state, list) else [body.state]:
        if isinstance(value, str) and value in pictures:
            used.add(value)
            state.files.append(("image", pictures[value]))
        elif isinstance(value, str):
            state.texts.append(value)
        else:
            state.add_json(_with_pictures(value, pictures, used))
    if unused := sorted(pictures.keys() - used):
        raise bad(
            f"assets.{unused[0][:100]}: no value of the state is this name. A picture is told by its name alone: as "
            "the state, as one of its list, or as a column's value. In the middle of a text it is not seen.",
            "assets",
        )
    return state


def _pictures(body: SystemOneBody, parts: Mapping[str, bytes]) -> dict[str, bytes]:
    """Each asset's bytes. Every part of a form is of one asset."""
    out, claimed = {}, set[str]()
    for name, asset in (body.assets or {}).items():
        where = f"assets.{name[:100]}"
        if asset.part is not None:
            if asset.part not in parts or asset.part in claimed:
                raise bad(f"{where}.part: the form has no part {asset.part[:100]!r} for it alone.", where)
            claimed.add(asset.part)
            out[name] = parts[asset.part]
        elif asset.data_base64 is not None:
            out[name], _ = decoded_file(asset.data_base64, where)
        else:
            raise bad(f"{where}: expected data_base64, or in a form part.", where)
    if left := sorted(parts.keys() - claimed):
        raise bad(f"No asset names the form's part {left[0][:100]!r}.", "assets")
    return out


def _with_pictures(value: Any, pictures: Mapping[str, bytes], used: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: _with_pictures(v, pictures, used) for key, v in value.items()}
    if isinstance(value, list):
        return [_with_pictures(v, pictures, used) for v in value]
    if isinstance(value, str) and value in pictures:
        used.add(value)
        return pictures[value]
    return value


def _answer(verdict: Verdict) -> dict[str, Any]:
    question, p = verdict.question, verdict.probabilities
    if question.kind == "predicate":
        return {"type": "noul", "noul": p[0]}
    if question.kind == "box":
        left, top, right, bottom = verdict.place
        return {"type": "box", "box": {"top": top, "bottom": bottom, "left": left, "right": right}, "confidence": p[0]}
    if question.kind == "choice":
        options = dict(zip(map(str, question.options), p, strict=True))
        chosen = str(question.options[verdict.best])
        out = {"type": "choice", "choice": chosen, "confidence": verdict.confidence, "probabilities": options}
        return {**out, **verdict.around}
    return {
        "type": "score",
        "score": verdict.score,
        "confidence": verdict.confidence,
        "legend": {str(i): label for i, label in enumerate(question.options)},
        "probabilities": {str(i): each for i, each in enumerate(p)},
        **verdict.around,
    }
