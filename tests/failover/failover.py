"""Breaks the leader of a group while stock Java clients work, and accounts for what they saw. scripts/failover starts it."""
import argparse, asyncio, os, random, re, shutil, signal, sys, tempfile, time
from collections import Counter, defaultdict, namedtuple

here = os.path.dirname(os.path.abspath(__file__))
root = os.path.dirname(os.path.dirname(here))
sys.path.insert(0, os.path.join(root, "tests/faults"))
from faultkit import cluster, wire  # noqa: E402

now = time.monotonic  # the clock that Java's System.nanoTime() reads on Linux
FAULTS = {
    "kill": "kill -9 of the leader", "term": "SIGTERM to the leader", "pause": "SIGSTOP of the leader for 5 s",
    "isolate": "leader cut from its peers; clients and the name server still reach it",
    "cut": "leader cut from peers, clients and the name server",
}
NETWORK = {"isolate", "cut"}
HOLD_S = {"pause": 5, "isolate": 10, "cut": 10}   # how long it lasts; one that ended is started again once all is steady
TOPICS = {"FailoverPlain": "FailoverConsumer-concurrent", "FailoverOrdered": "FailoverConsumer-orderly"}
CONSUMERS = {"concurrent": "FailoverPlain", "orderly": "FailoverOrdered"}
PRODUCERS = ("sync-1", "sync-2", "sync-3", "async-1", "async-2", "ordered-1")
KINDS = ("sync", "async", "ordered")
QUEUES = 4
STEADY_S = 90    # a stale client finds the new leader within 30 s
POLL_S = 32      # the default pollNameServerInterval, and a little
NET_ERRORS = (OSError, ValueError, EOFError)

Send = namedtuple("Send", "uid kind key number sent done why")   # why: None when acknowledged

# ---- what the clients tell

class Account:
    """All that happened, by the clients' word, and the consumers' offsets, by the brokers'."""

    def __init__(self):
        self.sends, self.waiting, self.quiet = [], {}, False   # waiting: acknowledged and not consumed, by uid
        self.deliveries = {c: [] for c in CONSUMERS}     # (when, uid, where)
        self.times = {c: Counter() for c in CONSUMERS}   # uid -> how often
        self.offsets, self.regressed = {}, []            # (group, topic, queue) -> highest answer
        self.last_ack, self.last_fail = dict.fromkeys(PRODUCERS, 0.0), 0.0

    def line(self, text):
        what, *f = text.rstrip("\n").split("\t")
        if what in ("ack", "fail"):
            uid, done = f"{f[0]} {f[1]}", int(f[4]) / 1000
            why = f[5] if what == "fail" else None
            self.sends.append(Send(uid, f[0].split("-")[0], f[2], int(f[1]), int(f[3]) / 1000, done, why))
            if what == "ack":
                self.last_ack[f[0]] = self.sends[-1].sent
                if not self.times[consumer_of(self.sends[-1])][uid]:
                    self.waiting[uid] = self.sends[-1]
            else:
                self.last_fail = done
        elif what == "consumed":
            uid = f"{f[1]} {f[2]}"
            self.deliveries[f[0]].append((int(f[4]) / 1000, uid, f[5]))
            self.times[f[0]][uid] += 1
            self.waiting.pop(uid, None)
        elif what == "quiet":
            self.quiet = True

    def unconsumed(self, before):
        """Acknowledged before that, and not consumed."""
        return [s for s in self.waiting.values() if s.done < before]

    def steady(self, t):
        """Whether at `t` nothing has failed for 3 s, every producer is acknowledged and no message waits for 2 s."""
        return self.last_fail < t - 3 and min(self.last_ack.values()) > t - 2 and not self.unconsumed(t - 2)

    def offset(self, key, asked, told, member):
        """A member's answer about a committed offset, None: there is none. Not lower than answers from before it was asked."""
        known, at = self.offsets.get(key, (-1, 0))
        value = -1 if told is None else told
        if value < known and at < asked:
            self.regressed.append((*key, member, known, value))
        elif value > known:
            self.offsets[key] = value, now()

