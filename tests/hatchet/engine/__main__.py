"""Run the engine: `python -m tests.hatchet.engine [seconds until a lost worker's runs are reassigned]`.

It prints its two ports as JSON, and ends with its standard input.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportMissingTypeStubs=false, reportAttributeAccessIssue=false, reportUntypedBaseClass=false
# grpc has no types, and neither have the servicers that its compiler writes.

from __future__ import annotations

import asyncio
import json
import sys

import grpc
from aiohttp import web
from hatchet_sdk.contracts.dispatcher_pb2_grpc import add_DispatcherServicer_to_server
from hatchet_sdk.contracts.events_pb2_grpc import add_EventsServiceServicer_to_server
from hatchet_sdk.contracts.v1.dispatcher_pb2_grpc import add_V1DispatcherServicer_to_server
from hatchet_sdk.contracts.v1.workflows_pb2_grpc import add_AdminServiceServicer_to_server
from hatchet_sdk.contracts.workflows_pb2_grpc import add_WorkflowServiceServicer_to_server

from tests.hatchet.engine.core import Engine
from tests.hatchet.engine.dispatcher import DispatcherService
from tests.hatchet.engine.durable import DurableService
from tests.hatchet.engine.rest import make_application
from tests.hatchet.engine.triggers import AdminService, EventsService, WorkflowService

MAX_MESSAGE = 4 * 1024 * 1024


class Server:
    """The gRPC side of an engine; it can be closed and opened again on the same port."""

    def __init__(self, engine: Engine) -> None:
        self._dispatcher = DispatcherService(engine)
        self._durable = DurableService(engine)
        self._events = EventsService(engine)
        self._workflows = WorkflowService(engine)
        self._admin = AdminService(engine)
        self._events.listeners.append(self._durable.push_event)
        self._events.streams.append(self._dispatcher.streamed)
        self._server: grpc.aio.Server | None = None
        self.port = 0

    async def open(self) -> None:
        """Listen."""
        limits = [("grpc.max_receive_message_length", MAX_MESSAGE), ("grpc.so_reuseport", 0)]
        keepalive = [
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_ping_strikes", 0),
        ]
        server = self._server = grpc.aio.server(options=[*limits, *keepalive])
        add_DispatcherServicer_to_server(self._dispatcher, server)
        add_V1DispatcherServicer_to_server(self._durable, server)
        add_EventsServiceServicer_to_server(self._events, server)
        add_WorkflowServiceServicer_to_server(self._workflows, server)
        add_AdminServiceServicer_to_server(self._admin, server)
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()

    async def close(self) -> None:
        """Close every connection."""
        if self._server is not None:
            await self._server.stop(0)

    async def restart(self, down: float) -> None:
        """Close every connection, listen again after some seconds."""
        await self.close()
        await asyncio.sleep(down)
        await self.open()


async def main(reassign_after: float) -> None:
    """Serve until the standard input ends."""
    engine = Engine(reassign_after)
    server = Server(engine)
    await server.open()
    runner = web.AppRunner(make_application(engine, server.restart))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    rest_port = runner.addresses[0][1]
    sys.stdout.write(json.dumps({"grpc": server.port, "rest": rest_port}) + "\n")
    sys.stdout.flush()
    work = asyncio.create_task(engine.work())
    await asyncio.to_thread(sys.stdin.read)
    work.cancel()
    await server.close()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 30.0))
