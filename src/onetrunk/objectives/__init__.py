"""The objectives, one file each; `Learner` is a model together with some of them."""

from onetrunk.objectives._learner import Learner

__all__ = ["Learner"]
