"""What keeps flows in the model of the store, and what lets them go."""

from __future__ import annotations

from collections.abc import Iterator

from tests.node import Node


class Lifetimes:
    """All flows of a namespace, from their creation until their records are gone."""

    def __init__(self) -> None:
        self.roots: list[Node] = []
        self.drafts: dict[str, list[Node]] = {}
        self.removed: list[Node] = []

    def nodes(self) -> Iterator[Node]:
        """Every signature that is still there."""
        for root in self.roots:
            yield from (node for node in root.tree() if not node.gone)

    def alive(self, root: Node) -> int:
        """What keeps a flow from expiring: itself once started, fired callbacks, runs."""
        return sum(
            (node.running and not node.gone) + (node.told and not node.ended and node.container is None)
            for node in root.tree()
        )

    def references(self) -> dict[Node, int]:
        """How many records name each signature as a callback."""
        counts: dict[Node, int] = {}
        drafted = (node for parts in self.drafts.values() for node in parts)
        for node in (*self.nodes(), *drafted):
            if not node.expiring and (node.recorded or not node.is_item):
                for template in (*node.success, *node.failure, *filter(None, [node.template])):
                    counts[template] = counts.get(template, 0) + 1
        return counts

    def unstarted(self) -> list[Node]:
        """Roots that nobody has started."""
        waiting = [root for root in self.roots if root.status == "p" and not (root.gone or root.told or root.draft)]
        return [root for root in waiting if root.container is None and not root.owned]

    def never_started(self) -> list[Node]:
        """Roots that go when their time is over; a marked one has a timer instead."""
        named = self.references()
        return [root for root in self.unstarted() if not named.get(root) and not root.mark]

    def timed(self) -> list[Node]:
        """Roots whose mark has a time limit."""
        free = (root for root in self.roots if not (root.gone or root.draft or root.ended))
        return [root for root in free if root.mark]

    def settle_lifetimes(self) -> None:
        """Let flows that are over expire; one that is named as a callback stays until nothing names it."""
        while True:
            named = self.references()
            over = (root for root in self.roots if (root.told or root.ended) and self.alive(root) == 0)
            expired = next((root for root in over if not root.expiring and self._is_free(root, named)), None)
            if expired is None:
                break
            for node in expired.tree():
                node.expiring = True
            for template in self._left_templates(expired):
                template.expiring, template.removed = True, expired.removed
        for root in [root for root in self.roots if root.removed and root.expiring]:
            self.removed.append(root)
            self.vanish(root)

    def _is_free(self, root: Node, named: dict[Node, int]) -> bool:
        """Whether nothing names it as a callback but its own flow, which does not keep itself."""
        inside = (node for node in root.tree() if node.recorded or not node.is_item)
        templates = {node.template for node in root.tree() if node.template is not None and node.template.owned}
        lists = [[*node.success, *node.failure] for node in (*inside, *templates)]
        return named.get(root, 0) <= sum(one.count(root) for one in lists)

    def forget_unstarted(self, root: Node) -> None:
        """What was never started has reached its age."""
        if root in self.never_started():
            root.status, root.reason = "c", "expired"
            self.vanish(root)

    def vanish(self, root: Node) -> None:
        """The records of an expiring flow are gone."""
        if root not in self.roots:
            return
        for node in root.tree():
            node.expiring = node.gone = True
        self.roots.remove(root)
        for template in self._left_templates(root):
            self.vanish(template)

    def _left_templates(self, root: Node) -> list[Node]:
        """What the maps of a flow that is over ran for each item: it goes with the last of them."""
        named = self.references()
        templates = [node.template for node in root.tree() if node.template is not None]
        return [one for one in dict.fromkeys(templates) if one in self.roots and not named.get(one)]
