"""pretrain: a foundation model of a table, from nothing or from another model folder."""

from __future__ import annotations

from typing import Any


def pretrain(
    data: Any,
    *,
    out: str = "foundation",
    ask: list[str] | None = None,
    given: list[str] | None = None,
    ignore: list[str] | None = None,
    types: dict[str, str] | None = None,
    map: dict[str, str] | None = None,
    fold: dict[str, str] | None = None,
    split: str = "auto",
    size: str | None = None,
    start: str | None = None,
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
    """Pretrain one model on all columns of a table: it learns to predict any part of a row from the rest.

    Args:
        data: a file, folder, DataFrame, dataset, or hf://name.
        out: the model folder to make.
        ask: columns that matter most later; by default every column is alike.
        given: columns to use; by default all but ids, constants and leaks.
        ignore: columns to leave out.
        types: column=type, where the inferred type is wrong.
        map: model_column=table_column, where names differ.
        fold: key=value, how a table of events becomes rows, like by=user,order=time,window=50.
        split: auto, random, stratified, or group, scaffold, time or given:COLUMN; with :80/10/10.
        size: nano, tiny, small, base or large.
        start: a model folder to go on from; also a Hugging Face folder, or hf://name.
        budget: at most this long, like 10min.
        seed: of everything random.
        config: a YAML file with any setting.
        settings: key=value, like train.lr=3e-4.
        overwrite: replace an existing model folder.
        allow_equal_rows: let equal rows stand on both sides of the split.
        max_bad: share of unusable values in a column from which the run stops.
        network: let hf:// names reach for the network.
        quiet: print nothing.

    Returns:
        The model, as `onetrunk.load(out)` gives it.
    """
    from onetrunk.core.terminal import literal
    from onetrunk.training.open_data import open_data
    from onetrunk.training.output import Output, command_digest
    from onetrunk.training.pretrain import pretrain_model
    from onetrunk.training.recipe import budget_seconds, make_recipe
    from onetrunk.training.start import start_from
    from onetrunk.verbs.show import console_for

    console = console_for(quiet)
    run = make_recipe(config, settings, size=size, fold=fold)
    told = {
        "recipe": run.model_dump(mode="json"), "ask": ask, "given": given, "ignore": ignore, "types": types, "map": map,
        "split": split, "start": start, "budget": budget, "seed": seed, "equal": allow_equal_rows, "bad": max_bad,
    }  # fmt: skip
    output = Output(out, overwrite, command_digest("pretrain", told, start))
    model, run = start_from(start, run, network, seed)
    opened = open_data(
        data, ask=ask, given=given, ignore=ignore, types=types, map=map, split_spec=split, seed=seed,
        allow_equal_rows=allow_equal_rows, network=network, config=run, console=console, start=model, max_bad=max_bad,
    )  # fmt: skip
    output.open(opened)
    model = pretrain_model(opened, run, output, seed, model, budget_seconds(budget), max_bad, console)
    model.save(out, overwrite=output.replaces)
    output.finish()
    console.print(f"The foundation model is in [bold]{literal(out)}[/].", highlight=False)
    return model
