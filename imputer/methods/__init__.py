"""One file for one paper: from stacks of slices through a network and a sampler back to stacks."""
