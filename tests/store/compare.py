"""Whether what the store holds is what the model says."""

from __future__ import annotations

from collections.abc import Mapping

from tests.model import Model
from tests.node import Node
from tests.store.snapshot import ENDED, Snapshot
from tests.store.waiting import leaked_slots, overfull, ready_members, stalled, withheld_slots


def compare(model: Model, state: Snapshot, ids: dict[Node, str], nodes: dict[str, Node]) -> None:
    """Compare everything; continue rows have been worked off. Copies get their ids here, by their place in the tree."""
    assert state.continues == []
    here = [node for root in model.roots for node in _tree(root, state, ids, nodes)]
    expected = {ids[node] for node in here}
    drafted = {ids[node] for parts in model.drafts.values() for node in parts if node in ids}
    assert {i for i in state.records if i not in drafted} == expected
    for node in here:
        if node.is_item and node.status == "c":
            # What is canceled between the parts of what starts it has no turn; in the model it had.
            node.recorded = f"s:{ids[node]}" in state.hashes
        _compare_node(node, state, ids)
    _compare_indices(model, here, state, ids)
    references = model.references()
    for node in here:
        found = int(state.record(ids[node]).get("rf", "0"))
        assert node.expiring or found == references.get(node, 0), f"rf of {ids[node]}: {found}"
    problems = [*stalled(state), *overfull(state), *leaked_slots(state), *withheld_slots(state)]
    assert not problems, problems


def _tree(node: Node, state: Snapshot, ids: dict[Node, str], nodes: dict[str, Node]) -> list[Node]:
    """Return a signature and all below it, members and fired callbacks paired by their order."""
    found = [node]
    members = state.replacements(ids[node]) if node.kind == "t" else state.entries("m", ids[node])
    for names, parts in ((members, node.members), (state.entries("c", ids[node]), node.fired)):
        assert len(names) == len(parts), f"{names} are below {ids[node]}, in the model {len(parts)}"
        for name, part in zip(names, parts, strict=True):
            assert ids.setdefault(part, name) == name
            nodes[name] = part
            found.extend(_tree(part, state, ids, nodes))
    return found


def _compare_node(node: Node, state: Snapshot, ids: Mapping[Node, str]) -> None:
    name = ids[node]
    record = state.record(name)
    effective = state.status(name)
    assert effective == node.effective, f"{name} is {effective}, the model says {node.effective}"
    _compare_steering(node, name, state, ids)
    if record["st"] == "c":
        assert record.get("re") == node.reason, f"{name}: {record.get('re')}, the model says {node.reason}"
    sources = {"in": node.takes, "ie": node.takes_error, "rs": node.result, "es": node.error, "o": node.origin}
    for field, source in sources.items():
        if field == "es" and node.kind != "t" and source is node.error and source is None:
            continue
        assert record.get(field) == (ids[source] if source else None), f"{field} of {name}"
    written = f"s:{name}" in state.hashes
    assert not node.is_item or node.expiring or written == node.recorded, f"{name} has a record: {written}"
    assert (f"s:{name}" in state.expiring) == (node.expiring and written), f"lifetime of {name}"
    if node.kind == "t":
        numbers = {
            "d": node.dispatch,
            "a": node.attempts,
            "al": node.lost,
            "n": node.run,
            "cr": node.lapses,
            "of": node.offers,
        }
        numbers |= {"rn": node.replaced, "br": node.by_run, "ck": node.check + node.checking}
        assert record.get("by") == (ids[node.by] if node.by else None), f"by of {name}"
        assert not written or record.get("ch") == node.choice, f"ch of {name}"
    else:
        numbers = {"nm": len(node.members), "na": node.active_members}
    if node.kind == "w":
        numbers["cx"] = node.chosen
    if node.kind == "s":
        numbers |= {"nd": node.done, "nf": node.failed, "nc": node.canceled}
    # What is canceled between the parts of what starts it never starts; in the model it had.
    overtaken = node.status == "c" and "t1" not in record
    if not node.ended or (node.kind == "s" and not overtaken):
        found = {field: int(record.get(field, "0")) for field in numbers}
        assert found == numbers, f"{name} has {found}, the model {numbers}"
    if node.kind == "s" and not node.ended:
        _compare_swarm(node, name, state, ids)
    if node.container is None and node.origin is None and not node.expiring:
        assert record.get("own") != "2"


