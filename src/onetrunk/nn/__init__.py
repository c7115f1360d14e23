"""The layers that trunks and columns are made of."""
