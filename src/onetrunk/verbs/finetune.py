"""finetune: trains a model on one task (which columns are given, and which are asked)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from onetrunk.training.options import TrainingOptions
from onetrunk.verbs.shared import REQUIRED, takes, tracking

if TYPE_CHECKING:
    from onetrunk.inference.model_folder import Model


@takes(
    TrainingOptions,
    "ask given ignore types map split seed device allow_equal_rows max_bad allow_network missing separator "
    "out overwrite start size mixture events private budget max_memory track config settings",
    ask=REQUIRED,
)
def finetune(
    data: Any,
    options: TrainingOptions,
    *,
    freeze: str | None = None,
    lora: int | None = None,
    teacher: str | None = None,
    restructure: bool = False,
    quiet: bool = False,
) -> Model:
    """Train a model on one task, from a foundation model (--from) or from scratch.

    Args:
        data: a file, folder, DataFrame, dataset, or hf://name.
        freeze: freeze the first blocks of the trunk (a number), or all of it (trunk).
        lora: freeze the trunk and train low-rank changes of this rank (LoRA), which are also saved alone, in adapter/.
        teacher: a larger model of the same columns; the new one also learns from its answers (distillation).
        restructure: let settings like trunk.layers=6 change the model that it starts from.
        quiet: print nothing.

    Returns:
        The model, as `onetrunk.load(out)` gives it.

    Examples:
        onetrunk finetune data.csv --ask label --from foundation --out model
    """
    from onetrunk.training.jobs import run_finetuning
    from onetrunk.verbs.show import Printer

    flags = {"finetune.freeze": freeze, "finetune.lora.rank": lora}
    settings = [f"{key}={value}" for key, value in flags.items() if value is not None]
    options = replace(options, settings=[*(options.settings or []), *settings])
    with tracking(Printer(quiet), options) as on_event:
        return run_finetuning(data, options, on_event, teacher=teacher, restructure=restructure)
