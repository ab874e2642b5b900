"""Adapters of task managers."""

from thirdmagic._gone import Gone
from thirdmagic.clients.lifecycle import BaseLifecycle
from thirdmagic.task_def import MageflowTaskDefinition

_INSTEAD = "a client finds the backend of the task manager that it is given: Mageflow(hatchet), Mageflow(broker)"
BaseClientAdapter = Gone("BaseClientAdapter", _INSTEAD)
DefaultClientAdapter = Gone("DefaultClientAdapter", _INSTEAD)

__all__ = ["BaseClientAdapter", "BaseLifecycle", "DefaultClientAdapter", "MageflowTaskDefinition"]
