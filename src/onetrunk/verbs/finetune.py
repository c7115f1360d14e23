"""finetune: a model folder learns one task: which columns are given, which is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from onetrunk.training.options import TrainingOptions
from onetrunk.verbs.shared import REQUIRED, takes

if TYPE_CHECKING:
    from onetrunk.inference.model_folder import Model


@takes(
    TrainingOptions,
    "ask given ignore types map split seed device allow_equal_rows max_bad allow_network "
    "out overwrite start size events budget config settings",
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
    """Fine-tune on one task, from a foundation model (--from) or from nothing.

    Args:
        data: a file, folder, DataFrame, dataset, or hf://name.
        freeze: k leaves the first k blocks as they are; "trunk" trains asked columns only.
        lora: freeze the trunk, which learns changes of this rank; they are also kept apart, in adapter/.
        teacher: a larger model folder of the same columns; the model learns from its answers, too.
        restructure: let settings of trunk and columns change the model it starts from, like trunk.layers=6.
        quiet: print nothing.

    Returns:
        The model, as `onetrunk.load(out)` gives it.
    """
    from onetrunk.training.jobs import run_finetuning
    from onetrunk.verbs.show import Printer

    flags = {"finetune.freeze": freeze, "finetune.lora.rank": lora}
    settings = [f"{key}={value}" for key, value in flags.items() if value is not None]
    options = replace(options, settings=[*(options.settings or []), *settings])
    return run_finetuning(data, options, Printer(quiet), teacher=teacher, restructure=restructure)
