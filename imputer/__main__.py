"""``python -m imputer``."""

from imputer.cli.app import app

if __name__ == "__main__":
    app(prog_name="imputer")
