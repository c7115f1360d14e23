"""finetune: a model folder learns one task: which columns are given, which is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def finetune(
    data: Any,
    *,
    ask: list[str],
    start: str | None = None,
    out: str = "model",
    given: list[str] | None = None,
    ignore: list[str] | None = None,
    types: dict[str, str] | None = None,
    map: dict[str, str] | None = None,
    fold: dict[str, str] | None = None,
    split: str = "auto",
    size: str | None = None,
    freeze: str | None = None,
    lora: int | None = None,
    teacher: str | None = None,
    restructure: bool = False,
    budget: str | None = None,
    seed: int = 0,
    config: Any = None,
    settings: list[str] | None = None,
    overwrite: bool = False,
    allow_equal_rows: bool = False,
    max_bad: float = 0.01,
    network: bool = False,
    quiet: bool = False,
) -> Any:
    """Fine-tune on one task, from a foundation model (--from) or from nothing.

    Args:
        data: a file, folder, DataFrame, dataset, or hf://name.
        ask: the columns to predict.
        start: the model folder to start from (or a Hugging Face folder, hf://name); else from nothing.
        out: the model folder to make.
        given: columns to predict from; by default all but ids, constants and leaks.
        ignore: columns to leave out.
        types: column=type, where the inferred type is wrong.
        map: model_column=table_column, where names differ.
        fold: key=value, how a table of events becomes rows, like by=user,order=time,window=50.
        split: auto, random, stratified, or group, scaffold, time or given:COLUMN; with :80/10/10.
        size: nano, tiny, small, base or large; without --from.
        freeze: k leaves the first k blocks as they are; "trunk" trains asked columns only.
        lora: freeze the trunk, which learns changes of this rank; they are also kept apart, in adapter/.
        teacher: a larger model folder of the same columns, from whose answers it learns too, on rows without one alone.
        restructure: let settings of trunk and columns change the model it starts from, like trunk.layers=6.
        budget: at most this long, like 10min.
        seed: of everything random.
        config: a YAML file with any setting.
        settings: key=value, like finetune.epochs=5.
        overwrite: replace an existing model folder.
        allow_equal_rows: let equal rows stand on both sides of the split.
        max_bad: share of unusable values in a column from which the run stops.
        network: let hf:// names reach for the network.
        quiet: print nothing.

    Returns:
        The model, as `onetrunk.load(out)` gives it.
    """
    from onetrunk.core.terminal import literal
    from onetrunk.inference.adapter import base_digest
    from onetrunk.training.distil import both_met, open_teacher, teach
    from onetrunk.training.finetune import finetune_model
    from onetrunk.training.open_data import open_data
    from onetrunk.training.output import Output, command_digest
    from onetrunk.training.recipe import budget_seconds, make_recipe
    from onetrunk.training.stage import extend_model, new_model
    from onetrunk.training.start import start_from
    from onetrunk.verbs.show import console_for

    console = console_for(quiet)
    if freeze is not None:
        settings = [*(settings or []), f"finetune.freeze={freeze}"]
    if lora is not None:
        settings = [*(settings or []), f"finetune.lora.rank={lora}"]
    run, limit = make_recipe(config, settings, size=size, fold=fold), budget_seconds(budget)
    told = {
        "recipe": run.model_dump(mode="json"), "ask": ask, "given": given, "ignore": ignore, "types": types, "map": map,
        "split": split, "start": start, "teacher": teacher, "restructure": restructure, "budget": budget, "seed": seed,
        "equal": allow_equal_rows, "bad": max_bad,
    }  # fmt: skip
    output = Output(out, overwrite, command_digest("finetune", told, start, teacher))
    model, run = start_from(start, run, network, seed, restructure)
    above = None if teacher is None else open_teacher(teacher, model)
    if above is not None:
        run = run.model_copy(update={"given": "causal" if above.network.given_causal else "bidirectional"})
    opened = open_data(
        data, ask=ask, given=given, ignore=ignore, types=types, map=map, split_spec=split, seed=seed,
        allow_equal_rows=allow_equal_rows, network=network, config=run, console=console,
        start=both_met(above, model), max_bad=max_bad,
    )  # fmt: skip
    output.open(opened)
    if model is None:
        model = new_model(opened, run, seed, above)
    else:
        extend_model(model, opened, console, seed, run.finetune)
    if above is not None:
        teach(model, above, opened, run.finetune.distil, console)
    model, _ = finetune_model(opened, run, output, seed, model, bool(start), max_bad, console, limit)
    model.network.teacher = None
    if above is not None:
        model.provenance["teacher"] = {"name": Path(teacher).name, "digest": base_digest(Path(teacher))}
    model.save(out, overwrite=output.replaces)
    output.finish()
    console.print(f"The model is in [bold]{literal(out)}[/].", highlight=False)
    return model
