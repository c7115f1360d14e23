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
    """Make a model folder of a Hugging Face folder (of the families of GPT-2, Llama, BERT, ViT and CLIP;
    docs/interop.md names them all) or of Keras weights (Embedding, LSTM, Dense).

    Args:
        source: a folder with config.json and safetensors, hf://owner/name, a Keras .h5 file, or with --base an adapter.
        base: what an adapter was trained on: a model folder, or for an adapter of PEFT a Hugging Face folder.
        words: a JSON file with the number of each word, for Keras weights; without it a text consists of numbers.
        convert: take the tensors out of pickled weights (.bin), in a process of its own without network.
        tower: which of CLIP's two models to take, text or image.
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
