"""A fan-out over what was found, again and again: a crawl that goes on with the pages that the last pages linked to.

No worker waits for another task: each round of pages is a swarm, and what it found is the next call of `crawl`.

python fan_out.py
"""

import asyncio
from itertools import chain
from typing import Any

from mageflow import Mageflow, Signature, SwarmConfig

client = Mageflow()
SITE = {"/": ["/docs", "/blog"], "/docs": ["/docs/guide", "/blog"], "/blog": ["/"], "/docs/guide": []}


@client.task(name="fetch")
async def fetch(path: str) -> list[str]:
    return SITE[path]


@client.task(name="crawl")
async def crawl(mageflow_results: list[list[str]], seen: list[str]) -> list[str] | Signature[Any, list[str]]:
    new = sorted({*chain(*mageflow_results)} - {*seen})
    if not new:
        return sorted(seen)
    pages = [await client.asign(fetch, path=path) for path in new]
    config = SwarmConfig(max_concurrency=4, stop_after_n_failures=10)
    found = await client.aswarm(pages, task_name="pages", config=config, is_swarm_closed=True)
    return await client.achain([found, await client.asign("crawl", seen=[*seen, *new])])


async def main() -> None:
    flow = await client.asign(crawl, mageflow_results=[["/"]], seen=[])
    async with client.worker():
        print(await flow.aio_run(timeout=20))


if __name__ == "__main__":
    asyncio.run(main())
