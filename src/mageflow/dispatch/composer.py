"""Makes the message of a row: the merge of its path, and what is injected."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mageflow.dispatch.catalog import Catalog
from mageflow.errors import BrokenRecordError, SignatureNotFoundError
from mageflow.flow.command import REFERENCE, Dispatch, Node, Row
from mageflow.flow.ids import key_of
from mageflow.flow.payload import Body, Injection, Json, load, merge
from mageflow.flow.render import Layer, merged_message
from mageflow.flow.status import Kind
from mageflow.store.codec import Record, node_of, text
from mageflow.store.results import Results
from mageflow.store.store import Store

_NOTHING = Injection()


class Composer:
    """Turns rows into dispatches. No round trip unless a list, a large value or an error is to be injected."""

    def __init__(self, store: Store, results: Results, catalog: Catalog) -> None:
        self._store = store
        self._results = results
        self._catalog = catalog

    async def compose(self, row: Row, nodes: Mapping[str, Node]) -> Dispatch:
        """Return the dispatch of a row.

        Raises:
            MageflowError: it can never be dispatched: its record is broken, or its task unknown.
        """
        path = _path(row.id, nodes)
        body = self._body(path[0])
        if body.name is None:
            raise BrokenRecordError(self._key(row.id), "it names no task")
        task = await self._catalog.find(body.name)
        message = await self._message(path, body.injection or task.injection)
        return Dispatch(
            id=row.id,
            dispatch=row.dispatch,
            attempt=row.attempt,
            task=task,
            message=message,
            options=body.options,
            flow=path[-1].id,
            container=path[0].container or "",
        )

    async def _message(self, path: Sequence[Node], injection: Injection) -> Json:
        message = merged_message([self._layer(node) for node in path])
        top, entry = path[-1], _entry(path)
        if entry is top and top.error_id is not None:
            message = merge(await self._received(top.error_id), message)
            if injection.error_field is not None:
                message[injection.error_field] = await self._results.error(top.error_id)
        limit = self._store.config.inline_limit
        if entry.input_id is not None and injection.result_field is not None:
            value = entry.input_value
            if value is None:
                value = await self._results.result(entry.input_id, limit)
            if len(value) <= limit:
                message[injection.result_field] = load(value, self._key(entry.input_id))
            else:
                message.pop(injection.result_field, None)
                message[REFERENCE] = [injection.result_field, entry.input_id]
        return message

    async def _received(self, identifier: str) -> Json:
        """Return the message that a failed signature got; of a chain, the one that its failed member got."""
        records = await self._records_above(await self._failed_part(identifier))
        path = _path(records[0].id, {record.id: node_of(record) for record in records})
        body = self._body(path[0])
        if path[0].kind is not Kind.TASK or body.name is None:
            return await self._message(path, _NOTHING)
        return await self._message(path, body.injection or (await self._catalog.find(body.name)).injection)

    async def _failed_part(self, identifier: str) -> str:
        """Follow failed chains down to the member that is no chain."""
        record = await self._record(identifier)
        while record.kind is Kind.CHAIN and record.source != record.id:
            failed = await self._records_above(record.source)
            below = [part for part in failed if part.container == record.id]
            if not below:
                break
            record = below[0]
        return record.id

    async def _records_above(self, identifier: str) -> list[Record]:
        records = [await self._record(identifier)]
        above = records[0]
        while above.container is not None:
            member, above = above, await self._record(above.container)
            if above.kind is Kind.TASK:
                break
            if above.kind is Kind.SWITCH and member.number("x") > 0:
                chooser = await self._store.command("LINDEX", self._store.keys.members(above.id), 0)
                records.append(await self._record(text(chooser)))
            records.append(above)
        return records

    async def _record(self, identifier: str) -> Record:
        [record] = await self._store.read([identifier])
        if record is None:
            raise SignatureNotFoundError(self._key(identifier))
        return record

    def _body(self, node: Node) -> Body:
        return Body.decode(node.body, self._key(node.id))

    def _layer(self, node: Node) -> Layer:
        message: Json = load(node.message, self._key(node.id)) if node.message else {}
        return Layer(kind=node.kind, index=node.index, kwargs=self._body(node).kwargs, message=message)

    def _key(self, identifier: str) -> str:
        return key_of(self._store.config.namespace, identifier)


def _path(identifier: str, nodes: Mapping[str, Node]) -> list[Node]:
    """Return a signature and its containers, innermost first; before a switch its chooser, where it is none itself."""
    path, node = [nodes[identifier]], nodes[identifier]
    while node.container is not None and node.container in nodes:
        container = nodes[node.container]
        if container.kind is Kind.SWITCH and node.index:
            [chooser] = (one for one in nodes.values() if one.container == container.id and one.index == 0)
            path.append(replace(chooser, kind=Kind.SWITCH))
        path.append(container)
        node = container
    return path


def _entry(path: Sequence[Node]) -> Node:
    """Return the signature whose input reaches the first: itself, or a container that it is an entrance of."""
    for node, above in itertools.pairwise(path):
        if node.input_id or node.error_id or (node.index and above.kind is Kind.CHAIN):
            return node
    return path[-1]