def consumer_of(send):
    return "orderly" if send.kind == "ordered" else "concurrent"

def longest_gap(times, start, end):
    """Longest time without one of `times` that ends in [start, end]; what is before `start` counts for the first one."""
    before = max((t for t in times if t < start), default=start)
    points = [before, *sorted(t for t in times if start <= t <= end), end]
    return max(b - a for a, b in zip(points, points[1:]))

def out_of_order(account):
    """Acknowledged messages of a key that were first consumed after a later acknowledged one of that key."""
    good = {s.uid: s for s in account.sends if s.kind == "ordered" and s.why is None}
    last, seen, bad = {}, set(), []
    for _, uid, where in account.deliveries["orderly"]:
        if uid in good and uid not in seen:
            seen.add(uid)
            s = good[uid]
            if s.number < last.get(s.key, (-1,))[0]:
                bad.append((s.key, uid, where, "after", *last[s.key]))
            else:
                last[s.key] = s.number, where
    return bad

def duplicates(account):
    """(delivered again, stored more than once), of all messages."""
    again = sum(n - 1 for times in account.times.values() for n in times.values())
    at = defaultdict(set)
    for its in account.deliveries.values():
        for _, uid, where in its:
            at[uid].add(where)
    return again, sum(len(places) - 1 for places in at.values())

def figures(account, start, end):
    """A table's row: what was sent between `start` and `end`, and the pauses around that."""
    sends = [s for s in account.sends if start - 1 <= s.sent <= end]
    failed = [s for s in sends if s.why]
    acked = [s for s in sends if not s.why]
    row = {"tried": len(sends), **{f"failed {k}": sum(s.kind == k for s in failed) for k in KINDS}}
    row["failing for s"] = max((s.done for s in failed), default=0) - min((s.sent for s in failed), default=0)
    row["slowest ack s"] = max((s.done - s.sent for s in acked), default=0)
    row["no ack for s"] = longest_gap([s.done for s in account.sends if not s.why], start, end)
    for c in CONSUMERS:
        row[f"{c} pause s"] = longest_gap([t for t, _, _ in account.deliveries[c]], start, end)
    return row

def table(rows):
    text = [[f"{v:.2f}" if isinstance(v, float) else str(v) for v in r.values()] for r in rows]
    lines = [list(rows[0]), *text]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    lines.insert(1, ["-" * w for w in widths])
    return "\n".join("| " + " | ".join(v.rjust(w) for v, w in zip(line, widths)) + " |" for line in lines)

def verdict(account, rows, failed_max):
    """Prints the account of a fault. Returns what must not be."""
    acked, failed = [s for s in account.sends if not s.why], [s for s in account.sends if s.why]
    lost, order = account.unconsumed(float("inf")), out_of_order(account)
    again, twice = duplicates(account)
    print(table(rows))
    for kind in KINDS:
        of = [s for s in account.sends if s.kind == kind]
        slow = max((s.done - s.sent for s in of if not s.why), default=0)
        print(f"{kind:8} {len(of)} tried, {sum(not s.why for s in of)} acknowledged, {sum(bool(s.why) for s in of)} failed; "
              f"slowest acknowledged {slow:.2f} s, slowest failed {max((s.done - s.sent for s in of if s.why), default=0):.2f} s")
    for text, n in Counter(re.sub(r"\d[\d.:]*", "#", s.why)[:110] for s in failed).most_common(5):
        print(f"  {n:5} x {text}")
    print(f"lost {len(lost)}, duplicates {again} (stored again {twice}), order broken {len(order)}, "
          f"offsets regressed {len(account.regressed)}; {len(acked)} acknowledged, {len(failed)} failed")
    bad = []
    for items, text in ((lost, "acknowledged and not consumed"), (order, "consumed out of order"),
                        (account.regressed, "committed offsets went back (group, topic, queue, member, from, to)")):
        if items:
            bad.append(f"{len(items)} {text}, e.g. {tuple(items[0])}")
    if failed_max is not None and len(failed) > failed_max:
        bad.append(f"{len(failed)} sends failed, --failed-max {failed_max}")
    return bad

