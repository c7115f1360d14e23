"""Training as an application: a recipe, and functions that open data, pretrain, fine-tune, adapt and select."""
