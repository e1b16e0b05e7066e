"""The group of a soak: three members and three name servers by the fault kit, what they look like, what they must not do."""
import asyncio, os, re, signal
from collections import Counter, defaultdict

from account import Some, now
from group import NET_ERRORS, Asker, cluster, root, wire
from ours import rss_mib

WATCHDOG = 70      # the documented exit code of a member whose watchdog ended it
STOP_S = 45        # a process that is asked to stop has stopped by then
LAG = 16           # entries that a member may lack while more come
SETTLE_S = 20      # a process has its working size after that
CHUNK = 1 << 20

# What members may say at level ERROR, and the kinds of fault of which that is no fault of theirs.
EXPECTED = (
    (r"stands still: a disk that hangs", {"disk"}),
    (r"ending the process, so that clients and members go elsewhere", {"disk"}),
)
# More than that, by the end, is a leak: threads, descriptors, MiB of own memory beside what the process had after SETTLE_S.
GROWTH = {"threads": 16, "descriptors": 200, "MiB": 200}

class Log:
    """What a process writes, read as it comes."""

    def __init__(self, path):
        self.path, self.at, self.rest = path, 0, b""

    def lines(self):
        with open(self.path, "rb") as f:
            f.seek(self.at)
            while data := f.read(CHUNK):
                self.at += len(data)
                *whole, self.rest = (self.rest + data).split(b"\n")
                for line in whole:
                    yield line.decode(errors="replace")

def complaint(line, fault):
    """A log line that must not be while there is that kind of fault; None for any other one."""
    if not re.search(r" ERROR |panicked", line):
        return None
    return None if any(fault in faults and re.search(known, line) for known, faults in EXPECTED) else line.strip()[:300]

def without_numbers(line):
    """A log line without when, and with # for numbers: what it says, to be counted."""
    text = re.sub(r"^\S+\s+", "", line.strip())
    return re.sub(r"\d[\d.:]*", "#", text)[:120]

class Sizes:
    """(MiB, threads, descriptors) of a process that is started again and again: its first life's, the most, the latest."""

    def __init__(self):
        self.pid, self.since, self.base, self.begin, self.most, self.last = None, 0.0, None, None, (0, 0, 0), None

    def look(self, pid, at, size):
        if pid != self.pid:
            self.pid, self.since, self.base = pid, at, None
        if size is None or at - self.since < SETTLE_S:
            return
        self.base = self.base or size
        self.begin = self.begin or size
        self.last, self.most = size, tuple(map(max, self.most, size))

    def leaks(self, name):
        """What the latest life has more at its end than it had at its beginning."""
        if self.base is None:
            return []
        names = ("MiB", "threads", "descriptors")
        return [f"{name}: {what} went from {a} to {b}" for what, a, b in zip(names, self.base, self.last) if b - a > GROWTH[what]]