# ---- the group: processes by scripts/cluster, or in namespaces of their own by the fault kit

class OnLoopback:
    def __init__(self, work):
        self.env = {**os.environ, "RMQ_CLUSTER_DIR": work + "/cluster"}

    async def script(self, *args):
        p = await asyncio.create_subprocess_exec(
            root + "/scripts/cluster", *args, env=self.env, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE)
        out, err = await p.communicate()
        if p.returncode:
            raise RuntimeError(f"scripts/cluster {' '.join(args)}: {err.decode().strip()[-1000:]}")
        return out.decode()

    async def up(self):
        status = await self.script("up", "--size", "3")
        at = {line.split()[0]: line.split()[1] for line in status.splitlines()}
        self.names, self.members = at.pop("namesrv"), at

    async def hit(self, fault, name):
        await self.script(fault, name)

    async def mend(self, fault, name):
        await self.script("resume" if fault == "pause" else "start", name)

    async def down(self):
        await self.script("down", "--keep")

class InNamespaces:
    def __init__(self, work, members):
        self.work, self.size, self.c = work, members, None

    async def up(self):
        deploy = cluster.load(os.path.join(root, "tests/faults/deploy/rmq.toml"))
        deploy["namesrv"]["count"] = 1
        self.c = cluster.Cluster(deploy, self.work, f"fo{os.getpid()}", True, self.size, disks=False)
        await self.c.start(deploy["ready_s"])
        self.names, self.members = self.c.names[0].addr, {n.name: n.addr for n in self.c.brokers}
        self.node = {n.name: n for n in self.c.brokers}

    async def hit(self, fault, name):
        if fault in NETWORK:
            others = [o for o in self.c.net.ips if o != name and (fault == "cut" or o in self.node)]
            for o in others:
                self.c.net.cut(name, o)
        elif fault == "term":
            await self.node[name].term()
        elif fault == "kill":
            self.node[name].kill()
        else:
            self.node[name].signal(signal.SIGSTOP)

    async def mend(self, fault, name):
        if fault in NETWORK:
            self.c.net.heal()
        elif fault == "pause":
            self.node[name].signal(signal.SIGCONT)
        else:
            self.node[name].start()

    async def down(self):
        if self.c:
            self.c.close()

# ---- a run

