"""Numbers of few bits, by bitsandbytes, on a CPU or a GPU."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from onetrunk.core.errors import MissingExtraError


@cache
def library(what: str) -> Any:
    """It is imported in seconds, and says on the way which kernels it would fetch from a hub: we do not want them.
    Raises MissingExtraError, which says what needs it."""
    try:
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
        import bitsandbytes
    except ImportError:
        raise MissingExtraError("bitsandbytes", "qlora", what) from None
    return bitsandbytes
