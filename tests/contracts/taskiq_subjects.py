"""Clients around each broker of TaskIQ that the suite runs on."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from nats.js.api import RetentionPolicy, StreamConfig
from taskiq import AsyncBroker, InMemoryBroker
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue, QueueType
from taskiq_nats import PullBasedJetStreamBroker
from taskiq_redis import ListQueueBroker, PubSubBroker, RedisAsyncResultBackend, RedisStreamBroker

from mageflow import Mageflow, MageflowConfig
from mageflow.store.keys import Keys


def _client(broker: AsyncBroker, config: MageflowConfig) -> Mageflow:
    return Mageflow(broker, _redis(), config=config)


def _redis() -> str:
    return os.environ["REDIS_URL"]


def _queue(config: MageflowConfig) -> str:
    return f"{Keys(config.namespace).queue}:taskiq"


def _results(config: MageflowConfig) -> RedisAsyncResultBackend[Any]:
    return RedisAsyncResultBackend(_redis(), result_ex_time=60, prefix_str=_queue(config))


def stream(config: MageflowConfig) -> Mageflow:
    """Return a client of the stream broker."""
    broker = RedisStreamBroker(_redis(), queue_name=_queue(config), consumer_group_name=_queue(config))
    return _client(broker.with_result_backend(_results(config)), config)


def queue(config: MageflowConfig) -> Mageflow:
    """Return a client of the list broker."""
    broker = ListQueueBroker(_redis(), queue_name=_queue(config), socket_timeout=None)
    return _client(broker.with_result_backend(_results(config)), config)


def published(config: MageflowConfig) -> Mageflow:
    """Return a client of the publishing broker."""
    broker = PubSubBroker(_redis(), queue_name=_queue(config), socket_timeout=None)
    return _client(broker.with_result_backend(_results(config)), config)


def memory(config: MageflowConfig) -> Mageflow:
    """Return a client of the broker in memory."""
    return _client(InMemoryBroker(sync_tasks_pool_size=20), config)


def rabbitmq(config: MageflowConfig) -> Mageflow:
    """Return a client of the broker on RabbitMQ, with priorities and delays."""
    name = config.namespace
    broker = AioPikaBroker(
        os.environ["RABBITMQ_URL"],
        exchange=Exchange(name=name),
        task_queues=[Queue(name=name, type=QueueType.CLASSIC, max_priority=3)],
        dead_letter_queue=Queue(name=f"{name}-dead"),
        delay_queue=Queue(name=f"{name}-delayed"),
    )
    return _client(broker.with_result_backend(_results(config)), config)


def nats(config: MageflowConfig) -> Mageflow:
    """Return a client of the pulling broker on NATS JetStream."""
    name = config.namespace
    broker = PullBasedJetStreamBroker(
        os.environ["NATS_URL"],
        subject=name,
        stream_name=name,
        durable=name,
        stream_config=StreamConfig(retention=RetentionPolicy.WORK_QUEUE),
        pull_consume_timeout=1,
    )
    return _client(broker.with_result_backend(_results(config)), config)


BROKERS = {"stream": stream, "queue": queue, "published": published, "rabbitmq": rabbitmq, "nats": nats}
KIND = "MAGEFLOW_TASKIQ_BROKER"


def command() -> Sequence[str]:
    """Return the command of TaskIQ's own worker."""
    return [sys.executable, "-m", "taskiq", "worker", "tests.contracts.taskiq_worker:broker", "--workers", "1"]


def environment(kind: str) -> Mapping[str, str]:
    """Return what the worker needs to know of its broker."""
    return {KIND: kind}
