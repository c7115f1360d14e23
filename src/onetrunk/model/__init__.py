"""The model: columns embed, the trunk mixes, columns read out."""

from onetrunk.core.hidden import Hidden
from onetrunk.model.foundation import FoundationModel

__all__ = ["FoundationModel", "Hidden"]
