"""Statuses."""

from mageflow import PauseActionTypes
from mageflow import Status as SignatureStatus

TaskStatus = SignatureStatus

__all__ = ["PauseActionTypes", "SignatureStatus", "TaskStatus"]
