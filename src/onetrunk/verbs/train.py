"""train: the whole way in one: inspect, split, pretrain, fine-tune, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def train(
    data: Any,
    *,
    ask: list[str],
    out: str = "model",
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
    """Train a model to predict columns of your table: pretrain, fine-tune, evaluate, report.

    Args:
        data: a file, folder, DataFrame, dataset, or hf://name.
        ask: the columns to predict.
        out: the model folder to make; the foundation model goes to OUT-foundation.
        given: columns to predict from; by default all but ids, constants and leaks.
        ignore: columns to leave out.
        types: column=type, where the inferred type is wrong.
        map: model_column=table_column, where names differ.
        fold: key=value, how a table of events becomes rows, like by=user,order=time,window=50.
        split: auto, random, stratified, or group, scaffold, time or given:COLUMN; with :80/10/10.
        size: nano, tiny, small, base or large.
        start: a foundation model folder to start from, instead of pretraining.
        budget: at most about this long, like 10min.
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
    from onetrunk.core.folder import MANIFEST
    from onetrunk.core.terminal import literal
    from onetrunk.evaluation.evidence_folder import evaluate_model
    from onetrunk.inference.model_folder import load
    from onetrunk.training.finetune import finetune_model
    from onetrunk.training.open_data import open_data
    from onetrunk.training.output import EVALUATING, PRETRAINED, Output, command_digest
    from onetrunk.training.pretrain import pretrain_model
    from onetrunk.training.recipe import budget_seconds, make_recipe
    from onetrunk.training.stage import extend_model
    from onetrunk.training.start import start_from
    from onetrunk.verbs.show import console_for

    console = console_for(quiet)
    run = make_recipe(config, settings, size=size, fold=fold)
    told = {
        "recipe": run.model_dump(mode="json"), "ask": ask, "given": given, "ignore": ignore, "types": types, "map": map,
        "split": split, "start": start, "budget": budget, "seed": seed, "equal": allow_equal_rows, "bad": max_bad,
    }  # fmt: skip
    command = command_digest("train", told, start)
    output, foundation = Output(out, overwrite, command), Path(f"{out}-foundation")
    sources = [start]
    if start is None and (foundation / MANIFEST).exists() and (output.stage or not overwrite):
        sources.insert(0, str(foundation))
    for source in sources:
        if source == str(foundation):
            console.print(
                f"Going on with [bold]{literal(source)}[/], made before (--overwrite makes it anew).", highlight=False
            )
        model, recipe = start_from(source, run, network, seed)
        opened = open_data(
            data, ask=ask, given=given, ignore=ignore, types=types, map=map, split_spec=split, seed=seed,
            allow_equal_rows=allow_equal_rows, network=network, config=recipe, console=console, start=model,
            max_bad=max_bad,
        )  # fmt: skip
        output.open(opened)
        if output.stage or not overwrite:
            break  # else what was made before is of other rows
    limit = budget_seconds(budget)
    if output.stage == EVALUATING:
        model = load(out)
    else:
        if model is None:
            first, share = Output(foundation, overwrite, command), None if limit is None else 0.6 * limit
            first.open(opened)
            model = pretrain_model(opened, recipe, first, seed, None, share, max_bad, console)
            model.save(foundation, overwrite=first.replaces)
            output.mark(PRETRAINED)
        else:
            extend_model(model, opened, console, seed, recipe.finetune)
        share = None if limit is None else 0.3 * limit
        model, decision = finetune_model(opened, recipe, output, seed, model, True, max_bad, console, share)
        model.provenance["decision"] = decision
        model.save(out, overwrite=output.replaces)
        output.mark(EVALUATING)
    evaluate_model(model, opened.part("test"), opened.part("train"), Path(out), seed, console)
    Output(foundation, True, command).finish()  # it was made for this model
    output.finish()
    console.print(
        f"\nThe model is in [bold]{literal(out)}[/]; open [bold]{literal(Path(out) / 'evidence' / 'report.html')}[/].\n"
        f"Use it: [bold]onetrunk predict {literal(out)} NEW_ROWS.csv --out answers.csv[/]",
        highlight=False,
    )
    return model
