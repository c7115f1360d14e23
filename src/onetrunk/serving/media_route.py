"""`/v1/images/generations`, `/v1/audio/speech` and `/v1/audio/transcriptions`: columns of pictures and sounds."""

from __future__ import annotations

import base64
import io
import time
from dataclasses import replace
from typing import Any, Literal

import soundfile
from pydantic import Field
from starlette.requests import Request as HttpRequest
from starlette.responses import PlainTextResponse, Response

from onetrunk.core.answer import Sampling
from onetrunk.core.config import Config
from onetrunk.core.encoder import FileAnswers, FreeText, class_names
from onetrunk.media.marking import Mark
from onetrunk.serving.folders import Folder, media_kind
from onetrunk.serving.forms import is_form, read_form
from onetrunk.serving.request_errors import RequestError, bad
from onetrunk.serving.service import Endpoint, Service, as_json, parsed

_SOUNDS = {"mp3": ("MP3", "audio/mpeg"), "wav": ("WAV", "audio/wav"), "flac": ("FLAC", "audio/flac"),
           "opus": ("OGG", "audio/ogg"), "pcm": ("RAW", "audio/pcm")}  # fmt: skip


class ImagesBody(Config):
    prompt: str
    model: str | None = None
    n: int | None = Field(1, ge=1, le=16)
    size: Literal["auto"] | None = None
    response_format: Literal["b64_json"] | None = None
    output_format: Literal["png"] | None = None
    seed: int = Field(0, ge=0, lt=1 << 32, description="Not OpenAI's.")
    steps: int = Field(24, ge=1, le=1000, description="Not OpenAI's: of the drawing.")
    guidance: float = Field(1.0, ge=-100, le=100, description="Not OpenAI's: how closely it follows the prompt.")
    user: str | None = None


class SpeechBody(Config):
    input: str = Field(min_length=1, max_length=4096)
    voice: str | dict[str, Any] | None = Field(None, description="A class of one of the model's given categories.")
    model: str | None = None
    response_format: Literal["mp3", "wav", "flac", "opus", "pcm"] = "mp3"
    seed: int = Field(0, ge=0, lt=1 << 32, description="Not OpenAI's.")
    steps: int = Field(24, ge=1, le=1000, description="Not OpenAI's: of the drawing.")


class TranscriptionBody(Config):
    model: str | None = None
    response_format: Literal["json", "text"] = "json"
    temperature: float = Field(0.0, ge=0, le=1)


def endpoints(service: Service) -> list[Endpoint]:
    async def images(request: HttpRequest) -> Response:
        body = await service.body(request, ImagesBody)
        folder = service.folders.get(body.model)
        sampling = Sampling(seed=body.seed, steps=body.steps, guidance=body.guidance)
        files = await _drawn(service, request, folder, "image", body.prompt, {}, sampling, body.n or 1)
        data = [{"b64_json": base64.b64encode(folder.mark.on_file(file)).decode()} for file in files]
        return as_json({"created": int(time.time()), "data": data, "output_format": "png"})

    async def speech(request: HttpRequest) -> Response:
        body = await service.body(request, SpeechBody)
        folder = service.folders.get(body.model)
        column = _drawn_column(folder, "audio")
        row = _voice(folder, folder.model.task([column]).given, body.voice)
        sampling = Sampling(seed=body.seed, steps=body.steps)
        [file] = await _drawn(service, request, folder, "audio", body.input, row, sampling, 1)
        container, media = _SOUNDS[body.response_format]
        return Response(await service.front(lambda: _converted(file, container, folder.mark)), media_type=media)

    async def transcriptions(request: HttpRequest) -> Response:
        fields, file = await _form(service, request)
        body = parsed(TranscriptionBody, fields)
        folder = service.folders.get(body.model)
        column, sound = _heard(folder)
        url = f"data:audio/*;base64,{base64.b64encode(file).decode()}"
        asked = await service.front(lambda: folder.ask(folder.table_of([{sound: url}]), {column: Sampling()}))
        room = max(1, min(folder.limits.tokens, folder.lanes.positions - 2 - asked.tokens))
        sampling = Sampling(temperature=body.temperature, max_length=room)
        asked.requests[column] = replace(asked.requests[column], sampling=sampling)
        text = str((await service.answers(request, folder, asked.requests))[column][0].value)
        return PlainTextResponse(text) if body.response_format == "text" else as_json({"text": text})

    form = ("multipart/form-data",)
    return [
        Endpoint("/v1/images/generations", "POST", "Draw pictures.", images, ImagesBody),
        Endpoint("/v1/audio/speech", "POST", "Speak a text.", speech, SpeechBody, answers="audio/mpeg"),
        Endpoint("/v1/audio/transcriptions", "POST", "Write what is said.", transcriptions, TranscriptionBody, form),
    ]


