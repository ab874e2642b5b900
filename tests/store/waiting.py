"""What a signature waits on, told from everything that the store holds: the rule that nothing stalls silently."""

from __future__ import annotations

from dataclasses import dataclass

from tests.store.snapshot import ENDED, Snapshot


@dataclass(frozen=True, slots=True)
class Wait:
    """The one thing that a signature waits on: its kind, and the name of that thing."""

    kind: str
    on: str


def why(state: Snapshot, identifier: str) -> Wait | None:
    """Return the first that applies of mark, run, time, row, slot, member, open gate, start; `None`: on nothing.

    What has ended waits on nothing too: ask for the status first.
    """
    for rule in (_mark, _run, _time, _row, _slot, _member, _gate, _start):
        if wait := rule(state, identifier):
            return wait
    return None


def stalled(state: Snapshot) -> list[str]:
    """Return the signatures that have not ended and wait on nothing."""
    open_ones = (i for i in state.records if state.status(i) not in ENDED)
    return [identifier for identifier in open_ones if why(state, identifier) is None]


def overfull(state: Snapshot) -> list[str]:
    """Return the swarms in which more members hold a slot than its bound allows."""
    return [
        identifier
        for identifier, record in state.records.items()
        if "mc" in record and len(_holders(state, identifier)) > int(record["mc"])
    ]


def leaked_slots(state: Snapshot) -> list[tuple[str, str]]:
    """Return the slots (swarm, entry) of living swarms that nothing will free."""
    leaked: list[tuple[str, str]] = []
    for identifier, record in state.records.items():
        if record["k"] != "s" or state.status(identifier) != "a":
            continue
        for entry in state.slots(identifier):
            member, _, run = entry.partition("~")
            running = entry in state.runs or (member in state.runs and state.record(member).get("n") == run)
            held = running or f"!c:{member}" in state.out if run else state.status(member) not in ENDED
            if not held:
                leaked.append((identifier, entry))
    return leaked


def withheld_slots(state: Snapshot) -> list[tuple[str, str]]:
    """Return the slots (swarm, member) of swarms no mark holds, that a held member keeps though nothing of it runs."""
    return [
        (identifier, member)
        for identifier, record in state.records.items()
        if record["k"] == "s" and state.status(identifier) == "a" and not state.held(identifier)
        for member in state.slots(identifier) & {*state.records}
        if state.held(member) and not _moves(state, member)
    ]


def _moves(state: Snapshot, identifier: str) -> bool:
    """Whether it, or something below, is dispatched or runs."""
    if identifier in state.out or identifier in state.runs or any("~" in slot for slot in state.slots(identifier)):
        return True
    if state.waits_on_other(identifier):
        return _moves(state, state.record(identifier)["by"])
    members = (member for member in state.entries("m", identifier) if member in state.records)
    return any(_moves(state, member) for member in members if state.status(member) not in ENDED)


def _holders(state: Snapshot, swarm: str) -> set[str]:
    holders: set[str] = set()
    for entry in state.slots(swarm):
        member = entry.partition("~")[0]
        while state.record(member).get("c") not in {swarm, None}:
            member = state.record(member)["c"]
        holders.add(member)
    return holders


def _mark(state: Snapshot, identifier: str) -> Wait | None:
    held = state.held(identifier)
    return Wait("mark", held[1]) if held else None


def _run(state: Snapshot, identifier: str) -> Wait | None:
    return Wait("run", state.record(identifier).get("w", "")) if identifier in state.runs else None


def _time(state: Snapshot, identifier: str) -> Wait | None:
    return Wait("time", state.record(identifier)["du"]) if f"!d:{identifier}" in state.out else None


def _row(state: Snapshot, identifier: str) -> Wait | None:
    rows = (identifier, f"!k:{identifier}", f"!e:{state.record(identifier).get('by')}")
    return next((Wait("row", row) for row in rows if row in state.out), None)


def _slot(state: Snapshot, identifier: str) -> Wait | None:
    """It is in the queue of its swarm, all of whose slots are taken (or just being filled).

    So is what stands below a container that gave its slot back and asked for another.
    """
    swarm = state.record(identifier).get("c")
    if swarm in state.records and state.record(identifier).get("sl") == "q":
        return Wait("slot", swarm) if _full(state, swarm) and identifier in state.entries("q", swarm) else None
    above = _without_slot(state, identifier)
    if above not in {None, identifier} and identifier in state.entries("h", str(above)):
        return _slot(state, str(above))
    if swarm not in state.records or state.record(swarm)["k"] != "s" or state.status(swarm) != "a":
        return None
    if state.record(identifier)["st"] != "p" or identifier in state.slots(swarm):
        return None
    queued = identifier in ready_members(state, swarm)
    if queued and (outer := _without_slot(state, swarm)) is not None:
        return _slot(state, outer)
    return Wait("slot", swarm) if queued and (_full(state, swarm) or f"!r:{swarm}" in state.out) else None


