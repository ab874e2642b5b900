"""Constants."""

from typing import Final

from mageflow import TTLConfig
from mageflow.flow.ids import PREFIX as MAGEFLOW_TASK_INITIALS
from thirdmagic._gone import Gone

REMOVED_TASK_TTL: Final = TTLConfig().done_ttl
TASK_ID_PARAM_NAME = Gone("TASK_ID_PARAM_NAME", "the key of a signature never travels in its message")

__all__ = ["MAGEFLOW_TASK_INITIALS", "REMOVED_TASK_TTL", "TASK_ID_PARAM_NAME"]
