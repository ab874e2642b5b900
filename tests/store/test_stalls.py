"""A planted stall of each kind is found, reported and ended by `rearm`; what is healthy is left alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.node import Node
from tests.store.driver import Driver
from tests.store.world import World


class Flows:
    """A chain whose second member is a swarm of three with one slot: one of them runs; a task, and an open swarm."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.world = world = World(driver)
        swarm = Node(kind="s", members=[Node(), Node(), Node()], bound=1, closed=True)
        chain = Node(kind="c", members=[Node(), swarm, Node()], success=[])
        lone, gate = Node(), Node(kind="s")
        for root in (chain, lone, gate):
            world.create(root)
            world.run(root, with_message=False)
        world.deliver(world.name(chain.members[0]), 1, 0)
        world.finish(chain.members[0], 1, "d")
        world.deliver(world.name(swarm.members[0]), 1, 0)
        world.check()
        self.chain, self.lone, self.gate, self.swarm = map(world.name, (chain, lone, gate, swarm))
        self.ended = world.name(chain.members[0])
        self.runs, self.next, self.last = map(world.name, swarm.members)

    def rearm(self) -> list[str]:
        """Look at every record; return what was mended."""
        answer = self.driver.run("rearm", *self.driver.snapshot().records)
        return sorted(identifier.decode() for identifier in answer[4])

    def kinds(self) -> set[str]:
        """Return what all that has not ended waits on."""
        replies: list[list[bytes]] = [
            self.driver.run("why", identifier) for identifier in self.driver.snapshot().records
        ]
        return {reply[0].decode() for reply in replies if reply}

    def key(self, kind: str, identifier: str) -> str:
        """Return the key of a list or set of a signature."""
        return self.driver.key(f"{kind}:{identifier}")

    def lose_row(self) -> list[str]:
        """The row of a task is gone."""
        self.driver.call("ZREM", self.driver.key("out"), self.lone)
        return [self.lone]

    def lose_run(self) -> list[str]:
        """A run is not known to be one."""
        self.driver.call("ZREM", self.driver.key("runs"), self.runs)
        return [self.runs]

    def lose_queue(self) -> list[str]:
        """The queue of a swarm is gone: nobody will come to its members."""
        self.driver.call("DEL", self.key("q", self.swarm))
        return sorted([self.next, self.last])

    def lose_timer(self) -> list[str]:
        """Nothing will end an open swarm in which nothing happens."""
        self.driver.call("ZREM", self.driver.key("out"), f"!a:{self.gate}")
        return [self.gate]

    def leak_slot(self) -> list[str]:
        """The slot of a member that has ended, and of a run that nobody knows."""
        self.driver.call("HSET", self.key("s", self.swarm), "mc", 5)
        self.driver.run("commit", "close", self.swarm)
        self.driver.call("SADD", self.key("l", self.swarm), self.ended, f"{self.last}~7")
        return [self.swarm]

    def leave_slot_free(self) -> list[str]:
        """A slot is free, the queue is not empty, and nobody fills it."""
        self.driver.call("HSET", self.key("s", self.swarm), "mc", 3)
        return sorted([self.next, self.last])

    def lose_next_step(self) -> list[str]:
        """A member of a chain ended, the next one was never told."""
        self.driver.call("SREM", self.key("l", self.swarm), self.runs)
        for name in ("q", "w", "l"):
            self.driver.call("DEL", self.key(name, self.swarm))
        self.driver.call("HSET", self.key("s", self.swarm), "st", "p")
        return [self.swarm]


DAMAGES: list[Callable[[Flows], list[str]]] = [
    *(Flows.lose_row, Flows.lose_run, Flows.lose_queue, Flows.lose_timer),
    *(Flows.leak_slot, Flows.leave_slot_free, Flows.lose_next_step),
]


def test_healthy_flows_are_left_alone(driver: Driver) -> None:
    """With runs, rows, slots, members and gates nothing is mended and nothing changes."""
    flows = Flows(driver)
    assert flows.kinds() == {"run", "row", "slot", "member", "open gate"}
    before = driver.snapshot().comparable()
    assert flows.rearm() == []
    assert driver.snapshot().comparable() == before


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_planted_stall_is_found_and_mended(driver: Driver, damage: Callable[[Flows], list[str]]) -> None:
    """Each kind of stall is named, and afterwards everything waits on something again."""
    flows = Flows(driver)
    stalled = damage(flows)
    found = flows.rearm()
    assert set(stalled) & set(found), f"{stalled} stalled, {found} were found"
    assert "nothing" not in flows.kinds()
    assert flows.rearm() == []
