"""What `python -m bench edges` does to the product: mutations, kills, hostile files, and other people's models."""