async def _drawn(
    service: Service,
    request: HttpRequest,
    folder: Folder,
    kind: str,
    prompt: str,
    row: dict[str, Any],
    sampling: Sampling,
    count: int,
) -> list[bytes]:
    """Files of the folder's column of a kind of media, for a prompt."""
    column = _drawn_column(folder, kind)
    encoder = folder.model.encoder(column)
    assert isinstance(encoder, FileAnswers)
    rows = [{**row, _prompt_column(folder, column, row): prompt}] * count
    asked = await service.front(lambda: folder.ask(folder.table_of(rows), {column: sampling}))
    answers = (await service.answers(request, folder, asked.requests))[column]
    return await service.front(lambda: [encoder.as_file(answer.value) for answer in answers])


def _drawn_column(folder: Folder, kind: str) -> str:
    able = [name for name in folder.columns_of_media(kind) if name in folder.questions()]
    if len(able) != 1:
        has = f"several: {', '.join(able)}; ask /v1/predict" if able else "none"
        raise bad(f"Expected a model that was made to answer one column of {kind}; {folder.name!r} has {has}.", "model")
    return able[0]


def _prompt_column(folder: Folder, column: str, row: dict[str, Any]) -> str:
    """Where a prompt stands: in the column of text, or in the only one that is given."""
    given = [name for name in folder.model.task([column]).given if name not in row]
    texts = [name for name in given if isinstance(folder.model.encoder(name), FreeText)]
    columns = texts or given
    if len(columns) != 1:
        raise bad(f"The prompt could be of {', '.join(columns) or 'no column'}; ask /v1/predict, which names columns.")
    return columns[0]


def _voice(folder: Folder, given: list[str], voice: Any) -> dict[str, Any]:
    """A row with the voice in the category that knows it; empty where no category is given."""
    name = voice.get("id") if isinstance(voice, dict) else voice
    known = {column: classes for column in given if (classes := class_names(folder.model.encoder(column))) is not None}
    if not known or name is None:
        return {}
    column = next((column for column, classes in known.items() if name in classes), None)
    if column is None:
        listed = ", ".join(each for classes in known.values() for each in classes[:20])
        raise bad(f"There is no voice {str(name)[:50]!r}. The voices are {listed}.", "voice")
    return {column: name}


def _heard(folder: Folder) -> tuple[str, str]:
    """The column that is written and that of the sound."""
    for task in folder.model.tasks:
        sounds = [name for name in task.given if media_kind(folder.model.encoder(name)) == "audio"]
        texts = [name for name in task.ask if name in folder.writes()]
        if len(sounds) == len(texts) == 1:
            return texts[0], sounds[0]
    raise bad(f"Expected a model that writes a text of a sound; {folder.name!r} does not.", "model")


def _converted(wav: bytes, container: str, mark: Mark) -> bytes:
    """In another container, with its mark; bare samples have no room for one."""
    if container == "WAV":
        return mark.on_file(wav)
    with soundfile.SoundFile(io.BytesIO(wav)) as file:
        samples, rate = file.read(dtype="int16"), file.samplerate
    if container == "RAW":
        return bytes(samples.astype("<i2").tobytes())
    out = io.BytesIO()
    try:
        soundfile.write(out, samples, rate, format=container, subtype="OPUS" if container == "OGG" else None)
    except (soundfile.LibsndfileError, ValueError):
        raise bad(f"A sound of {rate:,} Hz cannot be written so here. Ask for wav.", "response_format") from None
    return mark.on_file(out.getvalue())


async def _form(service: Service, request: HttpRequest) -> tuple[dict[str, Any], bytes]:
    """The fields of a form and its one file."""
    if not is_form(request):
        raise RequestError(415, "Expected a body of multipart/form-data with a file.", code="media_type")
    fields, files = await read_form(service, request, 1)
    for name in files:
        if name != "file":
            raise bad(f"Expected the sound as the form's file, found it as {name[:50]!r}.", "file")
    if not files.get("file"):
        raise bad("The form has no file.", "file")
    return dict(fields), files["file"]
