"""What private training draws from: random numbers that nobody else can make again.

Everything else here is keyed by the seed, which travels with the model (`core.rng`). Noise that is to hide rows must
not be: whoever knows it takes it off again. So it is keyed by a secret that is drawn when a run begins, kept in its
checkpoints as long as it runs, and in no model folder.
"""

from __future__ import annotations

import hashlib
import secrets

import numpy as np

_BYTES = 32


class Secret:
    """The same object draws a run's samples and its noise; a run that goes on sets `key` to what it was."""

    def __init__(self, key: bytes | None = None) -> None:
        self.key = secrets.token_bytes(_BYTES) if key is None else key

    def generator(self, *purpose: int | str) -> np.random.Generator:
        """A generator for one purpose, always the same: counter-based (Philox, Salmon et al. 2011), with its own key of
        128 bits, made of the secret by BLAKE2b."""
        name = "/".join(map(str, purpose)).encode()
        digest = hashlib.blake2b(name, key=self.key, digest_size=16).digest()
        return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
