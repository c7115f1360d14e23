"""serve: answers over HTTP, with a model folder or several."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

from onetrunk.training.options import DataOptions
from onetrunk.verbs.shared import takes

if TYPE_CHECKING:
    from onetrunk.engine.mode import Choice


@takes(DataOptions, "device allow_failed_gates producer")
def serve(
    models: list[str],
    options: DataOptions,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    positions: int = 2048,
    repeatable: bool = False,
    precision: str = "fp32",
    quiet: bool = False,
) -> None:
    """Serve model folders over HTTP until stopped: typed rows in, calibrated answers out.

    Args:
        models: model folders; NAME=FOLDER serves one under another name.
        host: the address to listen on; one that other machines can reach needs --api-key.
        port: the port to listen on; 0 takes a free one.
        api_key: the key that every request must bring; by default ONETRUNK_API_KEY of the environment.
        positions: the most tokens and other positions of one row, its answer included.
        repeatable: a row's answer is the same to the last bit whatever else is asked; each row is computed alone.
        precision: fp32, in which evidence is measured; bf16, with three digits and faster where the processor
            has it; auto: bf16 for wide models where it is fast.
        quiet: print nothing but the log.

    Returns:
        Nothing; it ends with a signal.

    Examples:
        onetrunk serve model
        onetrunk serve judge=models/judge writer=models/writer --port 9000
    """
    from onetrunk.core.errors import MissingExtraError
    from onetrunk.verbs.show import Printer

    try:
        from onetrunk.serving.server import ServeOptions, serve_folders
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn", "httptools"):
            raise
        raise MissingExtraError(error.name, "serve", "Serving") from None
    key = api_key or os.environ.get("ONETRUNK_API_KEY") or None
    served = ServeOptions(
        host=host,
        port=port,
        api_key=key,
        device=options.device or "auto",
        positions=positions,
        repeatable=repeatable,
        precision=cast("Choice", precision),
        producer=options.producer,
        allow_failed_gates=options.allow_failed_gates,
    )
    serve_folders([models] if isinstance(models, str) else models, served, Printer(quiet))
