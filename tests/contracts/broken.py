"""Backends that break the contract, one way each. Not collected with the other tests: `test_broken.py` runs them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from redis.asyncio import Redis
from typing_extensions import override

from mageflow import Mageflow, MageflowConfig
from mageflow.backends.base import ACCEPTED, Delivery, Execution, Submission
from mageflow.flow.command import Dispatch
from mageflow.testing.contracts import BackendContracts, Subject
from tests.contracts.documented import Queue, QueueBackend

Job = dict[str, Any]


def suite_on(backend: type[QueueBackend]) -> type[BackendContracts]:
    """Return the suite on a broken backend."""

    class Broken(BackendContracts):
        """See above."""

        @pytest.fixture
        def subject(self, redis_url: str) -> Subject:
            """Clients of the broken backend."""

            def make_client(config: MageflowConfig) -> Mageflow:
                redis = Redis.from_url(redis_url, socket_timeout=None)
                queue = Queue(redis=redis, name=f"queue-{config.namespace}")
                return Mageflow(backend(queue, config.namespace), redis_url, config=config)

            return Subject(make_client=make_client, call=lambda client, task, message: client.call(task.name, message))

    return Broken


class Asking(QueueBackend):
    """Asks whether a job may run, for those below."""

    async def asked(self, job: Job) -> Execution | str:
        """Ask."""
        delivery = Delivery(id=job["id"], dispatch=job["dispatch"], attempt=job["attempt"])
        return await self._host.begin(delivery, job["task"])


class Loses(QueueBackend):
    """Says that it took every dispatch, and loses every second."""

    @override
    async def submit(self, batch: Sequence[Dispatch]) -> Sequence[Submission]:
        await super().submit(batch[::2])
        return [ACCEPTED] * len(batch)


class RunsAnyway(Asking):
    """Asks whether a delivery may run, and does not heed the answer."""

    @override
    async def run(self, job: Job) -> None:
        execution = await self.asked(job)
        if isinstance(execution, str):
            await self._queue.tasks[job["task"]].function(**job["message"])
            return
        await execution.call(job["message"], {})
        await execution.ended(None)


class Hurries(QueueBackend):
    """Stops what runs when it is to end."""

    @override
    async def run(self, job: Job) -> None:
        self.jobs = [*getattr(self, "jobs", []), asyncio.current_task()]
        await super().run(job)

    @override
    async def close(self) -> None:
        for job in getattr(self, "jobs", []):
            job.cancel()
        await super().close()


class EndsEachAttempt(QueueBackend):
    """Reports a failed attempt as the end, though another follows."""

    @override
    async def run(self, job: Job) -> None:
        task = self._queue.tasks[job["task"]]
        retries, task.retries = task.retries, 0
        try:
            await super().run(job)
        finally:
            task.retries = retries
        if job["attempt"] < retries:
            await self._queue.push({**job, "attempt": job["attempt"] + 1})


class HearsExceptionsOnly(Asking):
    """Forgets runs that end by what is no `Exception`."""

    @override
    async def run(self, job: Job) -> None:
        execution = await self.asked(job)
        assert not isinstance(execution, str)
        try:
            await execution.call(job["message"], {})
        except Exception as error:  # noqa: BLE001 - too narrow, that is the point
            await execution.ended(error)
        else:
            await execution.ended(None)


class Tidies(QueueBackend):
    """Leaves out of a message what it takes for empty."""

    @override
    def job_of(self, dispatch: Dispatch) -> Job:
        message = {name: value for name, value in dispatch.message.items() if value is not None}
        return {**super().job_of(dispatch), "message": message}


TestLoses = suite_on(Loses)
TestRunsAnyway = suite_on(RunsAnyway)
TestHurries = suite_on(Hurries)
TestEndsEachAttempt = suite_on(EndsEachAttempt)
TestHearsExceptionsOnly = suite_on(HearsExceptionsOnly)
TestTidies = suite_on(Tidies)
