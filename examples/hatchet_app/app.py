"""A flow on Hatchet: `python app.py worker` serves, `python app.py` starts a crawl and waits for it."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

from hatchet_sdk import Context, Hatchet
from pydantic import BaseModel

from mageflow import ErrorValue, Mageflow, MageflowConfig, ReturnValue, SwarmConfig

client = Mageflow(Hatchet(), config=MageflowConfig(namespace="hatchet-app"))


class Page(BaseModel):
    url: str


class Counts(BaseModel):
    counts: ReturnValue[list[int]]


class Problem(BaseModel):
    url: str
    error: ErrorValue


@client.task(name="count-words", retries=2, execution_timeout=timedelta(seconds=10))
async def count_words(page: Page, ctx: Context) -> int:
    if page.url.endswith("/missing"):
        text = f"there is no {page.url} (attempt {ctx.attempt_number})"
        raise ValueError(text)
    return len(page.url)


@client.task(name="add-up")
async def add_up(message: Counts) -> int:
    return sum(message.counts)


@client.task(name="note-problem")
async def note_problem(message: Problem) -> None:
    print(f"{message.url}: {message.error.message}")


async def crawl() -> None:
    urls = ["https://example.com/one", "https://example.com/two", "https://example.com/missing"]
    pages = [await client.asign(count_words, url=url, error_callbacks=[note_problem]) for url in urls]
    site = await client.aswarm(pages, config=SwarmConfig(max_concurrency=2), is_swarm_closed=True)
    flow = await client.achain([site, add_up], name="words of a site")
    print(await flow.aio_run(timeout=60))
    await client.shutdown()


if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        client.worker("hatchet-app", slots=20).start()
    else:
        asyncio.run(crawl())
