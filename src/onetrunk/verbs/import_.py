"""import: other people's checkpoints as model folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def import_(
    source: str,
    *,
    out: str = "model",
    tower: str | None = None,
    base: str | None = None,
    words: str | None = None,
    network: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> Any:
    """Make a model folder of a Hugging Face folder (GPT-2, BERT, RoBERTa, Llama, Mistral, Qwen, ViT, DeiT or CLIP) or
    of Keras weights (Embedding, LSTM, Dense).

    Args:
        source: a folder with config.json and safetensors, hf://owner/name, a Keras .h5 file, or with --base an adapter.
        out: the model folder to make.
        base: the model folder that an adapter folder (of finetune --lora) was trained on: both become one model.
        words: of Keras weights, a JSON file of words and their numbers; without it the words of a text are numbers.
        tower: which of CLIP's two, text or image.
        network: let hf:// names reach for the network.
        overwrite: replace an existing model folder.
        quiet: print nothing.

    Returns:
        The model, as `onetrunk.load(out)` gives it.
    """
    from onetrunk.core.errors import UsageError
    from onetrunk.core.terminal import literal
    from onetrunk.inference.model_folder import load
    from onetrunk.interop import huggingface, keras
    from onetrunk.training.output import check_free
    from onetrunk.verbs.show import console_for

    console = console_for(quiet)
    weights = base is None and keras.is_weights(Path(source))
    if words is not None and not weights:
        raise UsageError(f"--words is for Keras weights (.h5); {source} brings its own: leave it out.")
    if tower is not None and (weights or base is not None):
        raise UsageError(f"--tower chooses one of CLIP's; {source} has none: leave it out.")
    check_free(out, overwrite)
    if base is not None:
        load(base, source, device="cpu").save(out, overwrite=overwrite)
        console.print(f"The model, {literal(base)} with its adapter, is in [bold]{literal(out)}[/].", highlight=False)
        return load(out)
    if weights:
        model = keras.read(Path(source), None if words is None else Path(words))
    else:
        model = huggingface.read(huggingface.locate(source, network), tower)
    (stage,) = model.provenance["stages"]
    parameters = sum(p.numel() for p in model.network.parameters())
    console.print(
        f"[bold]{stage['family']}[/] with [bold]{literal(', '.join(model.columns))}[/], {parameters:,} parameters",
        highlight=False,
    )
    if stage["left_out"]:
        console.print(f"[yellow]Left out:[/] {literal(', '.join(stage['left_out']))}", highlight=False)
    model.save(out, overwrite=overwrite)
    console.print(f"The model is in [bold]{literal(out)}[/].", highlight=False)
    return model
