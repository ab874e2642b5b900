"""Starts mailing campaigns, shows how far they are, and steers them: `uvicorn api:app`.

This process never imports the code of the tasks: it knows them by name.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Annotated

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from flows import client
from pydantic import BaseModel, Field

from mageflow import Progress, Status, SwarmConfig, SwarmSignature, Wait
from mageflow.errors import IllegalMoveError, SignatureNotFoundError, UnrecognizedTaskError


class Campaign(BaseModel):
    """A mail to many, so many at a time; it stops at the n-th that fails."""

    subject: str
    recipients: Annotated[list[str], Field(min_length=1, max_length=10_000)]
    at_a_time: Annotated[int, Field(ge=1)] = 10
    stop_after_failures: Annotated[int, Field(ge=1)] | None = None
    seconds_per_mail: Annotated[float, Field(ge=0)] = 0.1


class State(BaseModel):
    """How far a campaign is, and what it waits on until it has ended."""

    key: str
    status: Status
    progress: Progress
    waits_on: Wait | None
    sent: list[str] | None = None


class Verb(StrEnum):
    """What can be done to a campaign."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


@asynccontextmanager
async def open_client(_app: FastAPI) -> AsyncGenerator[None]:
    """Hold the connections while the process serves."""
    await client.startup()
    yield
    await client.shutdown()


app = FastAPI(title="Mailing", lifespan=open_client)


@app.post("/campaigns", status_code=201)
async def start_campaign(campaign: Campaign) -> State:
    """Start a campaign: all of it is written in one step, or nothing."""
    async with client.abounded_field():
        mails = [await client.asign("send-mail", to=address) for address in campaign.recipients]
        swarm = await client.aswarm(
            mails,
            task_name=campaign.subject,
            success_callbacks=[await client.asign("report", subject=campaign.subject)],
            error_callbacks=["alarm"],
            config=SwarmConfig(max_concurrency=campaign.at_a_time, stop_after_n_failures=campaign.stop_after_failures),
            is_swarm_closed=True,
        )
        await swarm.aio_run_no_wait({"subject": campaign.subject, "seconds": campaign.seconds_per_mail})
    return await campaign_state(swarm.key)


@app.get("/campaigns/{key}")
async def campaign_state(key: str) -> State:
    """Show how far a campaign is; ended ones are kept for five minutes."""
    swarm = await client.load_signature(key)
    if not isinstance(swarm, SwarmSignature):
        raise HTTPException(404, f"no campaign {key}")
    status = swarm.task_status
    return State(
        key=key,
        status=status,
        progress=await swarm.progress(),
        waits_on=await client.why(key),
        sent=await swarm.handle.result() if status is Status.DONE else None,
    )


@app.post("/campaigns/{key}/{verb}")
async def steer_campaign(key: str, verb: Verb) -> State:
    """Pause, resume or cancel a campaign; mails that are being sent are, if it is paused."""
    await {Verb.PAUSE: client.pause, Verb.RESUME: client.resume, Verb.CANCEL: client.cancel}[verb](key)
    return await campaign_state(key)


@app.exception_handler(SignatureNotFoundError)
async def not_found(_request: Request, error: SignatureNotFoundError) -> JSONResponse:
    """Answer for a key that is unknown or was forgotten."""
    return JSONResponse({"detail": str(error)}, 404)


@app.exception_handler(IllegalMoveError)
async def conflict(_request: Request, error: IllegalMoveError) -> JSONResponse:
    """Answer for what cannot be done in the state that the campaign is in."""
    return JSONResponse({"detail": str(error)}, 409)


@app.exception_handler(UnrecognizedTaskError)
async def not_ready(_request: Request, error: UnrecognizedTaskError) -> JSONResponse:
    """Answer while no worker has ever told which tasks there are."""
    return JSONResponse({"detail": f"{error}: start a worker first"}, 503)
