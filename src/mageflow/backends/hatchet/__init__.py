"""Hatchet: one run of its engine for each task of a flow, and no run for anything else."""

from mageflow.backends.hatchet.backend import HatchetBackend

__all__ = ["HatchetBackend"]
