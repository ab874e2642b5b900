"""The scripts and the model side by side: each verb acts on both and compares the answers."""

# size: a method for each event, which the model and the scripts both go through.

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from mageflow.config import MageflowConfig, TTLConfig
from mageflow.flow.signature import Add, Change, Claim, Close, Items, Members, Message, NewSignature, Run, Steer, Verb
from mageflow.flow.status import KIND_OF_LETTER, Kind
from mageflow.store import scripts
from tests.model import Model
from tests.node import Node
from tests.store.compare import compare
from tests.store.driver import Driver
from tests.store.snapshot import Snapshot

CRASH_LIMIT = 1
MAX_REPLACEMENTS = 3
_LIFETIMES = TTLConfig(active_ttl=1000, done_ttl=1000)
SETTINGS = scripts.settings_argument(
    MageflowConfig(crash_limit=CRASH_LIMIT, ttl=_LIFETIMES, inline_limit=20, max_replacements=MAX_REPLACEMENTS)
)
START_TIMEOUT = 60_000
RETRY_DELAY = 1000
FAR_AHEAD = 10**13
_RESULT, _ERROR = '{"value":1}', '{"type":"ValueError","message":"no"}'


class World:
    """One namespace and its model.

    `lazy`: continue rows are left alone until they must be worked off, so that events fall between their parts.
    """

    def __init__(self, driver: Driver, *, budget: int = 50, page: int = 20, lazy: bool = False) -> None:
        driver.begin(SETTINGS, budget=budget, page=page)
        self.driver = driver
        self.model = Model(CRASH_LIMIT, MAX_REPLACEMENTS)
        self.lazy = lazy
        self.ids: dict[Node, str] = {}
        self.nodes: dict[str, Node] = {}
        self.deliveries: list[tuple[str, int, int]] = []
        self.accepted: list[tuple[Node, int]] = []
        self.drafts: dict[str, list[Node]] = {}
        self.turned_away: list[Node] = []
        self._numbers = itertools.count(1)
        self.state = Snapshot()

    # Both sides in step.

    def check(self) -> None:
        """Work everything off and compare; the statuses agree before that, too."""
        self.model.settle()
        if self.model.removed:
            # What was removed lives for a millisecond.
            self.work_off()
            self.driver.vanish(within=100)
            self.model.removed.clear()
        self.state = self.driver.snapshot()
        if self.state.continues:
            self.work_off()
            self.state = self.driver.snapshot()
        compare(self.model, self.state, self.ids, self.nodes)

    def work_off(self) -> None:
        """Work off the continue rows."""
        for _ in range(20_000):
            todo = sorted(row for row in self.rows() if row[0] == "!" and row[1] not in "aud")
            if not todo:
                return
            for row in todo:
                self.continue_(row)
        raise AssertionError("continue rows without an end")

    def rows(self) -> set[str]:
        """Return the rows of the outbox; with continue rows about it may be behind the model's."""
        return {row.decode() for row in self.driver.call("ZRANGE", self.driver.key("out"), 0, -1)}

    def continue_(self, row: str) -> None:
        """Work off one part of a continue row; what lives for a millisecond from then on is gone."""
        self.note(self.driver.run("continue", row))
        if row.startswith("!x:"):
            self.driver.vanish(within=100)

    def name(self, node: Node) -> str:
        """Return the id of a signature."""
        if node not in self.ids:
            self._bind(node, f"N{next(self._numbers)}")
        return self.ids[node]

    def _bind(self, node: Node, identifier: str) -> None:
        self.ids[node] = identifier
        self.nodes[identifier] = node

    def note(self, answer: Sequence[Any]) -> str:
        """Remember the rows of an answer; each comes with the path that its message is made of."""
        described = {node[0] for node in answer[2]}
        for identifier, dispatch, attempts, _offers in answer[1]:
            assert identifier in described
            self.deliveries.append((identifier.decode(), dispatch, attempts))
        for node in answer[2]:
            assert not node[2] or node[2] in described
        if not self.lazy:
            for row in answer[3]:
                self.continue_(row.decode())
        return answer[0].decode()

    # Changes of users.

    def commit(self, changes: Iterable[Change], *prefix: str) -> str | None:
        """Send one block; return the code of its refusal."""
        arguments: list[scripts.Argument] = [*prefix]
        for change in changes:
            arguments.extend(scripts.change_arguments(change))
        answer = self.driver.run("commit", *arguments)
        status = self.note(answer)
        return answer[4][0].decode() if status == "refused" else None

    def attempt(self, changes: Sequence[Change], in_model: Callable[[], str | None]) -> str | None:
        """Make a change on both sides; what is refused changes nothing at all."""
        expected = in_model()
        self.model.settle()
        before = self.driver.snapshot() if expected is not None else None
        refused = self.commit(changes)
        assert refused == expected, f"scripts say {refused}, the model {expected}"
        assert before is None or self.driver.snapshot().comparable() == before.comparable()
        return refused

    def parts(self, node: Node) -> list[Change]:
        """Return the changes that write what is new below a signature, members before their container."""
        changes: list[Change] = []
        index: int | None = None
        for position, member in enumerate(node.members):
            index = position if node.kind in "cw" else None
            if member in self.ids:
                changes.append(Claim(id=self.name(member), container=self.name(node), index=index))
            else:
                changes.extend(self.parts(member))
                changes.append(self.new(member, node, index))
        if node.members:
            ids = [self.name(member) for member in node.members]
            changes.append(Members(container=self.name(node), ids=ids, waiting=node.kind == "s"))
        return changes

    def new(self, node: Node, container: Node | None = None, index: int | None = None) -> NewSignature:
        """Return the change that writes one signature."""
        settings: dict[str, int | str] = {} if node.kind == "t" else {"nm": len(node.members)}
        if node.kind == "s":
            numbers = {"mc": node.bound, "sf": node.tolerance, "mt": node.room}
            if node.template is not None:
                settings["it"] = self.name(node.template)
            settings |= {"os": "interrupt" if node.interrupts else "finish", "cl": int(node.closed)}
            settings |= {name: value for name, value in numbers.items() if value is not None}
        kind = KIND_OF_LETTER[node.kind]
        return NewSignature(
            id=self.name(node),
            kind=kind,
            body=b"{}",
            task_name="work" if kind is Kind.TASK else None,
            container=self.name(container) if container else None,
            index=index,
            success=[self.name(template) for template in node.success],
            failure=[self.name(template) for template in node.failure],
            settings=settings,
            cases="\n".join(node.cases).encode(),
        )

    def create(self, root: Node, claimed: Sequence[Node] = ()) -> str | None:
        """Write a signature with everything below it in one block."""

        def in_model() -> str | None:
            return self._claim_all(root, claimed)

        self.name(root)
        return self.attempt([*self.parts(root), self.new(root)], in_model)

    def _claim_all(self, root: Node, claimed: Sequence[Node]) -> str | None:
        for member in claimed:
            if refused := self.model.refuse_claim(member, None):
                return refused
        for member in claimed:
            self.model.claim(member, next(n for n in root.tree() if member in n.members))
        for node in root.tree():
            for member in node.members:
                member.container = node
        self.model.create(root)
        return None

    def create_map(self, root: Node) -> str | None:
        """Write a map without items, and what each of them runs."""
        assert root.template is not None
        template = self.new(root.template)

        def in_model() -> None:
            self.model.create(root.template or root)
            self.model.create(root)

        settings = {**template.settings, "tp": 1}
        return self.attempt([replace(template, settings=settings), self.new(root)], in_model)

    def add_items(self, target: Node, count: int) -> str | None:
        """Add items to a map; each is a copy of its template."""
        name, first = self.name(target), len(target.members)
        items = [self.model.copy(target.template or Node()) for _ in range(count)]
        refused = self.attempt([Items(id=name, messages=[b"{}"] * count)], lambda: self.model.add_items(target, items))
        if refused is None:
            for place, item in enumerate(items):
                self._bind(item, f"{name}#{first + place}")
        return refused

    def draft(self, root: Node, claimed: Sequence[Node], size: int, *, complete: bool) -> str | None:
        """Write a signature in chunks under a draft; an incomplete one is left to the sweeper."""
        draft, parts, heights = self.name(root), self.parts(root), dict[str, int]()
        expected = next(filter(None, (self.model.refuse_claim(member, None) for member in claimed)), None)
        for start in range(0, len(parts), size):
            arguments: list[scripts.Argument] = ["draft", draft, int(start > 0)]
            for change in parts[start : start + size]:
                arguments.extend(
                    scripts.change_arguments(
                        change, heights.get(change.id, 1) if isinstance(change, NewSignature) else 1
                    )
                )
            answer = self.driver.run("commit", *arguments)
            if self.note(answer) == "refused":
                assert answer[4][0].decode() == expected
                self.driver.run("continue", f"!g:{draft}")
                return expected
            heights |= {name.decode(): height for name, height in answer[4]}
        assert expected is None
        if complete:
            assert self.commit([self.new(root)], "publish", draft, "0") is None
            return self._claim_all(root, claimed)
        for member in claimed:
            member.draft = True
        self.drafts[draft] = [*claimed]
        self.model.drafts[draft] = [node for member in root.members if member not in claimed for node in member.tree()]
        return None

    def expire_drafts(self) -> None:
        """What was written under a draft that nobody finished is taken back."""
        for draft, claimed in self.drafts.items():
            self.driver.steer("drafts", 0, draft)
            for member in claimed:
                member.draft = False
        self.drafts.clear()
        self.model.drafts.clear()
        self.sweep()

    def run(self, node: Node, *, with_message: bool, delayed: bool = False) -> str | None:
        """Start a signature, or have it started in an hour."""
        message = [Message(id=self.name(node), message=b"{}")] if with_message else []
        start = Run(id=self.name(node), delay=3_600_000 * delayed)
        return self.attempt([*message, start], lambda: self.model.run(node, delayed=delayed))

    def timers(self) -> list[Node]:
        """Return what is to start at a later time."""
        standing = [row.removeprefix("!d:") for row in self.rows() if row.startswith("!d:")]
        return [self.nodes[identifier] for identifier in sorted(standing) if self.nodes[identifier].timer]

    def time_comes(self, root: Node) -> None:
        """The time has come at which it is to start."""
        self.driver.call("HSET", self.driver.key(f"s:{self.name(root)}"), "du", 1)
        self.continue_(f"!d:{self.name(root)}")
        self.model.time_comes(root)
        self.model.settle()

    def close(self, swarm: Node) -> str | None:
        """Close a swarm."""
        return self.attempt([Close(id=self.name(swarm))], lambda: self.model.close(swarm))

    def add(self, swarm: Node, members: Sequence[Node], *, run: bool, close_on_max: bool) -> str | None:
        """Add new and existing signatures to a swarm."""
        changes: list[Change] = []
        claimed = [member for member in members if member in self.ids]
        for member in members:
            if member in self.ids:
                changes.append(Claim(id=self.name(member), container=self.name(swarm)))
            else:
                changes.extend(self.parts(member))
                changes.append(self.new(member, swarm))
        ids = [self.name(member) for member in members]
        changes.append(Add(swarm=self.name(swarm), ids=ids, run=run, close_on_max=close_on_max))

        def in_model() -> str | None:
            refused = next(filter(None, (self.model.refuse_claim(m, swarm) for m in claimed)), None)
            if refused is not None:
                return refused
            # Before they are added: an empty swarm among them ends at once.
            for node in (node for member in members for node in member.tree()):
                for part in node.members:
                    part.container = node
            return self.model.add(swarm, [*members], run=run, close_on_max=close_on_max)

        return self.attempt(changes, in_model)

    def steer(self, node: Node, verb: Verb) -> str | None:
        """Steer a signature; a verb that means nothing to it changes nothing."""
        before = None if self.model.means(node, verb) else self.driver.snapshot()
        refused = self.attempt([Steer(id=self.name(node), verb=verb)], lambda: self.model.steer(node, verb))
        assert before is None or self.driver.snapshot().comparable() == before.comparable()
        return refused

    # What happens to runs.

    def deliver(self, identifier: str, dispatch: int, attempts: int, *, lapsed: bool = False) -> str:
        """The task manager delivers a run."""
        task = self.nodes.get(identifier)
        if lapsed:
            self.driver.steer("runs", 0, identifier)
        answer = self.driver.run("start", identifier, dispatch, attempts, "worker", "")
        status = self.note(answer)
        if lapsed:
            self.driver.steer("runs", FAR_AHEAD, identifier)
        if task is None:
            assert status == "gone"
            return status
        expected = self.model.start(task, dispatch, attempts, lease_lapsed=lapsed)
        self.model.settle()
        if status in {"held", "canceled"}:
            self.turned_away.append(task)
        if task.status == "c" and status in {"ended", "canceled"}:
            status = expected
        if (status, expected) == ("ended", "stale") and any(row.startswith("!e:") for row in self.rows()):
            # It has yet to hear of the end of what replaced it.
            status = expected
        assert status == expected, f"start: scripts say {status}, the model {expected}"
        if status == "run":
            checks = [self.ids[task.result].encode()] if task.checking and task.result else []
            assert answer[4] == [task.run, attempts - task.lost, *checks]
            self.accepted.append((task, task.run))
        return status

    def turn_away(self) -> None:
        """Deliveries that were turned away are taken note of."""
        for task in self.turned_away:
            self.note(self.driver.run("turned_away", self.name(task)))
            self.model.turned_away(task)
            self.model.settle()
        self.turned_away.clear()

    def beat(self) -> None:
        """A worker says which runs live, and learns which are to stop."""
        runs = [(task, run) for task, run in self.accepted if task in self.ids]
        pairs = [value for task, run in runs for value in (self.name(task), run)]
        found = [value.decode() for value in self.driver.run("beat", "worker", *pairs)]
        stopping = [(self.name(task), str(run)) for task, run in runs if self.model.to_stop(task, run)]
        assert found == [value for pair in stopping for value in pair]
        self.driver.call("DEL", self.driver.key("gap"), self.driver.key("beat"))

    def finish(self, task: Node, run: int, status: str, *, choice: str = "", operation: str | None = None) -> str:
        """A run reports its outcome."""
        payload = _RESULT if status == "d" else _ERROR
        answer = self.driver.run("finish", self.name(task), run, status, payload, choice, operation=operation)
        return self._same(self.note(answer), self.model.finish(task, run, status, choice))

    def replace(self, task: Node, run: int, by: Node, *, check: bool) -> str:
        """A run returns a signature."""
        answer = self.driver.run("finish", self.name(task), run, "r", self.name(by), "1" if check else "")
        return self._same(self.note(answer), self.model.replace(task, run, by, check=check))

    def attempt_failed(self, task: Node, run: int) -> str:
        """A run failed, its task manager will try again."""
        used = task.attempts + 1
        answer = self.driver.run("attempt_failed", self.name(task), run, used, RETRY_DELAY, _ERROR)
        status = self._same(self.note(answer), self.model.attempt_failed(task, run, used, RETRY_DELAY))
        if status == "recorded":
            self.deliveries.append((self.name(task), task.dispatch, used))
        return status

    def stopped(self, task: Node, run: int) -> str:
        """A run that was told to stop is over."""
        answer = self.note(self.driver.run("stopped", self.name(task), run))
        return self._same(answer, self.model.stopped(task, run))

    def refused(self, identifier: str, dispatch: int) -> str:
        """A row is refused by the task manager."""
        answer = self.note(self.driver.run("refused", identifier, dispatch, _ERROR))
        return self._same(answer, self.model.refused(self.nodes[identifier], dispatch))

    def _same(self, answer: str, expected: str) -> str:
        self.model.settle()
        assert answer == expected, f"scripts say {answer}, the model {expected}"
        return answer

    def offered(self, identifier: str, dispatch: int) -> None:
        """A row was handed to the task manager."""
        task = self.nodes[identifier]
        stands = task.row and task.dispatch == dispatch and not task.gone
        assert self.driver.run("offered", START_TIMEOUT, identifier, dispatch, "") == int(stands)
        if stands:
            self.model.offered(task)

    # Time.

    def sweep(self, *, queue_empty: bool = False) -> Sequence[Any]:
        """One turn of the sweeper."""
        answer: Sequence[Any] = self.driver.run("sweep", "*" if queue_empty else "", START_TIMEOUT)
        assert self.note(answer) == "ok"
        return answer

    def lapse(self, task: Node) -> None:
        """A worker is gone, a sweeper finds out."""
        self.driver.steer("runs", 0, self.name(task))
        self.sweep()
        self.model.lapse(task)
        self.model.settle()

    def overdue(self, identifier: str, *, lost: bool) -> None:
        """A row is due again; one that was never offered, or whose message must be lost, is offered at once."""
        task = self.nodes[identifier]
        self.driver.steer("out", 0, identifier)
        answer = self.sweep(queue_empty=lost)
        again = [row[0].decode() for row in answer[1] if row[0].decode() == identifier]
        expected = self.model.overdue(task, queue_empty=lost)
        self.model.settle()
        assert not task.row or again == [identifier] * expected

    def abandon(self, swarm: Node) -> None:
        """Nothing happened in an open swarm for its whole lifetime."""
        self.driver.call("HSET", self.driver.key(f"s:{self.name(swarm)}"), "ac", 0)
        self.continue_(f"!a:{self.name(swarm)}")
        self.model.abandon(swarm)
        self.model.settle()

    def held_too_long(self, root: Node) -> None:
        """The time limit of a mark is over."""
        self.continue_(f"!u:{self.name(root)}")
        self.model.held_too_long(root)
        self.model.settle()

    def age(self, root: Node) -> None:
        """A signature was never started for too long."""
        self.driver.steer("ix:p", 0, self.name(root))
        self.sweep()
        self.work_off()
        self.driver.vanish(within=100)
        self.model.forget_unstarted(root)

    def pass_time(self) -> None:
        """What is over long enough is gone."""
        self.driver.vanish()
        for root in [root for root in self.model.roots if root.expiring]:
            self.model.vanish(root)