def _compare_steering(node: Node, name: str, state: Snapshot, ids: Mapping[Node, str]) -> None:
    record = state.record(name)
    assert record.get("mk") == node.mark, f"mark of {name}"
    held, expected = state.held(name), node.held
    if not node.over:
        assert held == (expected and (expected[0], ids[expected[1]])), f"{name} is held by {held}, not {expected}"
        assert record.get("po") == node.outcome, f"{name} has {record.get('po')} to come, the model: {node.outcome}"
        slot = {None: None, "given": "0", "asked": "q"}[node.slot]
        assert record.get("sl") == slot, f"{name} has sl {record.get('sl')}, the model says {node.slot}"

    # The order counts among members of one swarm, which come back to its queue.
    def by_container(one: str) -> tuple[str, str]:
        container = state.record(one).get("c", "")
        return container, "" if container else one

    held_back = [one for one in state.entries("h", name) if one in state.records and state.status(one) not in ENDED]
    holds = sorted(held_back, key=by_container)
    waiting = sorted((ids[one] for one in node.holds if not one.over), key=by_container)
    assert holds == waiting, f"{name} holds {holds}, the model says {waiting}"


def _compare_swarm(swarm: Node, name: str, state: Snapshot, ids: Mapping[Node, str]) -> None:
    record = state.record(name)
    assert (record.get("cl") == "1") == swarm.closed
    slots = {ids[member] for member in swarm.holding}
    slots |= {f"{ids[task]}~{run}" for task, run in swarm.left_runs}
    assert state.slots(name) == slots, f"slots of {name}: {state.slots(name)}, the model {slots}"
    waiting = [member for member in swarm.members if not member.ended and member not in swarm.holding]
    able = {ids[member] for member in waiting if member.slot == "asked" or (member.status == "p" and not member.slot)}
    queue = list(dict.fromkeys(member for member in ready_members(state, name) if member in able))
    expected = [ids[member] for member in swarm.queue if not member.ended]
    assert queue == expected, f"queue of {name}: {queue}, the model {expected}"


def _compare_indices(model: Model, here: list[Node], state: Snapshot, ids: Mapping[Node, str]) -> None:
    rows = {ids[node] for node in here if node.row and not node.gone}
    idle = {f"!a:{ids[node]}" for node in here if node.idle}
    gates = {row for row in state.out if row.startswith("!a:")}
    rows |= {f"!u:{ids[root]}" for root in model.timed()}
    rows |= {f"!d:{ids[node]}" for node in here if node.timer and not node.gone}
    assert set(state.out) - gates == rows, f"outbox {set(state.out) - gates}, the model {rows}"
    assert idle <= gates
    assert {state.status(row[3:]) for row in gates} <= {"a"}
    overtaken = {f"{ids[node]}~{run}" for node in here for run in node.overtaken}
    # An overtaken run keeps no flow alive; a sweep forgets it when it lapses.
    runs = {run for run in state.runs if "~" not in run or run.partition("~")[0] in state.records}
    assert runs == {ids[node] for node in here if node.running} | overtaken, f"runs {runs}"
    unstarted = {ids[node] for node in model.never_started()}
    assert set(state.scores.get("ix:p", {})) == unstarted, "ix:p"
    roots = [node for node in model.roots if not node.gone]
    for letter in "adfc":
        found = set(state.scores.get(f"ix:{letter}", {})) & set(map(ids.__getitem__, roots))
        expected = {ids[root] for root in roots if (root.status if root.ended else "a" if root.told else "p") == letter}
        assert found == expected, f"ix:{letter} has {found}, the model {expected}"
    for root in roots:
        found = int(state.record(ids[root]).get("lv", "0"))
        assert found == model.alive(root), f"lv of {ids[root]} is {found}, the model says {model.alive(root)}"
