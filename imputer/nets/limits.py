"""Limits of what a configuration of a network may say: it may come with a foreign file."""

from __future__ import annotations

from collections.abc import Mapping


def check_limits(config: object, limits: Mapping[str, tuple[int, int]]) -> None:
    """ValueError where a field of a configuration, or an item of one, is no whole number within its limits."""
    for name, (least, most) in limits.items():
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            if type(number) is not int or not least <= number <= most:
                raise ValueError(f"{name} is not within {least} to {most}")
