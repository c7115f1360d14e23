"""What may be wrong with a model: whom it treats worse, what upsets it, what it gives away, what its folder holds."""
