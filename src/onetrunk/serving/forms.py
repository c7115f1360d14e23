"""Bodies of `multipart/form-data`: fields, and files under their names."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request as HttpRequest

from onetrunk.serving.request_errors import bad
from onetrunk.serving.service import Service

MULTIPART = "multipart/form-data"
_MOST_FIELDS = 32


def is_form(request: HttpRequest) -> bool:
    return request.headers.get("content-type", "").lower().startswith(MULTIPART)


async def read_form(service: Service, request: HttpRequest, most_files: int) -> tuple[dict[str, str], dict[str, bytes]]:
    """Its fields and its files. Raises RequestError for what is no such form, and for a name that stands twice."""
    raw = await service.raw_body(request)

    async def whole() -> AsyncGenerator[bytes, None]:
        yield raw
        yield b""

    fields: dict[str, str] = {}
    files: dict[str, bytes] = {}
    try:
        parser = MultiPartParser(
            request.headers, whole(), max_files=most_files, max_fields=_MOST_FIELDS, max_part_size=len(raw)
        )
        form = await parser.parse()
    except (MultiPartException, KeyError, UnicodeDecodeError) as error:
        raise bad(f"The form cannot be read: {str(error)[:100]}.") from None
    try:
        for name, value in form.multi_items():
            if name in fields or name in files:
                raise bad(f"The form has two parts of the name {name[:50]!r}.")
            if isinstance(value, UploadFile):
                files[name] = await value.read()
            else:
                fields[name] = value
    finally:
        await form.close()
    return fields, files
