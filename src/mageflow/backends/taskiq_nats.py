"""TaskIQ's pulling broker on NATS JetStream: what is known of its queue, and how large a message may be."""

from __future__ import annotations

from collections.abc import Collection

from nats.errors import Error
from taskiq.message import BrokerMessage
from taskiq_nats import PullBasedJetStreamBroker
from typing_extensions import override

from mageflow.backends.base import Capabilities, Submission, Verdict
from mageflow.backends.taskiq import TaskiqBackend


class PullBackend(TaskiqBackend):
    """Flows on JetStream: what a dead worker took is brought back by its row, long before `ack_wait` has passed."""

    # The limit is that of a NATS without settings; what counts is the server's own.
    capabilities = Capabilities(bulk=100, start_timeout=3.0, payload_limit=1024 * 1024, redelivers=True)

    def __init__(self, broker: PullBasedJetStreamBroker, namespace: str) -> None:
        super().__init__(broker, namespace)
        self._own = broker

    @override
    async def kick_one(self, message: BrokerMessage) -> Submission:
        """Hand one message to the broker; the server would close the connection over one that is too large."""
        headers = "".join(f"{name}: {value}\r\n" for name, value in message.labels.items())
        size = len(message.message) + len(f"NATS/1.0\r\n{headers}\r\n".encode())
        limit = self._own.client.max_payload
        if size > limit:
            reason = f"the message has {size} bytes, NATS takes {limit} (its setting max_payload)"
            return Submission(verdict=Verdict.REFUSED, reason=reason)
        return await super().kick_one(message)

    @override
    async def drained(self) -> Collection[str]:
        try:
            consumer = await self._own.js.consumer_info(
                self._own.stream_config.name or self._own.stream_name, self._own.durable
            )
        except (Error, OSError):
            return ()
        return () if consumer.num_pending else [*self._own.get_all_tasks()]
