"""Which trained weights exist, and whether the files at hand are those."""
