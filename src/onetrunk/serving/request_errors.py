"""What a client reads when something is wrong: a status, and one plain message in OpenAI's form."""

from __future__ import annotations

from typing import Any

from onetrunk.core.errors import OnetrunkError, ResourceError, is_out_of_memory

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class RequestError(Exception):
    """A request that gets no answer. The message says what was expected, what was found, where, and what to do."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = headers or {}

    def as_json(self) -> dict[str, Any]:
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def bad(message: str, param: str | None = None, code: str | None = None) -> RequestError:
    """A request that is wrong as it stands."""
    return RequestError(400, message, param=param, code=code)


def busy(message: str, seconds: int = 1) -> RequestError:
    """There is too much to do already: the client should come again in so many seconds."""
    return RequestError(429, message, code="rate_limit_exceeded", headers={"Retry-After": str(seconds)})


def out_of_memory() -> RequestError:
    return RequestError(
        503, "There was not enough memory for this request. Send fewer or shorter rows.", code="out_of_memory"
    )


def stopping() -> RequestError:
    return RequestError(
        503, "The server is stopping. Ask another one, or later.", code="stopping", headers={"Retry-After": "5"}
    )


def as_request_error(error: BaseException) -> RequestError | None:
    """What a client is told of an error that is its own fault, or that of a full machine; None for a bug of ours."""
    if isinstance(error, RequestError):
        return error
    if is_out_of_memory(error) or isinstance(error, ResourceError):
        return out_of_memory()
    return bad(str(error)) if isinstance(error, OnetrunkError) else None
