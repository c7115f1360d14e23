"""What a training verb starts from (`--from`): a model folder, a Hugging Face folder, or hf://name."""

from __future__ import annotations

from onetrunk.inference.model_folder import Model, load
from onetrunk.interop import huggingface
from onetrunk.verbs._setup import RunConfig

_GENTLE = {"optimizer": "adamw", "lr": 1e-4}  # what others trained for long is easily forgotten


def start_from(source: str | None, run: RunConfig, network: bool) -> tuple[Model | None, RunConfig]:
    """The model, if any, and the run's configuration with it: the model says whether what is given is causal, and one
    that was imported is trained gently unless the user chose an optimizer or learning rate."""
    if source is None:
        return None, run
    path = huggingface.locate(source, network)
    model = huggingface.read(path) if huggingface.is_checkpoint(path) else load(path)
    given = "causal" if model.network.given_causal else "bidirectional"
    train = run.train
    if [stage["stage"] for stage in model.provenance.get("stages", [])] == ["import"]:
        train = train.updated(**{k: v for k, v in _GENTLE.items() if k not in train.model_fields_set})
    return model, run.model_copy(update={"given": given, "train": train})
