"""import: other people's checkpoints as model folders."""

from __future__ import annotations

from typing import Any


def import_(
    source: str,
    *,
    out: str = "model",
    tower: str | None = None,
    network: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> Any:
    """Make a model folder of a Hugging Face folder: GPT-2, BERT, RoBERTa, Llama, Mistral, Qwen, ViT, DeiT or CLIP.

    Args:
        source: a folder with config.json and safetensors, or hf://owner/name.
        out: the model folder to make.
        tower: which of CLIP's two, text or image.
        network: let hf:// names reach for the network.
        overwrite: replace an existing model folder.
        quiet: print nothing.

    Returns:
        The model, as `onetrunk.load(out)` gives it.
    """
    from onetrunk.interop import huggingface
    from onetrunk.verbs import _setup

    console = _setup.console(quiet)
    _setup.check_free(out, overwrite)
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
