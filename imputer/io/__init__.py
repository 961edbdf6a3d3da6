"""Reading and writing volumes."""