def _full(state: Snapshot, swarm: str) -> bool:
    return len(state.slots(swarm)) >= int(state.record(swarm).get("mc", "1000000000"))


def _without_slot(state: Snapshot, identifier: str) -> str | None:
    """The outermost container above, or the signature itself, that gave its slot back."""
    outermost, node = None, identifier
    while node in state.records:
        record = state.record(node)
        outermost = node if "sl" in record else outermost
        node = record.get("c", "")
    return outermost


def _member(state: Snapshot, identifier: str) -> Wait | None:
    """A container waits on a member that has been told to run, a chain's member on the one before it.

    A replaced task waits on what replaced it, the cases of a switch on its chooser and on the one that was chosen.
    """
    record = state.record(identifier)
    if state.waits_on_other(identifier) and state.status(record["by"]) not in ENDED:
        return Wait("member", record["by"])
    if record["k"] != "t" and record["st"] == "a":
        moving = (m for m in state.entries("m", identifier) if state.status(m) not in ENDED and _told(state, m))
        if (member := next(moving, None)) is not None:
            return Wait("member", member)
    if record["k"] == "s" and record["st"] == "a":
        # A stopped run keeps the slot of a member that has ended.
        stopped = next((entry for entry in sorted(state.slots(identifier)) if "~" in entry), None)
        if stopped is not None:
            return Wait("slot", stopped)
    if record["st"] == "p" and int(record.get("x", "0")) > 0 and not _told(state, identifier):
        # One that was canceled before its turn is passed over: it ends the chain when its turn comes.
        members, above = state.entries("m", record["c"]), state.records.get(record["c"], {})
        chosen = int(above.get("cx", "0"))
        earlier = [members[0], members[chosen]] if above.get("k") == "w" else members[: int(record["x"])]
        before = next((member for member in reversed(earlier) if state.status(member) not in ENDED), None)
        return Wait("member", before) if before else None
    return None


def _gate(state: Snapshot, identifier: str) -> Wait | None:
    """An open swarm waits for more members; a timer ends that."""
    record = state.record(identifier)
    if record["k"] != "s" or record["st"] != "a" or record.get("cl") == "1":
        return None
    return Wait("open gate", identifier) if f"!a:{identifier}" in state.out else None


def _start(state: Snapshot, identifier: str) -> Wait | None:
    """It was not told to run: its own start, its container's, or the firing of a template."""
    record = state.record(identifier)
    container = record.get("c")
    if record["k"] == "s" and record["st"] == "a":
        unopened = record.get("own") == "0" and state.entries("w", identifier)
        return Wait("start", identifier) if unopened else None
    if _told(state, identifier):
        # Its swarm was told to start for it, and waits itself.
        if container is None or container not in state.records:
            return None
        queued = identifier in ready_members(state, container)
        swarm = state.record(container)
        opens = "rd" in swarm or "it" in swarm or state.records.get(swarm.get("c", ""), {}).get("k", "") in {*"cw"}
        waits = queued and record["st"] == swarm["st"] == "p" and opens
        return Wait("start", container) if waits else None
    if container is None:
        return Wait("start", "firing" if int(record.get("rf", "0")) else identifier)
    if f"s:{container}" not in state.hashes:
        return Wait("start", record["dr"]) if "dr" in record else None
    above = state.record(container)
    if above["st"] == "p":
        return Wait("start", container)
    released = above.get("own") == "1" and above.get("cl") == "1"
    if above["k"] == "s" and identifier in state.entries("w", container) and not released:
        return Wait("start", identifier)
    return None


def ready_members(state: Snapshot, swarm: str) -> list[str]:
    """Return the members in the queue of a swarm, in order; `*n` stands for the next n that wait."""
    waiting, members = [*state.entries("w", swarm)], list[str]()
    for entry in state.entries("q", swarm):
        if not entry.startswith("*"):
            members.append(entry)
            continue
        count = int(entry[1:])
        members.extend(waiting[:count])
        del waiting[:count]
    return members + [item for item in state.waiting_items(swarm) if "it" in state.record(swarm)]


def _told(state: Snapshot, identifier: str) -> bool:
    record = state.record(identifier)
    swarm = record.get("c")
    if "rd" in record or record["st"] == "a":
        return True
    return swarm in state.records and identifier in ready_members(state, swarm)
