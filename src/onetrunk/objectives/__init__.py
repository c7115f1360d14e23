"""What a model learns from, one file each; `Learner` is a model with some of them."""

from onetrunk.objectives._learner import Learner

__all__ = ["Learner"]
