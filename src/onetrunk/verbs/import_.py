"""import: other people's checkpoints as model folders."""

from __future__ import annotations

from typing import Any


def import_(
    source: str,
    *,
    out: str = "model",
    tower: str | None = None,
    base: str | None = None,
    network: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> Any:
    """Make a model folder of a Hugging Face folder: GPT-2, BERT, RoBERTa, Llama, Mistral, Qwen, ViT, DeiT or CLIP.

    Args:
        source: a folder with config.json and safetensors, hf://owner/name; with --base an adapter folder.
        out: the model folder to make.
        base: the model folder that an adapter folder (of finetune --lora) was trained on: both become one model.
        tower: which of CLIP's two, text or image.
        network: let hf:// names reach for the network.
        overwrite: replace an existing model folder.
        quiet: print nothing.

    Returns:
        The model, as `onetrunk.load(out)` gives it.
    """
    from onetrunk.inference.model_folder import load
    from onetrunk.interop import huggingface
    from onetrunk.verbs import _setup

    console = _setup.console(quiet)
    _setup.check_free(out, overwrite)
    if base is not None:
        load(base, source).save(out, overwrite=overwrite)
        console.print(f"The model, {base} with its adapter, is in [bold]{out}[/].", highlight=False)
        return load(out)
    model = huggingface.read(huggingface.locate(source, network), tower)
    (stage,) = model.provenance["stages"]
    (column,) = model.columns.values()
    parameters = sum(p.numel() for p in model.network.parameters())
    console.print(
        f"[bold]{stage['family']}[/] with a column [bold]{column.name}[/], {parameters:,} parameters",
        highlight=False,
    )
    if stage["left_out"]:
        console.print(f"[yellow]Left out:[/] {', '.join(stage['left_out'])}", highlight=False)
    model.save(out, overwrite=overwrite)
    console.print(f"The model is in [bold]{out}[/].", highlight=False)
    return model
