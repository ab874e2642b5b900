"""Typing names of newer Pythons."""

from typing import Self

from typing_extensions import Unpack

__all__ = ["Self", "Unpack"]
