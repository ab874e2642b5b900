"""Dispatch: rows of the outbox become runs of the task manager."""
