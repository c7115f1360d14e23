"""How `/v1/chat/completions` and `/v1/completions` spell what is written."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

from onetrunk.serving.token_logprobs import TokenLogprob, as_text

Logprobs = Sequence[TokenLogprob] | None


class Form:
    """Of one answer; `logprobs`, of the tokens that stand in it, are None where nobody asked."""

    prefix, whole, chunk = "", "", ""

    def __init__(self, model: str) -> None:
        self.head = {"id": f"{self.prefix}-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}

    def choice(self, index: int, text: str, reason: str, logprobs: Logprobs) -> dict[str, Any]:
        """A whole text."""
        raise NotImplementedError

    def begin(self, index: int, echoed: str) -> dict[str, Any] | None:
        """What a stream begins with, if with anything."""
        raise NotImplementedError

    def piece(self, index: int, text: str, reason: str | None, logprobs: Logprobs) -> dict[str, Any]:
        """What is new in a stream."""
        raise NotImplementedError


class ChatForm(Form):
    prefix, whole, chunk = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def choice(self, index: int, text: str, reason: str, logprobs: Logprobs) -> dict[str, Any]:
        message = {"role": "assistant", "content": text, "refusal": None}
        return {"index": index, "message": message, "finish_reason": reason, "logprobs": _chat(logprobs)}

    def begin(self, index: int, echoed: str) -> dict[str, Any] | None:
        delta = {"role": "assistant", "content": ""}
        return {"index": index, "delta": delta, "finish_reason": None, "logprobs": None}

    def piece(self, index: int, text: str, reason: str | None, logprobs: Logprobs) -> dict[str, Any]:
        delta = {"content": text} if text else {}
        return {"index": index, "delta": delta, "finish_reason": reason, "logprobs": _chat(logprobs)}


def _chat(logprobs: Logprobs) -> dict[str, Any] | None:
    if logprobs is None:
        return None
    content = [
        {**_token(each.spelt, each.logprob), "top_logprobs": [_token(*top) for top in each.top]} for each in logprobs
    ]
    return {"content": content, "refusal": None}


def _token(spelt: bytes, logprob: float) -> dict[str, Any]:
    return {"token": as_text(spelt), "logprob": logprob, "bytes": list(spelt)}


class CompletionForm(Form):
    prefix, whole, chunk = "cmpl", "text_completion", "text_completion"

    def __init__(self, model: str, top: int) -> None:
        super().__init__(model)
        self.top = top  # likeliest tokens that were asked for

    def choice(self, index: int, text: str, reason: str, logprobs: Logprobs) -> dict[str, Any]:
        return {"index": index, "text": text, "finish_reason": reason, "logprobs": self._logprobs(logprobs)}

    def begin(self, index: int, echoed: str) -> dict[str, Any] | None:
        return self.piece(index, echoed, None, None) if echoed else None

    def piece(self, index: int, text: str, reason: str | None, logprobs: Logprobs) -> dict[str, Any]:
        return {"index": index, "text": text, "finish_reason": reason, "logprobs": self._logprobs(logprobs)}

    def _logprobs(self, logprobs: Logprobs) -> dict[str, Any] | None:
        """Offsets are from where what was written begins; of the prompt no token is told of."""
        if logprobs is None:
            return None
        tops = [{as_text(spelt): logprob for spelt, logprob in reversed(each.top)} for each in logprobs]
        return {
            "tokens": [as_text(each.spelt) for each in logprobs],
            "token_logprobs": [each.logprob for each in logprobs],
            "top_logprobs": tops if self.top else None,
            "text_offset": [each.offset for each in logprobs],
        }
