"""Waiting in tests: poll with a deadline and a description."""

from mageflow.testing.waiting import eventually

__all__ = ["eventually"]
