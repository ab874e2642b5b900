"""A map-reduce: the words of all files are counted side by side, then added up.

python map_reduce.py FILE...
"""

import asyncio
import sys
from collections import Counter
from pathlib import Path

from mageflow import Mageflow, SwarmConfig

client = Mageflow()


@client.task(name="count-words")
def count_words(path: str) -> dict[str, int]:
    return Counter(Path(path).read_text().split())


@client.task(name="add-up")
def add_up(mageflow_results: list[dict[str, int]]) -> dict[str, int]:
    return dict(sum(map(Counter, mageflow_results), Counter()).most_common(3))


async def main(paths: list[str]) -> None:
    counts = [await client.asign(count_words, path=path) for path in paths]
    mapped = await client.aswarm(counts, config=SwarmConfig(max_concurrency=8), is_swarm_closed=True)
    async with client.worker():
        print(await (await client.achain([mapped, add_up])).aio_run(timeout=60))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
