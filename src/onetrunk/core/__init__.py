"""The contracts, and the data types that travel between them. Imports nothing else from onetrunk."""
