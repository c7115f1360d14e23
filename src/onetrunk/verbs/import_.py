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
    allow_network: bool = False,
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
        allow_network: allow hf:// names to use the network.
        overwrite: replace an existing model folder.
        quiet: print nothing.

    Returns:
        The model, as `onetrunk.load(out)` gives it.
    """
    from onetrunk.core.errors import UsageError
    from onetrunk.core.events import Saved
    from onetrunk.inference.model_folder import load
    from onetrunk.interop import huggingface, keras
    from onetrunk.training.output import check_free
    from onetrunk.verbs.show import Printer

    printer = Printer(quiet)
    weights = base is None and keras.is_weights(Path(source))
    if words is not None and not weights:
        raise UsageError(f"--words is for Keras weights (.h5); {source} brings its own: leave it out.")
    if tower is not None and (weights or base is not None):
        raise UsageError(f"--tower chooses one of CLIP's; {source} has none: leave it out.")
    check_free(out, overwrite)
    if base is not None:
        load(base, source, device="cpu").save(out, overwrite=overwrite)
        printer.line(f"The model, {base} with its adapter, is in ", (out, "bold"), ".")
        return load(out)
    if weights:
        model = keras.read(Path(source), None if words is None else Path(words))
    else:
        model = huggingface.read(huggingface.locate(source, allow_network), tower)
    (stage,) = model.provenance["stages"]
    parameters = sum(p.numel() for p in model.network.parameters())
    names = ", ".join(model.columns)
    printer.line((stage["family"], "bold"), " with ", (names, "bold"), f", {parameters:,} parameters")
    if stage["left_out"]:
        printer.line(("Left out:", "yellow"), f" {', '.join(stage['left_out'])}")
    model.save(out, overwrite=overwrite)
    printer(Saved("model", out))
    return model
