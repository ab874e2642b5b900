"""The flows' client, around the broker that the team has. The web process and the workers share this module."""

import os

from taskiq_redis import RedisStreamBroker

from mageflow import Mageflow, MageflowConfig

REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379")

broker = RedisStreamBroker(REDIS_URL, queue_name="mailing", consumer_group_name="mailing")
client = Mageflow(broker, REDIS_URL, config=MageflowConfig(namespace="mailing"))
