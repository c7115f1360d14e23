"""The words every other floor speaks. Imports nothing from onetrunk but itself."""
