"""Floor 1: tables from outside, what is in them, how they are split, and packed for the trunk."""
