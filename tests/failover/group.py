"""The group that clients work with, by scripts/cluster or in namespaces by the fault kit; and what is asked of it."""
import asyncio, os, re, signal, sys, time

here = os.path.dirname(os.path.abspath(__file__))
root = os.path.dirname(os.path.dirname(here))
sys.path.insert(0, os.path.join(root, "tests/faults"))
from faultkit import cluster, wire  # noqa: E402

now = time.monotonic
SPACES = {"isolate", "cut", "name"}   # these need namespaces: of their own, or for ports of more name servers
NAMES = {"names", "name"}              # these hit a name server, not the leader
PLANNED = {"transfer", "roll"}         # what an operator does, and there is nothing to mend
QUEUES = 4
NET_ERRORS = (OSError, ValueError, EOFError)

class OnLoopback:
    def __init__(self, work):
        self.env = {**os.environ, "RMQ_CLUSTER_DIR": work + "/cluster"}

    async def run(self, program, *args):
        p = await asyncio.create_subprocess_exec(
            program, *args, env=self.env, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
        out, err = await p.communicate()
        if p.returncode:
            raise RuntimeError(f"{os.path.basename(program)} {' '.join(args)}: {err.decode().strip()[-1000:]}")
        return out.decode()

    async def script(self, *args):
        return await self.run(root + "/scripts/cluster", *args)

    async def up(self):
        status = await self.script("up", "--size", "3")
        at = {line.split()[0]: line.split()[1] for line in status.splitlines()}
        self.names, self.members = at.pop("namesrv"), at

    def name_server(self, number):
        return "namesrv"

    async def hit(self, fault, name):
        if fault == "transfer":
            await self.run(os.environ["RMQ_BIN"] + "/rmq-admin", "leaderTransfer", "-b", self.members[name], "-n", self.names)
        elif fault == "roll":
            await self.script("roll")
        else:
            await self.script("kill" if fault in NAMES else fault, name)

    async def mend(self, fault, name):
        await self.script("resume" if fault == "pause" else "start", name)

    async def down(self):
        await self.script("down", "--keep")

class InNamespaces:
    def __init__(self, work, members, name_servers):
        self.work, self.size, self.name_servers, self.c = work, members, name_servers, None

    async def up(self):
        deploy = cluster.load(os.path.join(root, "tests/faults/deploy/rmq.toml"))
        deploy["namesrv"]["count"] = self.name_servers
        self.c = cluster.Cluster(deploy, self.work, f"fo{os.getpid()}", True, self.size, disks=False)
        await self.c.start(deploy["ready_s"])
        self.names, self.members = ";".join(n.addr for n in self.c.names), {n.name: n.addr for n in self.c.brokers}
        self.node = {n.name: n for n in [*self.c.brokers, *self.c.names]}

    def name_server(self, number):
        return self.c.names[number % self.name_servers].name

    async def hit(self, fault, name):
        if fault in {"isolate", "cut"}:
            others = [o for o in self.c.net.ips if o != name and (fault == "cut" or o in self.members)]
            for o in others:
                self.c.net.cut(name, o)
        elif fault == "term":
            await self.node[name].term()
        elif fault in {"kill", *NAMES}:
            self.node[name].kill()
        else:
            self.node[name].signal(signal.SIGSTOP)

    async def mend(self, fault, name):
        if fault in {"isolate", "cut"}:
            self.c.net.heal()
        elif fault == "pause":
            self.node[name].signal(signal.SIGCONT)
        else:
            self.node[name].start()

    async def down(self):
        if self.c:
            self.c.close()

class Asker:
    """Asks members what they know. `members`: name -> address, `names`: addresses of name servers, by semicolon."""

    def __init__(self, members, names):
        self.members, self.names, self.pool = members, names, wire.Pool()

    async def figures(self, name):
        """A member's runtime information; empty when it does not answer."""
        try:
            r = await self.pool.call(self.members[name], wire.RUNTIME_INFO, timeout=0.5)
            return wire.loads(r.body).get("table") or {}
        except NET_ERRORS:
            return {}

    async def leader_now(self):
        """Who leads the highest term by its own word, None when nobody says so."""
        said = []
        for name in self.members:
            its = await self.figures(name)
            said += [(int(its["raftTerm"]), name)] if its.get("raftLeader") == name else []
        return max(said)[1] if said else None

    async def leader(self, limit=30):
        end = now() + limit
        while now() < end:
            if name := await self.leader_now():
                return name
            await asyncio.sleep(0.1)
        raise RuntimeError("nobody leads")

    async def make_topics(self, topics):
        for topic in topics:
            end = now() + 30
            while now() < end:
                try:
                    addr = self.members[await self.leader()]
                    r = await self.pool.call(addr, wire.CREATE_TOPIC, wire.topic_args(topic, QUEUES), timeout=3.0)
                    if r.code == wire.OK:
                        break
                except NET_ERRORS:
                    await asyncio.sleep(0.2)
            else:
                raise RuntimeError(f"{topic} could not be made")

    async def slot(self):
        """The address of the group's ingress slot, as the name server has it."""
        r = await self.pool.call(self.names.split(";")[0], wire.CLUSTER_INFO, timeout=2.0)
        found = re.search(rb'"brokerAddrs":\{"?0"?:"([^"]+)"\},"brokerName":"[^"]*~1"', r.body)
        return found and found[1].decode()

    async def watch_offsets(self, name, groups, account):
        """Tells the account what a member says that consumers have committed, once a second. `groups`: (topic, group), each.
        That it refuses to say is no answer."""
        pool, addr = wire.Pool(), self.members[name]
        try:
            while True:
                for topic, group in groups:
                    for q in range(QUEUES):
                        asked, args = now(), {"consumerGroup": group, "topic": topic, "queueId": q}
                        try:
                            r = await pool.call(addr, wire.QUERY_OFFSET, args, timeout=0.5)
                        except NET_ERRORS:
                            continue
                        if r.code in (wire.OK, wire.QUERY_NOT_FOUND):
                            told = int(r.ext["offset"]) if r.code == wire.OK else None
                            account.offset((group, topic, q), asked, told, name)
                await asyncio.sleep(1)
        finally:
            pool.close()

    def close(self):
        self.pool.close()
