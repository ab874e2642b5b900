"""A worker of Hatchet in the chaos test; its listener process imports this module too, and needs nothing of it."""

from __future__ import annotations

if __name__ == "__main__":
    import asyncio
    import os
    import sys
    from collections.abc import AsyncGenerator

    from tests.chaos.flows import SLOTS, make_client

    client = make_client(os.environ)
    name = f"chaos-{os.getpid()}"

    async def tell() -> None:
        """Say that the engine knows this worker as one that listens."""
        while True:
            rows = (await client.workers.aio_list()).rows or ()
            if any(row.name.endswith(name) and row.status == "ACTIVE" for row in rows):
                sys.stdout.write("ready\n")
                sys.stdout.flush()
                return
            await asyncio.sleep(0.2)

    async def telling() -> AsyncGenerator[None]:
        """Tell beside the work."""
        task = asyncio.create_task(tell())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    client.worker(name, slots=SLOTS, lifespan=telling).start()
