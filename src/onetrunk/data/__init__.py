"""Tables from outside, what is in them, how they are split, and packed for the trunk."""
