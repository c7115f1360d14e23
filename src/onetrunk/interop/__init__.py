"""Other people's models as ours, and ours as other programs open them."""
