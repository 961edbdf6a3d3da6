"""How jobs are spread: over one process, several devices, or a Dask cluster. An engine knows nothing of volumes."""
