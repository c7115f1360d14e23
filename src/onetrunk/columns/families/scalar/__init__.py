"""Values that are points on a line: numbers, dates. A type of it says how its values map to the line and back."""