class Group:
    def __init__(self, work, spaces, ill):
        deploy = cluster.load(os.path.join(root, "tests/faults/deploy/rmq.toml"))
        self.ready_s = deploy["ready_s"] * 3
        old = {"reserved": "1", "delete_hour": ";".join(f"{h:02}" for h in range(24))}  # so that a long run shows retention
        self.c = cluster.Cluster(deploy, work, f"so{os.getpid()}", spaces, 3, ill=ill, vars=old, disks=False)
        self.members, self.nodes = {n.name: n for n in self.c.brokers}, [*self.c.brokers, *self.c.names]
        self.names = ";".join(n.addr for n in self.c.names)
        self.ask = Asker({n.name: n.addr for n in self.c.brokers}, self.names)
        self.logs, self.sizes = {n: Log(n.dir + "/out.log") for n in self.nodes}, {n.name: Sizes() for n in self.nodes}
        self.asked, self.bad, self.watchdogs, self.said = set(), Some(20), 0, Counter()
        self.errors, self.fault = defaultdict(int), "none"

    async def up(self):
        return await self.c.start(self.ready_s)

    # ---- what it looks like

    async def whole(self):
        """Why it is not: all members run, agree on a leader and have what it has, and all name servers know them. None when it is."""
        told = dict(zip(self.members, await asyncio.gather(*map(self.ask.figures, self.members))))
        if silent := [name for name, its in told.items() if "raftTerm" not in its]:
            return f"{', '.join(silent)} do not answer"
        views = {(its["raftTerm"], its["raftLeader"]) for its in told.values()}
        [(_, leader), *others] = views
        if others or leader not in told:
            return f"members name as term and leader {sorted(views)}"
        lags = {name: int(told[leader].get(f"raftPeerLagEntries_{name}", -1)) for name in told if name != leader}
        if any(not 0 <= lag <= LAG for lag in lags.values()):
            return f"members lack entries: {lags}"
        known = await asyncio.gather(*(self.knows(s, leader) for s in self.c.names))
        return next((why for why in known if why), None)

    async def knows(self, server, leader):
        """Why a name server does not know this leader and all members, None when it does."""
        try:
            r = await self.ask.pool.call(server.addr, wire.CLUSTER_INFO, timeout=0.5)
            brokers = wire.loads(r.body).get("brokerAddrTable") or {}
            have = (brokers.get(self.c.group) or {}).get("brokerAddrs", {})
        except NET_ERRORS as e:
            return f"{server.name} does not answer ({type(e).__name__})"
        if have.get("0") != self.members[leader].addr or set(have.values()) != {n.addr for n in self.c.brokers}:
            return f"{server.name} names as members {have}, {leader} leads"
        return None

    def look(self):
        """Sizes of all processes, now."""
        for n in self.nodes:
            if n.proc:
                self.sizes[n.name].look(n.proc.pid, now(), rss_mib(n.proc.pid))

    def disk_bytes(self, node):
        return sum(os.stat(os.path.join(at, f)).st_blocks * 512 for at, _, files in os.walk(node.data) for f in files
                   if os.path.exists(os.path.join(at, f)))

    # ---- what it must not do

    def breaks(self, text):
        self.bad.add(text)
        print(f"BROKEN {text}", flush=True)

    def read_logs(self):
        for n, log in self.logs.items():
            for line in log.lines():
                if " WARN " in line or " ERROR " in line:
                    said = without_numbers(line)
                    self.said[said if said in self.said or len(self.said) < 500 else "others"] += 1
                if said := complaint(line, self.fault):
                    self.errors[n.name] += 1
                    if self.errors[n.name] <= 5:
                        self.breaks(f"{n.name} says: {said}")

    def revive(self):
        for n in self.nodes:
            if n.name not in self.asked and not n.alive() and n.unasked_exit is not None:
                if n.unasked_exit == WATCHDOG:
                    self.watchdogs += 1
                    print(f"{n.name}: its watchdog ended it; started again", flush=True)
                else:
                    self.breaks(f"{n.name} ended by itself (status {n.unasked_exit}); started again. Its last lines: {n.tail()}")
                n.start()

    async def watch(self):
        """Starts again what ended by itself, and says so; reads logs, looks at sizes."""
        while True:
            self.revive()
            self.read_logs()
            self.look()
            await asyncio.sleep(1)

    async def term(self, node):
        """SIGTERM, which ends a process in time and with status 0. Returns the seconds it took."""
        self.asked.add(node.name)
        began, proc = now(), node.proc
        try:
            os.killpg(proc.pid, signal.SIGTERM)
            while proc.poll() is None and now() < began + STOP_S:
                await asyncio.sleep(0.05)
            took, status = now() - began, proc.poll()
            if status is None:
                self.breaks(f"{node.name} had not stopped {STOP_S} s after SIGTERM")
            elif status not in (0, WATCHDOG):
                self.breaks(f"{node.name} ended with status {status} after SIGTERM")
            self.watchdogs += status == WATCHDOG
            node.kill()
            return took
        finally:
            self.asked.discard(node.name)

    async def transfer(self):
        """An operator hands leadership over. Returns what went wrong, or None."""
        p = await asyncio.create_subprocess_exec(
            os.environ["RMQ_BIN"] + "/rmq-admin", "leaderTransfer", "-g", self.c.group, "-n", self.names,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
        out, _ = await p.communicate()
        return f"rmq-admin leaderTransfer ended with {p.returncode}: {out.decode().strip()[-200:]}" if p.returncode else None

    # ---- the end

    async def settled(self, limit=30):
        """Waits until all members have the same log. Returns its (first byte that all have, end), None if that never is."""
        end = now() + limit
        while now() < end:
            told = await asyncio.gather(*map(self.ask.figures, self.members))
            if all(told) and len({its["commitLogMaxOffset"] for its in told}) == 1:
                return max(int(its["commitLogMinOffset"]) for its in told), int(told[0]["commitLogMaxOffset"])
            await asyncio.sleep(0.3)
        return None

    async def stop(self):
        """All stop, members first. Returns the longest time that one took."""
        took = await asyncio.gather(*(self.term(n) for n in self.c.brokers if n.proc))
        return max([*took, *await asyncio.gather(*(self.term(n) for n in self.c.names if n.proc))], default=0)

    def compare(self, start, end):
        """Compares the members' logs byte by byte. Returns where they differ: (position, members' names)."""
        first, *others = self.c.brokers
        for at in range(start, end, CHUNK):
            size = min(CHUNK, end - at)
            mine = stored(first, at, size)
            for other in others:
                its = stored(other, at, size)
                if its != mine:
                    where = next((i for i, (a, b) in enumerate(zip(its, mine)) if a != b), min(len(its), len(mine)))
                    return at + where, f"{first.name} and {other.name}"
        return None

    def close(self):
        self.ask.close()
        self.c.close()

def stored(node, at, size):
    """Bytes of a stopped member's log; fewer where a file is missing."""
    out = b""
    for path in node.segments():
        base, length = int(os.path.basename(path)), os.path.getsize(path)
        if base <= at + len(out) < base + length and len(out) < size:
            with open(path, "rb") as f:
                f.seek(at + len(out) - base)
                out += f.read(size - len(out))
    return out
