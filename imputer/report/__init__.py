"""What is told about a result: scores, pictures, provenance."""
