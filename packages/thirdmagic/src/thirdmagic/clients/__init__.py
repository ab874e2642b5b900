"""Adapters of task managers."""

from thirdmagic.clients.base import BaseClientAdapter, DefaultClientAdapter

__all__ = ["BaseClientAdapter", "DefaultClientAdapter"]
