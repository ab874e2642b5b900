"""A run that its task manager's next attempt overtakes keeps its slot under its own name until its last report."""

from __future__ import annotations

import pytest

from tests.node import Node
from tests.store.driver import Driver
from tests.store.waiting import leaked_slots
from tests.store.world import World


class Overtaken:
    """A swarm of two with one slot; the first member's second attempt runs while its first does."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.world = World(driver)
        swarm = Node(kind="s", members=[Node(), Node()], bound=1, closed=True)
        self.world.create(swarm)
        self.world.run(swarm, with_message=False)
        self.swarm, self.first, self.second = (self.world.name(node) for node in (swarm, *swarm.members))
        assert self.start(1, 0) == "run"
        assert self.start(1, 1) == "run"

    def start(self, dispatch: int, attempts: int) -> str:
        """Deliver the first member."""
        answer: list[bytes] = self.driver.run("start", self.first, dispatch, attempts, "worker", "")
        return answer[0].decode()

    @property
    def slots(self) -> set[str]:
        """The slots that are taken; none of them is leaked."""
        state = self.driver.snapshot()
        assert leaked_slots(state) == []
        return state.slots(self.swarm)

    def report(self, run: int) -> str:
        """A run of the first member reports success."""
        return self.driver.run("finish", self.first, run, "d", "1")[0].decode()


@pytest.fixture
def overtaken(driver: Driver) -> Overtaken:
    """The state described above."""
    return Overtaken(driver)


def test_the_slot_is_free_when_both_have_reported(overtaken: Overtaken) -> None:
    """The next member starts after the last report of the two runs, whichever comes last."""
    assert overtaken.slots == {overtaken.first, f"{overtaken.first}~1"}
    assert overtaken.report(2) == "recorded"
    assert overtaken.slots == {f"{overtaken.first}~1"}
    assert overtaken.report(1) == "superseded"
    assert overtaken.slots == {overtaken.second}


def test_an_early_report_of_the_older_run_changes_the_slot_only(overtaken: Overtaken) -> None:
    """It frees its own slot; its outcome is discarded."""
    assert overtaken.report(1) == "superseded"
    assert overtaken.slots == {overtaken.first}
    assert overtaken.report(1) == "superseded"
    assert overtaken.slots == {overtaken.first}


def test_its_lapse_frees_the_slot(overtaken: Overtaken) -> None:
    """Its worker is gone: the slot is free after the lease, the newer run goes on."""
    overtaken.driver.steer("runs", 0, f"{overtaken.first}~1")
    overtaken.world.sweep()
    assert overtaken.slots == {overtaken.first}
    assert overtaken.report(2) == "recorded"


def test_a_beat_keeps_it_and_tells_it_to_stop(overtaken: Overtaken) -> None:
    """The worker of the older run names it until it is gone."""
    overtaken.driver.steer("runs", 0, f"{overtaken.first}~1")
    assert overtaken.driver.run("beat", "worker", overtaken.first, 1) == [overtaken.first.encode(), b"1"]
    assert overtaken.driver.snapshot().runs[f"{overtaken.first}~1"] > 0
    assert overtaken.slots == {overtaken.first, f"{overtaken.first}~1"}
