"""Transactions: what a block describes is written in one step at its exit, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Self

from mageflow.errors import TransactionError
from mageflow.flow.signature import Add, Change, Claim, Members, NewSignature, Patch
from mageflow.store.codec import Record, record_of

MAX_CHANGED = 100
"""Existing records that one block may change, new members aside."""


@dataclass(slots=True, eq=False)
class Block:
    """An open `async with abounded_field()`; an inner block hands its changes to the outer one."""

    owner: object
    outer: Block | None
    open: bool = True
    groups: list[Sequence[Change]] = field(default_factory=list["Sequence[Change]"])
    new: dict[str, NewSignature] = field(default_factory=dict[str, NewSignature])
    patches: dict[str, list[bytes]] = field(default_factory=dict[str, "list[bytes]"])
    first: dict[str, str] = field(default_factory=dict[str, str])
    undo: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    def add(self, changes: Sequence[Change]) -> None:
        """Keep changes, those of one call, for the exit."""
        self.groups.append(changes)
        for change in changes:
            if isinstance(change, NewSignature):
                self.new[change.id] = change
            elif isinstance(change, Patch):
                self.patches.setdefault(change.id, []).append(change.line)
            elif isinstance(change, Members) and change.ids:
                self.first.setdefault(change.container, change.ids[0])

    def _around(self) -> Iterator[Block]:
        block: Block | None = self
        while block is not None:
            yield block
            block = block.outer

    def find(self, identifier: str) -> Record | None:
        """Return the record of what this block or one around it creates, its arguments as they will be."""
        new = next((block.new[identifier] for block in self._around() if identifier in block.new), None)
        if new is None:
            return None
        lines = [line for block in reversed(list(self._around())) for line in block.patches.get(identifier, ())]
        return record_of(replace(new, body=b"\n".join([new.body, *lines])))

    def first_member(self, container: str) -> str | None:
        """Return the first member of a container that this block or one around it creates."""
        return next((block.first[container] for block in self._around() if container in block.first), None)

    def join(self, inner: Block) -> None:
        """Take over what an inner block described."""
        for group in inner.groups:
            self.add(group)
        self.undo.extend(inner.undo)

    def drop(self) -> None:
        """Forget everything: the block raised."""
        self.open = False
        for step in reversed(self.undo):
            step()

    def check(self) -> None:
        """Refuse a block that changes too many existing records.

        Raises:
            TransactionError: more than 100.
        """
        changes = [change for group in self.groups for change in group]
        new = {change.id for change in changes if isinstance(change, NewSignature)}
        changed = {_target(change) for change in changes if not isinstance(change, (NewSignature, Claim, Members))}
        if len(changed - new) > MAX_CHANGED:
            text = f"a transaction changes at most {MAX_CHANGED} existing signatures, this one {len(changed - new)}"
            raise TransactionError(text)


def _target(change: Change) -> str:
    if isinstance(change, Add):
        return change.swarm
    return change.container if isinstance(change, Members) else change.id


_current: ContextVar[Block | None] = ContextVar("mageflow_block", default=None)


def current_block(owner: object) -> Block | None:
    """Return the innermost open block of a session, entered by this asyncio task or by the one that started it."""
    block = _current.get()
    while block is not None and not (block.open and block.owner is owner):
        block = block.outer
    return block


class Entered:
    """`with Entered(owner):` makes a block the current one; at its exit an outer one takes its changes over.

    `outermost` says then whether there is none, and the changes are to be written.
    """

    def __init__(self, owner: object) -> None:
        self.block = Block(owner, _current.get())
        self.outermost = False

    def __enter__(self) -> Self:
        self._token = _current.set(self.block)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        _current.reset(self._token)
        self.block.open = False
        if kind is not None:
            self.block.drop()
            return
        outer = current_block(self.block.owner)
        self.outermost = outer is None
        if outer is not None:
            outer.join(self.block)
