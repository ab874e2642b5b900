"""Where return values go."""

from mageflow import ReturnValue
from mageflow.flow.message import RESULT_FIELD as DEFAULT_RESULT_NAME
from mageflow.flow.message import ReturnMark as ReturnValueAnnotation
from mageflow.flow.message import T

__all__ = ["DEFAULT_RESULT_NAME", "ReturnValue", "ReturnValueAnnotation", "T"]
