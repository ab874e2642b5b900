"""A loop: a task returns its own signature again until the export is there, then the flow goes on with the result.

python loop.py
"""

import asyncio
from typing import Any

from mageflow import Mageflow, Signature

client = Mageflow()


@client.task(name="wait-for-export")
async def wait_for_export(number: int, looks: int = 0) -> str | Signature[Any, str]:
    if looks < 3:  # here: ask the service whether it is there
        await asyncio.sleep(0.05)
        return await client.asign("wait-for-export", number=number, looks=looks + 1)
    return f"export {number} after {looks} looks"


@client.task(name="announce")
async def announce(mageflow_results: str) -> str:
    return f"ready: {mageflow_results}"


async def main() -> None:
    flow = await client.achain([await client.asign(wait_for_export, number=7), announce])
    async with client.worker():
        print(await flow.aio_run(timeout=20))


if __name__ == "__main__":
    asyncio.run(main())
