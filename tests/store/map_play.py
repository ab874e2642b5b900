"""From bytes to events of maps."""

from __future__ import annotations

from tests.node import Node
from tests.store.sketch import Numbers, draw_settings, nodes_of, templates
from tests.store.world import World


def create_map(world: World, numbers: Numbers) -> None:
    """A new map, with some items and perhaps started."""
    template = Node(owned=True, success=templates(world, numbers), failure=templates(world, numbers))
    root = Node(kind="s", template=template, success=templates(world, numbers), failure=templates(world, numbers))
    draw_settings(root, numbers)
    root.closed, root.room = False, root.room and root.room + 3
    world.create_map(root)
    count = numbers.below(5)
    if count and world.add_items(root, count) is None and numbers.chance(2):
        world.close(root)
    if not numbers.chance(3):
        world.run(root, with_message=False)


def add_items(world: World, numbers: Numbers) -> None:
    """Add items to a map, now and then to what is none."""
    nodes = nodes_of(world)
    maps = [node for node in nodes if node.template is not None]
    open_maps = [node for node in maps if not node.closed and not node.ended]
    target = numbers.one(nodes if numbers.chance(8) else open_maps or maps)
    if target is not None:
        world.add_items(target, 1 + numbers.below(3))
