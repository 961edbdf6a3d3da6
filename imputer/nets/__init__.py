"""Networks: plain torch modules, no I/O except checkpoint files."""
