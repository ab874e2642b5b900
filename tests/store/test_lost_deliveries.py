"""Deliveries that a task manager counts as attempts though they were lost on their way use up no attempt."""

from __future__ import annotations

import pytest

from tests.node import Node
from tests.store.driver import Driver
from tests.store.world import World

_ERROR = '{"type":"E","message":""}'


class Delivered:
    """A started task, and what its deliveries are told."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.world = World(driver)
        task = Node()
        self.world.create(task)
        self.world.run(task, with_message=False)
        self.id = self.world.name(task)

    def start(
        self, dispatch: int, counted: int, *, of: str = "", once: bool = False, operation: str | None = None
    ) -> tuple[str, list[int]]:
        """Deliver the task: the answer, the number of the run with the attempts that count as used."""
        answer = self.driver.run("start", self.id, dispatch, counted, "worker", of, int(once), operation=operation)
        return answer[0].decode(), answer[4]

    def fail(self, run: int, counted: int) -> str:
        """An attempt fails, the next is to come."""
        return self.driver.run("attempt_failed", self.id, run, counted, 0, _ERROR)[0].decode()


@pytest.fixture
def task(driver: Driver) -> Delivered:
    """The state described above."""
    return Delivered(driver)


def test_the_first_delivery_that_arrives_is_the_first_attempt(task: Delivered) -> None:
    """However many were lost before it; one of those that comes late after all is stale."""
    assert task.start(1, 2) == ("run", [1, 0])
    assert task.start(1, 1) == ("stale", [])
    assert task.start(1, 2) == ("duplicate", [])


def test_lost_between_two_attempts(task: Delivered) -> None:
    """The attempt after one that failed is the next, whatever was lost between them."""
    assert task.start(1, 0) == ("run", [1, 0])
    assert task.fail(1, 1) == "recorded"
    assert task.start(1, 4) == ("run", [2, 1])
    assert task.fail(2, 5) == "recorded"
    assert task.start(1, 5) == ("run", [3, 2])


def test_an_attempt_that_began_is_used(task: Delivered) -> None:
    """The manager's next attempt of what still runs, or what was lost with its worker, counts."""
    assert task.start(1, 1) == ("run", [1, 0])
    assert task.start(1, 2) == ("run", [2, 1])


def test_a_new_dispatch_carries_what_was_used(task: Delivered) -> None:
    """The manager counts from the attempts that were used, the lost ones are forgotten."""
    assert task.start(1, 3) == ("run", [1, 0])
    assert task.fail(1, 4) == "recorded"
    assert task.start(1, 6) == ("run", [2, 1])
    task.driver.steer("runs", 0, task.id)
    task.world.sweep()
    record = task.driver.snapshot().record(task.id)
    assert (record["d"], record["a"]) == ("2", "1")
    assert task.start(2, 1) == ("run", [3, 1])


def test_a_row_that_is_offered_again_counts_on(task: Delivered) -> None:
    """The message that stands for the same dispatch carries the count of the manager."""
    assert task.start(1, 3) == ("run", [1, 0])
    assert task.fail(1, 4) == "recorded"
    task.driver.steer("out", 0, task.id)
    [[_, dispatch, counted, _]] = task.world.sweep(queue_empty=True)[1]
    assert (dispatch, counted) == (1, 4)
    assert task.start(dispatch, counted) == ("run", [2, 1])


def test_a_repeated_call_is_told_the_same(task: Delivered) -> None:
    """A call that is repeated when a connection breaks gets the same attempt."""
    first = task.start(1, 2, operation="once")
    assert task.start(1, 2, operation="once") == first == ("run", [1, 0])


def test_what_must_not_run_again_does_not_as_another_attempt(task: Delivered) -> None:
    """A manager may count the loss of a worker as an attempt; what follows a failed attempt is one."""
    assert task.start(1, 0, once=True) == ("run", [1, 0])
    assert task.fail(1, 1) == "recorded"
    assert task.start(1, 1, once=True) == ("run", [2, 1])
    task.driver.steer("runs", 0, task.id)
    assert task.start(1, 2, once=True) == ("duplicate", [])
    task.world.sweep()
    assert task.driver.snapshot().record(task.id)["st"] == "f"


def test_another_run_of_the_same_dispatch(task: Delivered) -> None:
    """What began as one run of the task manager, and goes on with it, is not taken over by another, gone runs aside."""
    assert task.start(1, 0, of="first") == ("run", [1, 0])
    assert task.fail(1, 0) == "recorded"
    assert task.start(1, 0, of="second") == ("duplicate", [])
    assert task.start(1, 0, of="first") == ("run", [2, 0])
    assert task.fail(2, 0) == "recorded"
    [status, rows, *_] = task.driver.run("probed", 1000, task.id, 1, "g", "")
    assert (status, [row[0].decode() for row in rows]) == (b"ok", [task.id])
    assert task.start(1, 0, of="third") == ("run", [3, 0])
