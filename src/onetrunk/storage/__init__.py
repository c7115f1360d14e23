"""Files that are complete and verified, or refused: atomic folders, strict JSON, safetensors."""
