"""The behaviour that every backend must show, as pytest classes to subclass with one fixture.

A test class of a backend derives from `BackendContracts`, or from some of the themes, and overrides the fixture
`subject`. `docs/backends.md` shows a whole one.
"""

from mageflow.testing.contracts.attempts import AttemptContract
from mageflow.testing.contracts.delivery import DeliveryContract
from mageflow.testing.contracts.flows import FlowContract
from mageflow.testing.contracts.messages import MessageContract
from mageflow.testing.contracts.outside import OutsideContract
from mageflow.testing.contracts.steering import SteeringContract
from mageflow.testing.contracts.subject import Subject, serve_here, worker_command
from mageflow.testing.contracts.worker import worker_client
from mageflow.testing.contracts.workers import WorkerContract, WorkerProcessContract

__all__ = [
    "AttemptContract",
    "BackendContracts",
    "DeliveryContract",
    "FlowContract",
    "MessageContract",
    "OutsideContract",
    "SteeringContract",
    "Subject",
    "WorkerContract",
    "WorkerProcessContract",
    "serve_here",
    "worker_client",
    "worker_command",
]


class BackendContracts(
    DeliveryContract,
    MessageContract,
    AttemptContract,
    SteeringContract,
    FlowContract,
    OutsideContract,
    WorkerContract,
    WorkerProcessContract,
):
    """Every behaviour."""
