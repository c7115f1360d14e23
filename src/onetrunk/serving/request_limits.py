"""How much of everything one request, and all of them together, may take."""

from __future__ import annotations

from dataclasses import dataclass, field

from onetrunk.media.limits import MediaLimits

PREFIX_BYTES = 256 << 20


@dataclass(frozen=True)
class Limits:
    """What is more than this is refused, with a message that says how much was allowed."""

    body_bytes: int = 32 << 20  # of one request
    body_seconds: float = 30.0  # until it has arrived
    write_seconds: float = 30.0  # that a client may take to read what has been sent
    json_values: int = 1_000_000  # in one body
    json_depth: int = 32
    rows: int = 4096  # of one request
    columns: int = 4096  # of one request's rows
    tokens: int = 2048  # of one written answer
    questions: int = 400  # of one decision
    requests: int = 256  # that are worked on, or wait, at once
    queued_rows: int = 8192  # that are answered, or wait, at once
    arrow_bytes: int = 256 << 20  # of one table, unpacked
    media: MediaLimits = field(default_factory=lambda: MediaLimits(pixels=16_000_000, samples=30_000_000, frames=2_000))
    prefix_bytes: int = PREFIX_BYTES  # of prompts' beginnings that are kept, of one folder
    drain_seconds: float = 30.0  # for what is being answered when the server is told to stop
    wrong_keys: int = 20  # of one address in a minute, after which it is not heard