class Run:
    """One group and one set of clients, hit by one kind of fault so many times."""

    def __init__(self, fault, args, work):
        self.fault, self.args, self.work, self.account, self.pool = fault, args, work, Account(), wire.Pool()
        spaces = fault in NETWORK or args.members != 3
        self.group = InNamespaces(work, args.members) if spaces else OnLoopback(work)
        self.java, self.tasks, self.t0 = None, [], now()

    def tell(self, text):
        print(f"{self.fault:8}{now() - self.t0:6.1f} s  {text}", flush=True)

    async def until(self, limit, test):
        end = now() + limit
        while not test():
            for task in self.tasks:
                if task.done() and task.exception():
                    raise task.exception()
            if self.java and self.java.returncode is not None:
                raise RuntimeError(f"the clients ended (status {self.java.returncode}); see {self.work}/clients.err")
            if now() > end:
                return False
            await asyncio.sleep(0.1)
        return True

    async def leader(self):
        """Who leads the highest term by its own word."""
        end = now() + 30
        while now() < end:
            said = []
            for name, addr in self.group.members.items():
                try:
                    r = await self.pool.call(addr, wire.RUNTIME_INFO, timeout=0.5)
                    term, leader = wire.claim_of(r.body) or (0, None)
                    said += [(term, name)] * (leader == name)
                except NET_ERRORS:
                    pass
            if said:
                return max(said)[1]
            await asyncio.sleep(0.1)
        raise RuntimeError("nobody leads")

    async def topics(self):
        for topic in TOPICS:
            end = now() + 30
            while now() < end:
                try:
                    addr = self.group.members[await self.leader()]
                    r = await self.pool.call(addr, wire.CREATE_TOPIC, wire.topic_args(topic, QUEUES), timeout=3.0)
                    if r.code == wire.OK:
                        break
                except NET_ERRORS:
                    await asyncio.sleep(0.2)
            else:
                raise RuntimeError(f"{topic} could not be made")

    async def clients(self):
        lib = here + "/java/target"
        home = os.path.join(self.work, "home")
        os.makedirs(home)
        with open(self.work + "/clients.err", "wb") as err:
            self.java = await asyncio.create_subprocess_exec(
                "java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Duser.home={home}",
                f"-Drocketmq.client.logRoot={self.work}/client-logs", "-cp", f"{lib}/failover.jar:{lib}/lib/*",
                "failover.Clients", self.group.names, str(self.args.rate), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=err)

    async def listen(self):
        with open(self.work + "/events.tsv", "wb") as events:
            async for line in self.java.stdout:
                events.write(line)
                self.account.line(line.decode())

    async def ask_offsets(self, name, addr):
        """What a member says that consumers have committed, once a second. That it refuses to say is no answer."""
        pool = wire.Pool()
        while True:
            for topic, group in TOPICS.items():
                for q in range(QUEUES):
                    asked, args = now(), {"consumerGroup": group, "topic": topic, "queueId": q}
                    try:
                        r = await pool.call(addr, wire.QUERY_OFFSET, args, timeout=0.5)
                    except NET_ERRORS:
                        continue
                    if r.code in (wire.OK, wire.QUERY_NOT_FOUND):
                        told = int(r.ext["offset"]) if r.code == wire.OK else None
                        self.account.offset((group, topic, q), asked, told, name)
            await asyncio.sleep(1)

    async def retries_have_a_place(self):
        """Waits until clients know of a member that takes what the leader does not, as they do in a group that has run for a while:
        followers say that they do 40 s after their start, and clients ask for routes every 30 s."""
        end = now() + 60
        while now() < end:
            slot, leader = await self.slot(), self.group.members[await self.leader()]
            if slot and slot != leader:
                self.tell("a follower takes retries; waits until all clients know")
                await asyncio.sleep(POLL_S)
                return
            await asyncio.sleep(0.5)
        self.tell("no follower takes retries: clients have the leader's address only")

    async def slot(self):
        """The address of the group's ingress slot, as the name server has it."""
        r = await self.pool.call(self.group.names, wire.CLUSTER_INFO, timeout=2.0)
        found = re.search(rb'"brokerAddrs":\{"?0"?:"([^"]+)"\},"brokerName":"[^"]*~1"', r.body)
        return found and found[1].decode()

    async def steady(self, since):
        """Waits until all is well. Returns the seconds since then, None when it never was."""
        if await self.until(STEADY_S, lambda: now() > since + 3 and self.account.steady(now())):
            return now() - since
        late = [p for p, t in self.account.last_ack.items() if t < now() - 2]
        waiting, failed = len(self.account.unconsumed(now() - 2)), now() - self.account.last_fail
        self.tell(f"not steady within {STEADY_S} s: {waiting} messages wait for consumers; last failure {failed:.1f} s ago; "
                  f"without acknowledgement: {', '.join(late) or 'nobody'}")
        return None

    async def round(self, number):
        """Breaks the leader, waits, mends it, waits. Returns the table's row, and whether all became well."""
        await asyncio.sleep(random.uniform(0, 5))  # the next of the producers asks for routes at any moment of that
        leader = await self.leader()
        start = now()
        self.tell(f"round {number}: {FAULTS[self.fault].replace('leader', 'leader ' + leader, 1)}")
        await self.group.hit(self.fault, leader)
        if self.fault in HOLD_S:
            await asyncio.sleep(HOLD_S[self.fault])
            await self.group.mend(self.fault, leader)
            self.tell(f"round {number}: {leader} is let go on, {await self.leader()} leads")
        else:
            self.tell(f"round {number}: {await self.leader()} leads")
        first = await self.steady(start)
        if self.fault not in HOLD_S:
            await self.group.mend(self.fault, leader)
            self.tell(f"round {number}: {leader} started again")
            await asyncio.sleep(3)
        second = await self.steady(now())
        end = now()
        row = {"fault": self.fault, "round": number, "leader": leader, **figures(self.account, start, end)}
        row["steady after s"] = "never" if first is None else first
        self.tell(f"round {number}: well again")
        return row, first is not None and second is not None

    async def all(self):
        """Returns what must not be."""
        self.tell(f"starts a group of {self.args.members}")
        await self.group.up()
        await self.topics()
        self.tell("starts the clients")
        await self.clients()
        self.tasks = [asyncio.create_task(self.listen())]
        self.tasks += [asyncio.create_task(self.ask_offsets(*member)) for member in self.group.members.items()]
        if not await self.until(90, lambda: self.account.steady(now())):
            raise RuntimeError(f"the clients do not work even before a fault; see {self.work}")
        await self.retries_have_a_place()
        before, rows, bad = len([s for s in self.account.sends if s.why]), [], []
        if before:
            self.tell(f"{before} sends failed before the first fault")
        for number in range(1, self.args.rounds + 1):
            row, well = await self.round(number)
            rows.append(row)
            if not well:
                bad.append(f"round {number}: clients were not well again within {STEADY_S} s")
        self.java.stdin.write(b"quiet\n")
        if not await self.until(60, lambda: self.account.quiet):
            bad.append("sends without an end")
        await self.until(30, lambda: not self.account.unconsumed(float("inf")))
        return bad + verdict(self.account, rows, self.args.failed_max)

    async def close(self):
        if self.java:
            if self.java.returncode is None:
                self.java.stdin.close()  # its end is an `end`
                try:
                    await asyncio.wait_for(self.java.wait(), 5)
                except TimeoutError:
                    self.java.kill()
                    await self.java.wait()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.pool.close()
        await self.group.down()

