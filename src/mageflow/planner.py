"""From what users write - names, functions, signatures, keys - to changes of the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from pydantic import BaseModel

from mageflow.config import MageflowConfig, SwarmConfig
from mageflow.dispatch.catalog import Catalog
from mageflow.errors import ChainTooShortError, IllegalMoveError, TooManyTasksError, UnrecognizedTaskError
from mageflow.flow.checks import check_mapping, check_model, check_task, check_text, list_of
from mageflow.flow.choice import check_cases, choice_of
from mageflow.flow.ids import PREFIX, id_of, key_of
from mageflow.flow.message import injection_of
from mageflow.flow.payload import Body, Json, dump, plain
from mageflow.flow.signature import Change, Claim, Members, NewSignature
from mageflow.flow.status import Kind
from mageflow.run.replay import Replay
from mageflow.run.tasks import Tasks
from mageflow.store.codec import Record

_ROLES = ("member", "success callback", "error callback", "task")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Changes to be committed, the signature that they make, and its members."""

    root: NewSignature
    changes: Sequence[Change]
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """A member or callback as given: the id of an existing signature, or the task of a new one."""

    id: str = ""
    task_name: str | None = None


class Planner:
    """Checks what users describe and turns it into changes; nothing is written here."""

    def __init__(
        self,
        config: MageflowConfig,
        catalog: Catalog,
        tasks: Tasks,
        replay: Replay,
        check_options: Callable[[Mapping[str, Any], str], None],
    ) -> None:
        self._replay = replay
        self._config = config
        self._catalog = catalog
        self._tasks = tasks
        self._check_options = check_options

    def options(self, given: Mapping[str, Any] | BaseModel | None, where: str) -> Json:
        """Return options of a start as the task manager is to get them.

        Raises:
            InvalidArgumentError, NotSerialisableError: it would not take them; says which and where.
        """
        check_mapping(given, where)
        options: Json = plain(given or {}, where)
        self._check_options(options, where)
        return options

    def name_of(self, thing: object, where: str) -> str:
        """Return the task name that a name, function or task object stands for.

        Raises:
            InvalidArgumentError: it can stand for none; says where.
            UnrecognizedTaskError: it is none that was registered here.
        """
        check_task(thing, where)
        if isinstance(thing, str):
            return thing
        known = self._tasks.name_of(thing)
        if known is None:
            name = getattr(thing, "task_name", None) or getattr(thing, "__name__", None) or repr(thing)
            raise UnrecognizedTaskError(str(name), self._config.namespace)
        return known

    async def task(
        self,
        thing: object,
        *,
        kwargs: Mapping[str, Any],
        identifiers: Mapping[str, Any] | None = None,
        success: object = None,
        failure: object = None,
        model: type[BaseModel] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Plan:
        """Plan a task signature.

        Raises:
            UnrecognizedTaskError: nobody registered the name.
            InvalidMessageError, NotSerialisableError, PayloadTooLargeError: the arguments are wrong.
        """
        name = self.name_of(thing, "the task of a signature")
        check_mapping(identifiers, f"task_identifiers of task {name!r}")
        check_model(model, f"model_validators of task {name!r}")
        definition = await self._catalog.find(name)
        self._tasks.check_arguments(name, kwargs, model)
        body = Body(
            name=definition.name,
            kwargs=plain(kwargs, f"an argument of task {name!r}"),
            identifiers=plain(identifiers or {}, f"an identifier of task {name!r}"),
            injection=injection_of(model) if model else None,
            schema=model.model_json_schema() if model else None,
            options=self.options(options, f"the options of task {name!r}"),
        )
        return await self._plan(Kind.TASK, body, task_name=name, success=success, failure=failure)

    async def chain(
        self, tasks: Iterable[object], *, name: str | None, kwargs: Mapping[str, Any], success: object, failure: object
    ) -> Plan:
        """Plan a chain.

        Raises:
            ChainTooShortError: fewer than two members.
        """
        members = list_of(tasks, "the tasks of a chain")
        if len(members) < 2:
            raise ChainTooShortError(len(members))
        body = Body(name=name, kwargs=plain(kwargs, "an argument of a chain"))
        return await self._plan(Kind.CHAIN, body, members=members, success=success, failure=failure)

    async def swarm(
        self,
        tasks: Iterable[object],
        *,
        name: str | None,
        kwargs: Mapping[str, Any],
        success: object,
        failure: object,
        config: SwarmConfig,
        closed: bool,
    ) -> Plan:
        """Plan a swarm.

        Raises:
            TooManyTasksError: more members than `max_task_allowed`.
        """
        members = list_of(tasks, "the tasks of a swarm")
        body = Body(name=name, kwargs=plain(kwargs, "an argument of a swarm"))
        limit = config.max_task_allowed
        if limit is not None and len(members) > limit:
            raise TooManyTasksError(name or "(new)", limit)
        settings = {**_swarm_settings(config), "cl": int(bool(closed) or len(members) == limit)}
        return await self._plan(Kind.SWARM, body, members=members, success=success, failure=failure, settings=settings)

    async def map(
        self,
        task: object,
        *,
        name: str | None,
        kwargs: Mapping[str, Any],
        success: object,
        failure: object,
        config: SwarmConfig,
    ) -> Plan:
        """Plan a map without items: a swarm that runs a copy of `task` for each item.

        Raises:
            UnrecognizedTaskError: nobody registered the task.
        """
        check_task(task, "the task of a map")
        body = Body(name=name, kwargs=plain(kwargs, "an argument of a map"))
        settings = {**_swarm_settings(config), "cl": 0}
        return await self._plan(Kind.SWARM, body, template=task, success=success, failure=failure, settings=settings)

    def own_template(self, plan: Plan, given: Record) -> Plan:
        """Return the plan of a map with a copy of the signature that was given for its items: it may go before the map.

        Raises:
            IllegalMoveError: it is a container.
        """
        key = key_of(self._config.namespace, given.id)
        if given.kind is not Kind.TASK:
            raise IllegalMoveError(key, "map", "a map runs a task for each item, no container")
        template = NewSignature(
            id=self._replay.part(plan.root.id, "item", 0),
            kind=given.kind,
            body=given.body.encode(key, self._config.payload_limit),
            task_name=given.body.name,
            success=given.success,
            failure=given.failure,
            settings={"tp": 1},
        )
        root = replace(plan.root, settings={**plan.root.settings, "it": template.id})
        return replace(plan, root=root, changes=[template, *plan.changes[:-1], root])

    async def switch(
        self,
        chooser: object,
        *,
        cases: Mapping[Any, object],
        default: object,
        name: str | None,
        kwargs: Mapping[str, Any],
        success: object,
        failure: object,
    ) -> Plan:
        """Plan a switch: the chooser is its first member, the cases follow.

        Raises:
            CaseError: a value that no result can equal, one that is there twice, or no case at all.
        """
        check_mapping(cases, "the cases of a switch", needed=True)
        members, values = [chooser, *cases.values()], [choice_of(value) for value in cases]
        if default is not None:
            members.append(default)
            values.append(b"")
        check_cases(list(cases), values)
        body = Body(name=name, kwargs=plain(kwargs, "an argument of a switch"))
        lines = b"\n".join(values)
        return await self._plan(Kind.SWITCH, body, members=members, success=success, failure=failure, cases=lines)

    async def additions(
        self, container: str, tasks: Iterable[object], messages: Sequence[bytes | None]
    ) -> tuple[list[str], list[Change]]:
        """Plan new members of an existing swarm, each with its message; an `Add` is to follow."""
        members: list[_Member] = []
        for place, (task, message) in enumerate(zip(tasks, messages, strict=True)):
            member = await self._member(task, f"task {place} for a swarm")
            if member.task_name is not None:
                identifier = self._replay.identify("add", container, member.task_name, message)
                member = replace(member, id=identifier)
            members.append(member)
        changes = [
            self._part(member, container, None, message) for member, message in zip(members, messages, strict=True)
        ]
        return [member.id for member in members], changes

    async def _plan(
        self,
        kind: Kind,
        body: Body,
        *,
        task_name: str | None = None,
        members: Sequence[object] = (),
        template: object = None,
        success: object = None,
        failure: object = None,
        settings: Mapping[str, int | str] | None = None,
        cases: bytes = b"",
    ) -> Plan:
        check_text(body.name, f"the name of a {kind}")
        settings, groups = {**(settings or {})}, (members, listed(success), listed(failure), listed(template))
        given = [await self._members(of, f"{role} {{}} of a {kind}") for role, of in zip(_ROLES, groups, strict=True)]
        names = [[member.id or member.task_name for member in group] for group in given]
        identifier = self._replay.identify(kind, body, settings, names, cases)
        parts, *callbacks = [
            [self._identified(member, identifier, role, index) for index, member in enumerate(group)]
            for role, group in zip(("member", "success", "error", "item"), given, strict=True)
        ]
        changes: list[Change] = [
            self._part(callback, None, None, None, {"tp": 1} if role else None)
            for role, group in zip(("", "", "item"), callbacks, strict=True)
            for callback in group
            if callback.task_name
        ]
        changes += [self._part(p, identifier, None if kind is Kind.SWARM else i, None) for i, p in enumerate(parts)]
        if template is not None:
            settings["it"] = callbacks[2][0].id
        ids = tuple(part.id for part in parts)
        if kind is not Kind.TASK:
            settings["nm"] = len(ids)
            changes.extend(
                Members(container=identifier, ids=ids[start : start + 100], waiting=kind is Kind.SWARM)
                for start in range(0, len(ids), 100)
            )
        root = NewSignature(
            id=identifier,
            kind=kind,
            body=body.encode(key_of(self._config.namespace, identifier), self._config.payload_limit),
            task_name=task_name,
            success=[callback.id for callback in callbacks[0]],
            failure=[callback.id for callback in callbacks[1]],
            settings=settings,
            cases=cases,
        )
        return Plan(root=root, changes=[*changes, root], members=ids)

    async def _members(self, things: Iterable[object], where: str) -> list[_Member]:
        return [await self._member(thing, where.format(place)) for place, thing in enumerate(things)]

    async def _member(self, thing: object, where: str) -> _Member:
        key = thing if isinstance(thing, str) else getattr(thing, "key", None)
        if isinstance(key, str) and key.startswith(PREFIX):
            return _Member(id=id_of(self._config.namespace, key))
        name = self.name_of(thing, where)
        await self._catalog.find(name)
        return _Member(task_name=name)

    def _identified(self, member: _Member, whole: str, role: str, index: int) -> _Member:
        return member if member.task_name is None else replace(member, id=self._replay.part(whole, role, index))

    def _part(
        self,
        member: _Member,
        container: str | None,
        index: int | None,
        message: bytes | None,
        settings: Mapping[str, int | str] | None = None,
    ) -> Change:
        if member.task_name is None and container is not None:
            return Claim(id=member.id, container=container, index=index, message=message)
        body = Body(name=member.task_name).encode("a member", self._config.payload_limit)
        return NewSignature(
            id=member.id,
            kind=Kind.TASK,
            body=body,
            task_name=member.task_name,
            container=container,
            index=index,
            message=message,
            settings=settings or {},
        )


def _swarm_settings(config: SwarmConfig) -> dict[str, int | str]:
    numbers = {"mc": config.max_concurrency, "sf": config.stop_after_n_failures, "mt": config.max_task_allowed}
    return {"os": config.on_stop, **{field: number for field, number in numbers.items() if number is not None}}


def listed(*given: object) -> list[object]:
    """Return what was given - each one thing, a list, or nothing - as one list."""
    things: list[object] = []
    for item in given:
        if isinstance(item, (list, tuple)):
            things.extend(cast("Iterable[object]", item))
        elif item is not None:
            things.append(item)
    return things


def patch_line(
    limit: int,
    where: str,
    *,
    changed: Json | None = None,
    dropped: str | None = None,
    options: Json | None = None,
    mark: str = "",
) -> bytes:
    """Return the line that changes bound arguments in a body."""
    patch: Json = {"by": mark} if mark else {}
    if changed:
        patch["set"] = changed
    if dropped is not None:
        patch["pop"] = dropped
    if options:
        patch["options"] = options
    return dump(patch, where, limit)
