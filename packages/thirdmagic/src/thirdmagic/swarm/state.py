"""State of swarms."""

from thirdmagic._gone import Gone

PublishState = Gone("PublishState", "what is published next stands in the outbox, written by the scripts")

__all__ = ["PublishState"]
