"""generate: predict with sampling: new texts, drawings or values, from what is given or from nothing."""

from __future__ import annotations

from typing import Any


def generate(
    model: Any,
    *,
    ask: list[str] | None = None,
    data: Any = None,
    prompt: str | None = None,
    n: int = 5,
    out: str | None = None,
    temperature: float = 0.8,
    top_k: int = 0,
    top_p: float = 0.95,
    max_length: int = 256,
    guidance: float = 2.0,
    steps: int = 24,
    seed: int = 0,
    device: str = "auto",
    quiet: bool = False,
) -> Any:
    """Draw or write `n` values of a column, for every given row or from nothing.

    Args:
        model: a model folder.
        ask: the column to make; by default the folder's task.
        data: rows to make it from: a file, DataFrame, or one row as JSON ('{"label": 3}'); without it from nothing.
        prompt: how each text begins.
        n: how many for each row.
        out: a .csv, .jsonl or .parquet file for rows and results (pictures go in a folder beside it).
        temperature: 0 makes the likeliest; higher varies more.
        top_k: draw among the k likeliest only; 0 is no limit.
        top_p: draw among the likeliest that make up this probability.
        max_length: tokens of a text at most.
        guidance: how strongly a drawing follows what is given; 1 is plain.
        steps: steps of a drawing.
        seed: of everything drawn.
        device: cpu, cuda, cuda:N or mps; auto is CUDA where there is one, else the CPU.
        quiet: print nothing.

    Returns:
        A DataFrame with n rows for each given row.
    """
    from onetrunk.core.errors import UsageError
    from onetrunk.data.ledger import Ledger
    from onetrunk.engine.runtime import find_device
    from onetrunk.inference.model_folder import Model, load
    from onetrunk.inference.tables import nothing_given, read_rows
    from onetrunk.verbs.predict import predict

    if n < 1:
        raise UsageError(f"--n expects 1 or more, found {n}.")
    find_device(device)
    opened = model if isinstance(model, Model) else load(model, device=device)
    asked = opened.task(ask).ask
    if data is None:
        rows, given = {name: [None] * n for name in asked}, []
    else:
        table = opened.to_answer(read_rows(data, False), asked, Ledger())
        rows = {name: [v for v in values for _ in range(n)] for name, values in table.columns.items()}
        given = [name for name in table.names if name in opened.columns and name not in asked]
        if not given and not any(opened.codec(n).goes_on(v) for n in asked for v in rows.get(n, []) if v is not None):
            raise nothing_given([c for c in opened.columns if c not in asked], table)
    if prompt is not None:
        rows |= {name: [prompt] * len(next(iter(rows.values()))) for name in asked}
    return predict(
        opened, rows, ask=asked, given=given, prompted=prompt is not None, out=out, temperature=temperature,
        top_k=top_k, top_p=top_p, max_length=max_length, guidance=guidance, steps=steps, seed=seed, device=device,
        quiet=quiet,
    )  # fmt: skip
