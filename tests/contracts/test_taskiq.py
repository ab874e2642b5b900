"""Every broker of TaskIQ keeps the contract of backends."""

from __future__ import annotations

import pytest
from taskiq import Context

from mageflow.errors import FlowFailedError
from mageflow.testing.contracts import BackendContracts, Subject
from mageflow.testing.contracts.stage import Stage
from mageflow.testing.waiting import DEADLINE
from tests.contracts import taskiq_subjects
from tests.contracts.subjects import call_taskiq
from tests.nats import Nats
from tests.rabbitmq import RabbitMQ


@pytest.fixture
def flows_url(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where clients and workers find Redis."""
    monkeypatch.setenv("REDIS_URL", redis_url)


@pytest.mark.usefixtures("flows_url")
class TestStream(BackendContracts):
    """The suite on the stream broker, with TaskIQ's own command for workers."""

    @pytest.fixture
    def subject(self) -> Subject:
        """Clients of the stream broker."""
        return Subject(
            make_client=taskiq_subjects.stream,
            call=call_taskiq,
            worker=taskiq_subjects.command(),
            environment=taskiq_subjects.environment("stream"),
            context=Context,
        )


@pytest.mark.usefixtures("flows_url")
class TestList(BackendContracts):
    """The suite on the list broker, with TaskIQ's own command for workers."""

    @pytest.fixture
    def subject(self) -> Subject:
        """Clients of the list broker."""
        return Subject(
            make_client=taskiq_subjects.queue,
            call=call_taskiq,
            worker=taskiq_subjects.command(),
            environment=taskiq_subjects.environment("queue"),
            context=Context,
        )


@pytest.mark.usefixtures("flows_url")
class TestMemory(BackendContracts):
    """The suite on the broker in memory, which has no worker processes."""

    @pytest.fixture
    def subject(self) -> Subject:
        """Clients of the broker in memory."""
        return Subject(make_client=taskiq_subjects.memory, call=call_taskiq, context=Context)


@pytest.mark.servers
@pytest.mark.usefixtures("flows_url")
class TestRabbitMQ(BackendContracts):
    """The suite on RabbitMQ, with TaskIQ's own command for workers."""

    @pytest.fixture
    def subject(self, rabbitmq_server: RabbitMQ, monkeypatch: pytest.MonkeyPatch) -> Subject:
        """Clients of the broker on RabbitMQ."""
        monkeypatch.setenv("RABBITMQ_URL", rabbitmq_server.url)

        async def restart() -> None:
            rabbitmq_server.stop()
            rabbitmq_server.start()

        return Subject(
            make_client=taskiq_subjects.rabbitmq,
            call=call_taskiq,
            worker=taskiq_subjects.command(),
            environment=taskiq_subjects.environment("rabbitmq"),
            restart=restart,
            context=Context,
            delay_option="delay",
            priority_option="priority",
        )


@pytest.mark.servers
@pytest.mark.usefixtures("flows_url")
class TestNats(BackendContracts):
    """The suite on NATS JetStream, with TaskIQ's own command for workers."""

    @pytest.fixture
    def subject(self, nats_server: Nats, monkeypatch: pytest.MonkeyPatch) -> Subject:
        """Clients of the pulling broker on NATS; it has neither delays nor priorities."""
        monkeypatch.setenv("NATS_URL", nats_server.url)

        async def restart() -> None:
            nats_server.stop()
            nats_server.start()

        return Subject(
            make_client=taskiq_subjects.nats,
            call=call_taskiq,
            worker=taskiq_subjects.command(),
            environment=taskiq_subjects.environment("nats"),
            restart=restart,
            context=Context,
        )

    async def test_more_than_the_server_takes(self, stage: Stage) -> None:
        """A message above the server's own limit fails its task with an error that names the limit."""
        handle = await stage.start("measure", {"mageflow_results": "x" * 1024 * 1024})
        with pytest.raises(FlowFailedError, match="NATS takes 1048576"):
            await handle.result(DEADLINE)
        assert await stage.run("add", a=1) == 2
