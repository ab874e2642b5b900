"""What workers run: `taskiq worker tasks:broker`."""

import asyncio

from flows import broker, client
from pydantic import BaseModel

from mageflow import ErrorValue, NonRetryableError, ReturnValue

__all__ = ["broker"]


class Report(BaseModel):
    """What the campaign's success callback gets: what was bound to it, and the results of all mails."""

    subject: str
    sent: ReturnValue[list[str]]


class Alarm(BaseModel):
    """What the campaign's error callback gets: its message, and the error that was one too many."""

    subject: str
    error: ErrorValue


@client.task(name="send-mail", retries=2, execution_timeout=300)
async def send_mail(to: str, subject: str, seconds: float = 0.1) -> str:
    """Send a mail; an address that can be none is no use trying again."""
    if "@" not in to:
        raise NonRetryableError(f"{to!r} is no address")
    await asyncio.sleep(seconds)  # a mail server is slow
    print(f"sent {subject!r} to {to}")
    return to


@client.task(name="report")
async def report(campaign: Report) -> None:
    """Tell that a campaign is through."""
    print(f"report: {campaign.subject!r} went to {len(campaign.sent)}")


@client.task(name="alarm")
async def alarm(campaign: Alarm) -> None:
    """Tell that too many mails of a campaign failed."""
    print(f"alarm: {campaign.subject!r} was stopped: {campaign.error.message}")
