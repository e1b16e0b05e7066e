"""The faults of a soak: which comes next, by a seed, and how it is done to a group."""
import asyncio, random, signal
from collections import namedtuple

from account import now

SPACES, ILL = "spaces", "ill"
ROUTES_S = 31      # a client has asked for routes again after so long
Kind = namedtuple("Kind", "targets hold needs text")
KINDS = {
    "kill": Kind(("leader", "follower"), (0.5, 15), None, "kill -9"),
    "term": Kind(("leader", "follower"), (0.5, 15), None, "SIGTERM"),
    "pause": Kind(("leader", "follower"), (0.5, 15), None, "SIGSTOP, then SIGCONT"),
    "isolate": Kind(("leader", "follower"), (2, 15), SPACES, "cut from the other members"),
    "cut": Kind(("leader", "follower"), (2, 15), SPACES, "cut from everything"),
    "names": Kind(("1", "2", "3"), (2, 20), None, "so many name servers killed"),
    "all": Kind(("kill", "term"), (0, 3), None, "all members killed, or stopped, at once"),
    "transfer": Kind(("leader",), (0, 0), None, "rmq-admin leaderTransfer"),
    "roll": Kind(("members",), (0, 0), None, "each member is stopped and started, the leader last, after it has handed over"),
    "wipe": Kind(("follower",), (0.5, 5), None, "a follower loses all its data"),
    "clock": Kind(("leader", "follower", "names"), (3, 12), ILL, "a wall clock is up to ten minutes off"),
    "disk": Kind(("leader", "follower"), (4, 15), ILL, "each sync takes up to 1.5 s longer"),
}
# which: of two followers, or of three name servers; much: 0 to 1, of what the fault has more or less; pause: seconds before it.
Draw = namedtuple("Draw", "number fault target hold which much pause")

def draws(seed, faults):
    """Faults without end. The same for the same seed and faults, whatever happens meanwhile."""
    chance, number = random.Random(seed), 0
    while True:
        number += 1
        fault = chance.choice(faults)
        kind = KINDS[fault]
        yield Draw(number, fault, chance.choice(kind.targets), round(chance.uniform(*kind.hold), 1), chance.randrange(6),
                   chance.random(), round(chance.uniform(0, 12), 1))

class Faults:
    """Does them. Each ends mended, and says when that was."""

    def __init__(self, group, well):
        self.group, self.well = group, well   # well(limit): waits until all is

    async def do(self, draw):
        """Returns (what was hit, when it was mended)."""
        return await getattr(self, "do_" + draw.fault)(draw)

    async def node(self, draw):
        """Who is hit: the leader, a follower, or a name server."""
        if draw.target == "names":
            return self.group.c.names[draw.which % 3]
        leader = await self.group.ask.leader()
        if draw.target == "leader":
            return self.group.members[leader]
        return [n for name, n in self.group.members.items() if name != leader][draw.which % 2]

    async def do_kill(self, draw):
        node = await self.node(draw)
        node.kill()
        await asyncio.sleep(draw.hold)
        node.start()
        return node.name, now()

    async def do_term(self, draw):
        node = await self.node(draw)
        took = await self.group.term(node)
        await asyncio.sleep(draw.hold)
        node.start()
        return f"{node.name} (stopped in {took:.1f} s)", now()

    async def do_pause(self, draw):
        node = await self.node(draw)
        node.signal(signal.SIGSTOP)
        await asyncio.sleep(draw.hold)
        node.signal(signal.SIGCONT)
        return node.name, now()

    async def do_isolate(self, draw):
        return await self.cut(draw, self.group.members)

    async def do_cut(self, draw):
        return await self.cut(draw, self.group.c.net.ips)

    async def cut(self, draw, others):
        node, net = await self.node(draw), self.group.c.net
        for other in others:
            if other != node.name:
                net.cut(node.name, other)
        await asyncio.sleep(draw.hold)
        net.heal()
        return node.name, now()

    async def do_names(self, draw):
        servers = self.group.c.names
        hit = [servers[(draw.which + i) % len(servers)] for i in range(int(draw.target))]
        for n in hit:
            n.kill()
        await asyncio.sleep(draw.hold)
        for n in hit:
            n.start()
        return ", ".join(n.name for n in hit), now()

    async def do_all(self, draw):
        if draw.target == "term":
            await asyncio.gather(*map(self.group.term, self.group.c.brokers))
        else:
            for n in self.group.c.brokers:
                n.kill()
        await asyncio.sleep(draw.hold)
        for n in self.group.c.brokers:
            n.start()
        return "all members", now()

    async def do_transfer(self, _draw):
        leader = await self.group.ask.leader()
        if why := await self.group.transfer():
            self.group.breaks(f"of a whole group, {why}")
        return f"{leader} to {await self.group.ask.leader()}", now()

    async def do_roll(self, _draw):
        first = await self.group.ask.leader()
        for name, node in self.group.members.items():
            if name != first:
                await self.again(node)
        if why := await self.group.transfer():
            self.group.breaks(f"of a whole group, {why}")
        await asyncio.sleep(ROUTES_S)
        await self.again(self.group.members[first])
        return f"{first} last", now()

    async def again(self, node):
        await self.group.term(node)
        node.start()
        await self.well()

    async def do_wipe(self, draw):
        node = await self.node(draw)
        node.kill()
        node.damage("wipe")
        await asyncio.sleep(draw.hold)
        node.start()
        return node.name, now()

    async def do_clock(self, draw):
        node, ahead = await self.node(draw), round(600 * (2 * draw.much - 1))
        self.group.c.ill.set(node.name, ahead_s=ahead)
        await asyncio.sleep(draw.hold)
        self.group.c.ill.set(node.name)
        return f"{node.name} by {ahead:+} s", now()

    async def do_disk(self, draw):
        node, takes = await self.node(draw), 0.03 + 1.5 * draw.much ** 2
        self.group.c.ill.set(node.name, sync_s=takes)
        await asyncio.sleep(draw.hold)
        self.group.c.ill.set(node.name)
        return f"{node.name}, {takes:.2f} s each", now()
