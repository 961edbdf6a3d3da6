"""Benchmarks: variants beside each other in one run. Results with the machine lie in `results`."""
