"""Two equal nodes that many stories share.

Starting them takes longer than most of what happens to them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.netns.stories.node import VIP, VIP6, WEB, VipdNode, instance, wait_for
from tests.netns.stories.world import World
from vipd.demo.lab import INTERFACE

EXTRA = "192.0.2.101"
"""An address that the pair's network watches too, for instances that a story adds."""
STANDARD = instance(preempt=False)
"""Nobody preempts: a story finds the VIP on either node, and nothing moves but by what the story
does."""


UNCHANGED = "the configuration is unchanged"


@dataclass
class Pair:
    """Nodes `a` and `b`, and a host `c` without vipd."""

    world: World
    a: VipdNode
    b: VipdNode
    broken: bool = field(default=False)

    @property
    def nodes(self) -> tuple[VipdNode, VipdNode]:
        """Both."""
        return self.a, self.b

    @property
    def holder(self) -> VipdNode:
        """The node that has the VIP."""
        return self.node(self.world.wait_owner())

    @property
    def other(self) -> VipdNode:
        """The node that does not have it."""
        return self.b if self.holder is self.a else self.a

    def node(self, name: str) -> VipdNode:
        """Return a node by its host's name."""
        return self.a if name == self.a.host.name else self.b

    def settle(self) -> None:
        """Bring both nodes back to the standard configuration, and wait until all is calm."""
        for node in self.nodes:
            if self.broken and node.runs:
                node.kill_all()
            self._bring_back(node)
        self.broken = False
        wait_for(self.calm, "the pair to be calm")

    def calm(self) -> bool:
        """Whether one node alone has the VIP, both are fit and know of each other, and nothing is
        pinned or drained.
        """
        owners = self.world.monitor.owners(VIP)
        if len(owners) != 1 or owners != self.world.monitor.owners(VIP6):
            return False
        for node in self.nodes:
            document, seen = node.status(), node.instance()
            wanted = "Active" if node.host.name in owners else "Backup"
            if (
                not document
                or document["drained"]
                or seen.get("state") != wanted
                or not node.knows_fit("a", "b")
                or seen["pin"]
            ):
                return False
        return True

    def _bring_back(self, node: VipdNode) -> None:
        # The kernel takes the IPv6 addresses off an interface that is set down: a VIP that is added
        # to a host without any other would be the host's own.
        own = f"{node.host.address6}/64"
        self.world.lab.run(node.host, "ip", "-6", "addr", "replace", own, "dev", INTERFACE, "nodad")
        before = node.config_file.read_text() if node.config_file.exists() else ""
        node.configure(STANDARD)
        if not node.runs:
            (node.state_dir / "drained").unlink(missing_ok=True)
            node.start()
            return
        if node.config_file.read_text() != before:
            # A test that left a broken file has not changed what runs.
            reload(node, may_be_unchanged=True)
        document = node.status()
        if document and document["drained"]:
            node.ask("resume")
        if node.instance().get("pin") == node.name:
            node.ask("handover", instance=WEB, auto=True)


def reload(node: VipdNode, *, may_be_unchanged: bool = False) -> None:
    """Have it read its configuration again, and wait for the daemon that runs with it.

    `may_be_unchanged`: the daemon that runs may be told to go on as it is.
    """
    before, logged = wait_for(node.session, f"{node.name} to answer"), len(node.log)

    def done() -> bool:
        unchanged = may_be_unchanged and UNCHANGED in node.log[logged:]
        return unchanged or node.session() not in {"", before}

    node.reload()
    wait_for(done, f"{node.name} to have a new daemon")
