"""Folders of the Hugging Face hub: those in the local cache, which is filled only if the network is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from onetrunk.core.errors import MissingExtraError, ModelFileError

HUB = "hf://"
DATA = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.md")  # what a model is made of; nothing that is code
_OF_RUNS = ("checkpoints/*", "tensorboard/*")  # of ours, what training left beside the model


def snapshot(name: str, allow_network: bool, patterns: Sequence[str] = DATA) -> Path:
    """The folder of `owner/name`, with files of these patterns. Raises ModelFileError where it cannot be had, and
    MissingExtraError."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingExtraError("huggingface_hub", "hub", f"Reading {HUB}{name}") from None
    try:
        return Path(
            snapshot_download(
                name,
                allow_patterns=list(patterns),
                ignore_patterns=list(_OF_RUNS),
                local_files_only=not allow_network,
            )
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        if not allow_network:
            reason = "it is not in the local cache, and the network is used only with --allow-network"
        raise ModelFileError(f"Cannot load the hub model {name!r}: {reason}.") from None
