"""scale: training tokens/s at widths 128 to 1024 and contexts 256 to 4096; against what `onetrunk plan` predicts.

    python -m bench scale      about 7 minutes on 2 cores

A causal language model of 4 blocks learns random tokens, 4,096 a step in one micro-batch, in bf16 where the processor
is fast in it, else in fp32. Each point is trained in a process of its own, and planned in another just before it. The
picture shows both: docs/images/scale.png.

Not kept, to try it: --set widths=[128] --set contexts=[256] --set steps=4.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from itertools import product
from typing import Any

from bench.common import ROOT, Figures, Run

WIDTHS, CONTEXTS = [128, 256, 512, 1024], [256, 1024, 4096]
LAYERS, TOKENS, VOCABULARY, STEPS = 4, 4096, 512, 8
TRAIN = {"compile": False, "ema": 0.0}
WANTED = 0.2  # at most, at every point
_COMPARED = ("seconds", "peak_gb")
PICTURE = ROOT / "docs" / "images" / "scale.png"


def planned(width: int, context: int, steps: int, precision: str, place: str) -> dict[str, float]:
    """What the plan says of a run of the very shape."""
    import onetrunk

    planned = onetrunk.plan(
        tokens=steps * TOKENS,
        quiet=True,
        settings=[
            f"trunk={{width: {width}, layers: {LAYERS}, heads: {width // 64}}}",
            f"columns.text={{length: {context}, vocabulary: {VOCABULARY}}}",
            f"pretrain.objectives=[{{kind: predict, documents: {TOKENS // context}}}]",
            f"tokens_per_batch={TOKENS}",
            "attention=causal",
            f"train.precision={precision}",
            *(f"train.{name}={value}" for name, value in TRAIN.items()),
        ],
    )
    step = planned["step"]
    return {"seconds": step["seconds"], "peak_gb": planned["memory_gb"]["peak"], "mfu": step["mfu"]}


def measured(width: int, context: int, steps: int, precision: str, place: str) -> dict[str, float]:
    """The run itself."""
    from bench.speed import train_ours

    shape = {"width": width, "layers": LAYERS, "heads": width // 64, "vocabulary": VOCABULARY}
    result = train_ours(shape, TOKENS // context, context, steps, TRAIN | {"precision": precision}, place)
    return {"seconds": TOKENS / result["tokens_per_s"], "peak_gb": result["peak_gb"], "mfu": result["mfu"]}


def compare(run: Run) -> Figures:
    from bench.speed import alternate, fast_precision
    from onetrunk.core.config import with_settings

    options = with_settings({"widths": WIDTHS, "contexts": CONTEXTS, "steps": STEPS}, run.settings)
    precision = fast_precision()
    points: dict[tuple[int, int], dict[str, float]] = {}
    for width, context in product(options["widths"], options["contexts"]):
        shared = {"width": width, "context": context, "steps": options["steps"], "precision": precision}
        sides = {side: {"call": f"bench.scale:{side}", **shared} for side in ("planned", "measured")}
        here = replace(run, place=run.place / f"{width}-{context}")
        plan, real = (rounds[0] for rounds in alternate(here, sides, 1).values())
        points[width, context] = {
            "tokens_per_s": TOKENS / real["seconds"],
            "planned_tokens_per_s": TOKENS / plan["seconds"],
            "mfu": real["mfu"],
            **{f"{key}{suffix}": side[key] for key in _COMPARED for suffix, side in (("", real), ("_planned", plan))},
            **{f"{key}_error": plan[key] / real[key] - 1 for key in _COMPARED},
        }
    off = [abs(point["seconds_error"]) for point in points.values()]
    also: dict[str, Any] = {f"width {w}, context {c}": point for (w, c), point in points.items()}
    also["worst_errors"] = {key: max((p[f"{key}_error"] for p in points.values()), key=abs) for key in _COMPARED}
    if not run.settings and run.rival:
        PICTURE.write_bytes(picture(points))
        also["picture"] = str(PICTURE.relative_to(ROOT))
    return Figures(
        ours=statistics.median(off),
        interval=[min(off), max(off)],
        unit="relative error of the planned seconds of a step (less is better; brackets: least and most)",
        rival_name="wanted",
        rival=WANTED,
        split={
            "layers": LAYERS,
            "vocabulary": VOCABULARY,
            "precision": precision,
            "tokens_of_a_step": TOKENS,
            "points": len(points),
        },
        also=also,
    )


def picture(points: dict[tuple[int, int], dict[str, float]]) -> bytes:
    """Tokens/s over the context, a line for each width; what was planned as crosses. A PNG."""
    from onetrunk.evaluation.figures import render

    def draw(axes: Any) -> bool:
        for index, width in enumerate(sorted({width for width, _ in points})):
            contexts = sorted(context for w, context in points if w == width)
            for key, look in (("tokens_per_s", "o-"), ("planned_tokens_per_s", "x")):
                speeds = [points[width, context][key] for context in contexts]
                axes.plot(contexts, speeds, look, color=f"C{index}", label=f"width {width}" if look == "o-" else None)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.set_xticks(contexts, [f"{context:,}" for context in contexts])
        axes.set_xlabel("context, tokens (crosses: planned)")
        axes.set_ylabel("training, tokens a second")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
        return True

    return render(draw)[""]
