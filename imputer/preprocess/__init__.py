"""From a volume to a stack of slices that a network takes, and exactly back."""
