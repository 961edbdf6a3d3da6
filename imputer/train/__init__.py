"""Training; imported by nothing but the command line."""
