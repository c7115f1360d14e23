"""Checkpoints of the Hugging Face world: those of known families are read, and texts are written as Qwen3 or Llama."""

from onetrunk.interop.huggingface.reader import is_checkpoint, locate, read, read_trunk

__all__ = ["is_checkpoint", "locate", "read", "read_trunk"]