async def one(fault, args):
    """One kind of fault, on a fresh group. Returns whether all that must be was."""
    work = tempfile.mkdtemp(prefix=f"rmq-failover-{fault}.", dir=args.work)
    run, bad = Run(fault, args, work), ["interrupted"]
    try:
        async with asyncio.timeout(180 + args.rounds * 240):
            bad = await run.all()
    except (RuntimeError, OSError) as e:
        bad = [f"{type(e).__name__}: {e}"]
    finally:
        await run.close()
        for text in bad:
            print(f"BROKEN {fault}: {text}")
        if bad:
            print(f"failover: data, logs and events.tsv in {work}", flush=True)
        else:
            shutil.rmtree(work)
    return not bad

def main():
    p = argparse.ArgumentParser(prog="failover", description=__doc__)
    p.add_argument("fault", nargs="*", default=["kill"], choices=[*FAULTS, "all"])
    p.add_argument("--rounds", type=int, default=1)
    p.add_argument("--members", type=int, default=3)
    p.add_argument("--rate", type=int, default=30, help="messages a second of each producer")
    p.add_argument("--failed-max", type=int, help="most failed sends that are fine, for each kind of fault")
    p.add_argument("--work", help="where folders for data and logs are made")
    p.add_argument("--no-network", action="store_true", help="namespaces cannot be made here")
    args = p.parse_args()
    faults = list(FAULTS) if "all" in args.fault else args.fault
    if args.no_network:
        need = [f for f in faults if f in NETWORK]
        if need and "all" not in args.fault or args.members != 3:
            sys.exit("failover: isolate, cut and --members other than 3 need namespaces: root, ip and nsenter")
        if need:
            print(f"{', '.join(need)}: skipped, no namespaces here")
        faults = [f for f in faults if f not in need]
    for s in (signal.SIGTERM, signal.SIGINT):
        signal.signal(s, signal.default_int_handler)
    try:
        good = [asyncio.run(one(fault, args)) for fault in faults]
    except KeyboardInterrupt:
        return 130
    print(f"{sum(good)} passed, {len(good) - sum(good)} failed")
    return 0 if all(good) else 1

if __name__ == "__main__":
    sys.exit(main())
