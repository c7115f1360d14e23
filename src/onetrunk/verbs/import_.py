"""import: makes a model folder of a checkpoint of another program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onetrunk.training.options import TrainingOptions
from onetrunk.verbs.shared import takes

if TYPE_CHECKING:
    from onetrunk.inference.model_folder import Model


@takes(TrainingOptions, "out overwrite allow_network")
def import_(
    source: str,
    options: TrainingOptions,
    *,
    tower: str | None = None,
    base: str | None = None,
    words: str | None = None,
    convert: bool = False,
    quiet: bool = False,
) -> Model:
    """Turn a Hugging Face checkpoint or Keras weights into a model folder.

    Checkpoints may be of the families of GPT-2, Llama, BERT, ViT, CLIP and others, which docs/interop.md names; Keras
    weights of Embedding, LSTM and Dense layers.

    Args:
        source: a Hugging Face folder, hf://owner/name, a Keras .h5 file, or with --base a LoRA adapter.
        base: the model that the adapter was trained on: a model folder, or for a PEFT adapter a Hugging Face folder.
        words: a JSON file that maps words to numbers, for Keras weights; without it, texts are written as numbers.
        convert: convert pickled weights (.bin) to safetensors, in a process of their own that reaches no network.
        tower: which half of a CLIP model to take: text or image.
        quiet: print nothing.

    Returns:
        The model, as `onetrunk.load(out)` gives it.

    Examples:
        onetrunk import checkpoint/ --out model
    """
    from onetrunk.training.import_export import run_import
    from onetrunk.verbs.show import Printer

    return run_import(
        source, options.out, overwrite=options.overwrite, tower=tower, base=base, words=words, convert=convert,
        allow_network=options.allow_network, on_event=Printer(quiet),
    )  # fmt: skip
