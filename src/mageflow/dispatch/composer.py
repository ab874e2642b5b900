"""Makes the message of a row: the merge of its path, and what is injected."""

from __future__ import annotations

from collections.abc import Mapping

from mageflow.dispatch.catalog import Catalog
from mageflow.errors import BrokenRecordError, SignatureNotFoundError
from mageflow.flow.command import REFERENCE, Dispatch, Node, Row
from mageflow.flow.ids import key_of
from mageflow.flow.payload import Body, Json, load, merge
from mageflow.flow.render import Layer, merged_message
from mageflow.store.codec import Record
from mageflow.store.results import Results
from mageflow.store.store import Store


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
        node = path[0]
        body = self._body(node)
        if body.name is None:
            raise BrokenRecordError(self._key(node.id), "it names no task")
        definition = await self._catalog.find(body.name)
        injection = body.injection or definition.injection
        message = merged_message([self._layer(item) for item in path])
        entry = _entry(path)
        if path[-1].error_id is not None:
            message = await self._with_failed_message(message, path)
        if entry.error_id is not None and injection.error_field:
            message[injection.error_field] = await self._results.error(entry.error_id)
        if entry.input_id is not None and injection.result_field is not None:
            await self._inject(message, entry, entry.input_id, injection.result_field)
        return Dispatch(
            id=row.id,
            dispatch=row.dispatch,
            attempt=row.attempt,
            task=definition,
            message=message,
            options=body.options,
        )

    async def _inject(self, message: Json, entry: Node, source: str, field: str) -> None:
        value = entry.input_value
        if value is None:
            value = await self._results.result(source)
        if len(value) <= self._store.config.inline_limit:
            message[field] = load(value, self._key(source))
        else:
            message.pop(field, None)
            message[REFERENCE] = [field, source]

    async def _with_failed_message(self, message: Json, path: list[Node]) -> Json:
        """An error callback starts from the message that the failed one got; of a chain, its first member does."""
        if any(node.index for node in path[:-1]):
            return message
        failed = path[-1].error_id
        assert failed is not None
        return merge(await self._received(failed), message)

    async def _received(self, identifier: str) -> Json:
        """Return the message that a signature got; of a chain that failed, the one that the failed member got."""
        records: list[Record] = []
        current: str | None = await self._failed_leaf(identifier)
        while current is not None:
            [record] = await self._store.read([current])
            if record is None:
                raise SignatureNotFoundError(self._key(current))
            records.append(record)
            current = record.container
        layers = [
            Layer(
                kind=record.kind,
                index=int(record.fields["x"]) if "x" in record.fields else None,
                kwargs=record.body.kwargs,
                message=load(record.message, record.id) if record.message else {},
            )
            for record in records
        ]
        message = merged_message(layers)
        return await self._with_injected(message, records)

    async def _failed_leaf(self, identifier: str) -> str:
        """Follow failed chains down to the member that failed."""
        while True:
            [record] = await self._store.read([identifier])
            if record is None or record.kind.value != "chain":
                return identifier
            identifier = await self._failed_member(record)

    async def _failed_member(self, chain: Record) -> str:
        source = chain.source
        while True:
            [record] = await self._store.read([source])
            if record is None or record.container == chain.id:
                return source
            if record.container is None:
                return source
            source = record.container

    async def _with_injected(self, message: Json, records: list[Record]) -> Json:
        for record in records:
            source = record.fields.get("in")
            if source is not None:
                name = records[0].body.name
                field = None
                if records[0].kind.value == "task" and name is not None:
                    injection = records[0].body.injection or (await self._catalog.find(name)).injection
                    field = injection.result_field
                if field is not None:
                    value = await self._results.result(source)
                    message = {**message, field: load(value, self._key(source))}
                return message
            if record.fields.get("x", "0") != "0":
                return message
        return message

    def _body(self, node: Node) -> Body:
        return Body.decode(node.body, self._key(node.id))

    def _layer(self, node: Node) -> Layer:
        message = load(node.message, self._key(node.id)) if node.message else {}
        return Layer(kind=node.kind, index=node.index, kwargs=self._body(node).kwargs, message=message)

    def _key(self, identifier: str) -> str:
        return key_of(self._store.config.namespace, identifier)


def _path(identifier: str, nodes: Mapping[str, Node]) -> list[Node]:
    path = [nodes[identifier]]
    while (container := path[-1].container) is not None and container in nodes:
        path.append(nodes[container])
    return path


def _entry(path: list[Node]) -> Node:
    """Return the signature whose input reaches this one: itself, or a container that it is an entrance of."""
    for node in path:
        if node.input_id is not None or node.error_id is not None or node.index:
            return node
    return path[-1]
