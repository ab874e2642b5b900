"""A worker of Hatchet in the chaos test; its listener process imports this module too, and needs nothing of it."""

from __future__ import annotations

if __name__ == "__main__":
    import os
    import sys
    from collections.abc import AsyncGenerator

    from tests.chaos.flows import SLOTS, make_client

    async def tell() -> AsyncGenerator[None]:
        """Say that it is about to take work."""
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        yield

    make_client(os.environ).worker("chaos", slots=SLOTS, lifespan=tell).start()
