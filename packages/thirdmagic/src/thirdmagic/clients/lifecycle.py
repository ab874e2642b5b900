"""What surrounds a run."""

from thirdmagic._gone import Gone

BaseLifecycle = Gone("BaseLifecycle", "scripts in Redis record what a run does; callbacks say what follows")

__all__ = ["BaseLifecycle"]
