"""Run: a delivery becomes a run, its end an event."""
