"""The verbs of a client: describe flows, start them, read how they are."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from pydantic import BaseModel

from mageflow.config import MageflowConfig, PauseActionTypes, SwarmConfig
from mageflow.dispatch.repair import Report
from mageflow.errors import SignatureNotFoundError, TaskNameError, TransactionError
from mageflow.flow.checks import check_items, check_mapping
from mageflow.flow.ids import id_of
from mageflow.flow.signature import NewSignature
from mageflow.flow.status import Status
from mageflow.planner import Plan, listed
from mageflow.session import Session
from mageflow.signature import ChainSignature, Signature, SwitchSignature, TaskSignature
from mageflow.store.codec import Record, record_of
from mageflow.swarm import MapSignature, SwarmSignature, signature_of
from mageflow.typed import mapping, signing
from mageflow.views import Wait, why


class Verbs:
    """What a client can do with flows."""

    config: MageflowConfig
    _session: Session

    @signing
    async def asign(
        self,
        task: object = None,
        /,
        *,
        task_name: str | None = None,
        task_identifiers: Mapping[str, Any] | None = None,
        success_callbacks: object = None,
        error_callbacks: object = None,
        model_validators: type[BaseModel] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        **bound: Any,
    ) -> TaskSignature[Any, Any]:
        """Create a task signature. One round trip.

        Args:
            task: a registered name, the task object or the function.
            task_name: the name, instead of `task`.
            task_identifiers: what you call it by.
            success_callbacks: one or a list: signatures, keys, names, task objects, functions.
            error_callbacks: likewise, started after the last failed attempt.
            model_validators: model of the message instead of the task's own.
            kwargs: bound arguments whose names are reserved here.
            options: options of the task manager.
            bound: bound arguments.

        Raises:
            TaskNameError: not exactly one of `task` and `task_name` (a `ValueError`).
            UnrecognizedTaskError: nobody registered the name; names the closest.
            InvalidMessageError, NotSerialisableError, PayloadTooLargeError: the arguments are wrong.
        """
        check_mapping(kwargs, "kwargs")
        if (task is None) == (task_name is None):
            raise TaskNameError(task_name or "", "exactly one of task and task_name names the task")
        plan = await (await self._session.planner()).task(
            task if task is not None else task_name,
            kwargs={**(kwargs or {}), **bound},
            identifiers=task_identifiers,
            success=success_callbacks,
            failure=error_callbacks,
            model=model_validators,
            options=options,
        )
        return TaskSignature[Any, Any](self._session, *await self._created(plan), model=model_validators)

    async def achain(
        self,
        tasks: Iterable[object],
        name: str | None = None,
        *,
        success: object = None,
        error: object = None,
        success_callbacks: object = None,
        error_callbacks: object = None,
        **kwargs: Any,
    ) -> ChainSignature[Any, Any]:
        """Create a chain: each member gets the result of the one before it. One round trip for each 100 members.

        Args:
            tasks: two or more: signatures, keys, names, task objects, functions.
            name: what you call it.
            success: one callback or a list; `success_callbacks` is the same.
            error: likewise; `error_callbacks` is the same.
            kwargs: arguments for every member.

        Raises:
            ChainTooShortError: fewer than two members.
            AlreadyInContainerError: a member has a container.
            UnrecognizedTaskError: nobody registered a name.
        """
        plan = await (await self._session.planner()).chain(
            tasks,
            name=name,
            kwargs=kwargs,
            success=listed(success, success_callbacks),
            failure=listed(error, error_callbacks),
        )
        return ChainSignature[Any, Any](self._session, *await self._created(plan))

    async def aswarm(
        self,
        tasks: Iterable[object] | None = None,
        task_name: str | None = None,
        *,
        success_callbacks: object = None,
        error_callbacks: object = None,
        success: object = None,
        error: object = None,
        config: SwarmConfig | None = None,
        is_swarm_closed: bool = False,
        **kwargs: Any,
    ) -> SwarmSignature[Any, list[Any]]:
        """Create a swarm: members run side by side, at most `config.max_concurrency` at any moment.

        One round trip for each 100 members.

        Args:
            tasks: signatures, keys, names, task objects, functions; more can be added until it is closed.
            task_name: what you call it.
            success_callbacks: started with the list of results; `success` is the same.
            error_callbacks: started when the failure budget is used up; `error` is the same.
            config: concurrency, failure budget, size.
            is_swarm_closed: take no more members.
            kwargs: arguments for every member.

        Raises:
            TooManyTasksError: more members than `max_task_allowed`.
            AlreadyInContainerError: a member has a container.
            UnrecognizedTaskError: nobody registered a name.
        """
        plan = await (await self._session.planner()).swarm(
            () if tasks is None else tasks,
            name=task_name,
            kwargs=kwargs,
            success=listed(success_callbacks, success),
            failure=listed(error_callbacks, error),
            config=SwarmConfig.model_validate({} if config is None else config),
            closed=is_swarm_closed,
        )
        return SwarmSignature[Any, list[Any]](self._session, *await self._created(plan))

    @mapping
    async def amap(
        self,
        task: object,
        items: Iterable[object] | AsyncIterable[object] | None = None,
        *,
        task_name: str | None = None,
        success_callbacks: object = None,
        error_callbacks: object = None,
        success: object = None,
        error: object = None,
        config: SwarmConfig | None = None,
        **kwargs: Any,
    ) -> MapSignature[Any, Any]:
        """Create a map: a swarm that runs a task for each item of an iterable, a million or more.

        The items are written as they are taken, in one round trip for each 500, and the map is closed at their end; it
        starts by its own run, as every signature. Nothing holds all of them. When the iterable raises, an item is wrong
        or this process dies, the map stays open with what was written: `load_signature` and `add_items` go on.

        Args:
            task: a name, task object or function; or a task signature, of which each item runs a copy: as it is now.
            items: messages: models or mappings. Without them the map is open and empty; see `MapSignature.add_items`.
            task_name: what you call it.
            success_callbacks: started with the list of results; `success` is the same.
            error_callbacks: started when the failure budget is used up; `error` is the same.
            config: concurrency, failure budget, size.
            kwargs: arguments for every item.

        Raises:
            UnrecognizedTaskError: nobody registered the name.
            IllegalMoveError: `task` is a container.
            InvalidMessageError, NotSerialisableError, PayloadTooLargeError: an item is wrong; names its number.
            TooManyTasksError: more items than `max_task_allowed`.
            TransactionError: in a transaction, which would hold all of them.
        """
        if self._session.block is not None:
            text = "a map is written as its items come: make it before the transaction"
            raise TransactionError(text)
        if items is not None:
            check_items(items, "the items of a map")
        plan = await (await self._session.planner()).map(
            task,
            name=task_name,
            kwargs=kwargs,
            success=listed(success_callbacks, success),
            failure=listed(error_callbacks, error),
            config=SwarmConfig.model_validate({} if config is None else config),
        )
        template = str(plan.root.settings["it"])
        if template not in {change.id for change in plan.changes if isinstance(change, NewSignature)}:
            plan = (await self._session.planner()).own_template(plan, await self._session.read(template))
        made = MapSignature[Any, Any](self._session, *await self._created(plan))
        if items is not None:
            await made.add_items(items)
            await made.close_swarm()
        return made

    async def aswitch(
        self,
        chooser: object,
        cases: Mapping[Any, object],
        default: object = None,
        *,
        name: str | None = None,
        success_callbacks: object = None,
        error_callbacks: object = None,
        success: object = None,
        error: object = None,
        **kwargs: Any,
    ) -> SwitchSignature[Any, Any]:
        """Create a switch: the chooser runs, then the case that equals its result, with the chooser's message.

        The switch's result is that of the case; the other cases end as `canceled`. One round trip for each 100 cases.

        Args:
            chooser: a task or a signature whose result is a bool, int, str, an enum of them, or a model of a union with
                a discriminator.
            cases: for each value of the result what runs then: a signature, key, name, task object or function.
            default: what runs where no case equals the result; without it the switch fails with `NoCaseError`.
            name: what you call it.
            success_callbacks: one callback or a list; `success` is the same.
            error_callbacks: likewise; `error` is the same.
            kwargs: arguments for chooser and cases.

        Raises:
            CaseError: no case, one that is there twice, or one that no result can equal.
            AlreadyInContainerError: a member has a container.
            UnrecognizedTaskError: nobody registered a name.
        """
        plan = await (await self._session.planner()).switch(
            chooser,
            cases=cases,
            default=default,
            name=name,
            kwargs=kwargs,
            success=listed(success_callbacks, success),
            failure=listed(error_callbacks, error),
        )
        return SwitchSignature[Any, Any](self._session, *await self._created(plan))

    sign, chain, swarm = asign, achain, aswarm

    @asynccontextmanager
    async def abounded_field(self, *, ignore_redis_error: bool = False) -> AsyncGenerator[None]:
        """Write all that the block describes - signatures, arguments, members, starts - in one step at its exit.

        An exception inside leaves nothing behind. An inner block joins the outer one; if it raises, its own part is
        dropped. Asyncio tasks started inside take part while the block is open.

        Args:
            ignore_redis_error: a write that Redis refuses is logged and dropped.

        Raises:
            TransactionError: more than 100 existing signatures would change; nothing was written.
        """
        async with self._session.transaction(ignore_redis_error=ignore_redis_error):
            yield

    async def load_signature(self, key: str) -> Signature[Any, Any] | None:
        """Return the signature of a key, or `None`. One round trip, for a swarm two more for each 100 members.

        Raises:
            BrokenRecordError: its record cannot be read.
        """
        try:
            signature = await self._known(key)
            if isinstance(signature, SwarmSignature):
                await signature.arefresh()
        except SignatureNotFoundError:  # at the second read too: a flow may go at any moment
            return None
        return signature

    load_sign = load_signature

    async def _known(self, key: str) -> Signature[Any, Any]:
        return signature_of(self._session, await self._session.read(id_of(self.config.namespace, key)))

    async def why(self, key: str) -> Wait | None:
        """Return the one thing that a signature waits on, and since when; `None` when it has ended. One round trip.

        Raises:
            SignatureNotFoundError: the key is unknown.
        """
        return await why(await self._session.store(), id_of(self.config.namespace, key))

    async def repair(self, *, apply: bool = False) -> Report:
        """Look through the namespace for stalled signatures, overdue rows, lapsed runs and orphan keys.

        Reads every record once; of no effect on a healthy system.

        Args:
            apply: mend what is found.
        """
        return await (await self._session.open()).repair(apply=apply)

    async def pause(self, key: str, type: PauseActionTypes | str = PauseActionTypes.SUSPEND) -> Status:  # noqa: A002 - the users' word
        """Suspend or interrupt the signature of a key; see `Signature.suspend` and `Signature.interrupt`.

        Raises:
            SignatureNotFoundError: the key is unknown; so for the verbs below.
            TaskAlreadyRunningError: a lone task that runs cannot be suspended.
        """
        return await (await self._known(key)).pause_task(type)

    async def resume(self, key: str) -> Status:
        """Let the signature of a key go on; see `Signature.resume`."""
        return await (await self._known(key)).resume()

    async def interrupt(self, key: str) -> Status:
        """Interrupt the signature of a key; see `Signature.interrupt`."""
        return await (await self._known(key)).interrupt()

    async def cancel(self, key: str) -> Status:
        """Cancel the signature of a key; see `Signature.cancel`."""
        return await (await self._known(key)).cancel()

    async def remove(self, key: str) -> None:
        """Cancel the signature of a key and delete it; see `Signature.remove`."""
        await (await self._known(key)).remove()

    resume_task = resume

    @property
    def session(self) -> Session:
        """The way to its flows, for what belongs to it."""
        return self._session

    async def _created(self, plan: Plan) -> tuple[Record, tuple[str, ...]]:
        await self._session.commit(plan.changes)
        return record_of(plan.root), plan.members
