"""Definitions of tasks."""

from thirdmagic._gone import Gone

MageflowTaskDefinition = Gone(
    "MageflowTaskDefinition", "a task is known by its name as soon as a process registered it"
)

__all__ = ["MageflowTaskDefinition"]
