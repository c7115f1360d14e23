"""What is on disk is whole and verified, or it is refused: atomic folders, strict JSON, safetensors."""
