"""Breaks the leader of a group, or a name server, while stock clients work, and accounts for what they saw. scripts/failover starts it."""
import argparse, asyncio, random, re, shutil, signal, sys, tempfile

from account import Account, figures, now, table
from clients import GO, JAVA, Running
from group import NAMES, PLANNED, SPACES, Asker, InNamespaces, OnLoopback

FAULTS = {
    "kill": "kill -9 of the leader", "term": "SIGTERM to the leader", "pause": "SIGSTOP of the leader for 5 s",
    "isolate": "leader cut from its peers; clients and the name server still reach it",
    "cut": "leader cut from peers, clients and the name server",
    "names": "kill -9 of the only name server, which is started again 5 s later",
    "name": "kill -9 of one of three name servers",
    "transfer": "leadership of the leader given to another member", "roll": "every member restarted, the leader last",
}
HOLD_S = {"pause": 5, "isolate": 10, "cut": 10, "names": 5}   # how long it lasts; one that ended is started again once all is steady
PROGRAMS = {"java": JAVA, "go": GO}
STEADY_S = 90    # a stale client finds the new leader within 30 s
POLL_S = 32      # the default pollNameServerInterval, and a little
PHASES_S = 60    # clients ask for routes each 30 s and renew queue locks each 20 s: a hit may come at any moment of both

def verdict(account, rows, failed_max=None, pause_max=None):
    """Prints the account of a fault. Returns what must not be."""
    print(table(rows))
    account.tell()
    bad = account.broken()
    if failed_max is not None and account.failed > failed_max:
        bad.append(f"{account.failed} sends failed, --failed-max {failed_max}")
    for row in rows if pause_max is not None else []:
        bad += [f"round {row['round']}: {name} {row[name]:.2f}, --pause-max {pause_max}"
                for name in row if name.endswith((" pause s", " late s")) and row[name] > pause_max]
    return bad

class Run:
    """One group and one set of clients, hit by one kind of fault so many times."""

    def __init__(self, fault, args, work):
        programs = [PROGRAMS[name] for name in args.clients.split(",")]
        self.fault, self.args, self.work, self.account = fault, args, work, Account(programs)
        self.clients, self.ask, self.tasks, self.t0 = [Running(p, self.account) for p in programs], None, [], now()
        spaces = fault in SPACES or args.members != 3
        self.group = InNamespaces(work, args.members, 3 if fault == "name" else 1) if spaces else OnLoopback(work)

    def tell(self, text):
        print(f"{self.fault:8}{now() - self.t0:6.1f} s  {text}", flush=True)

    async def until(self, limit, test):
        end = now() + limit
        while not test():
            for task in self.tasks:
                if task.done() and task.exception():
                    raise task.exception()
            for clients in self.clients:
                clients.check()
            if now() > end:
                return False
            await asyncio.sleep(0.1)
        return True

    async def retries_have_a_place(self):
        """Waits until clients know of a member that takes what the leader does not, as they do in a group that has run for a while:
        followers say so from their start on, 40 s later beside builds that do not tell each other of consumers, and clients ask for
        routes every 30 s."""
        end = now() + 60
        while now() < end:
            slot, leader = await self.ask.slot(), self.group.members[await self.ask.leader()]
            if slot and slot != leader:
                self.tell("a follower takes retries; waits until all clients know")
                await asyncio.sleep(POLL_S)
                return
            await asyncio.sleep(0.5)
        self.tell("no follower takes retries: clients have the leader's address only")

    async def steady(self, since):
        """Waits until all is well. Returns the seconds since then, None when it never was."""
        if await self.until(STEADY_S, lambda: now() > since + 3 and self.account.steady(now())):
            return now() - since
        self.tell(f"not steady within {STEADY_S} s: {self.account.unsteady(now())}")
        return None

    async def round(self, number):
        """Breaks the leader, waits, mends it, waits. Returns the table's row, and whether all became well."""
        await asyncio.sleep(random.uniform(0, PHASES_S))
        leader = await self.ask.leader()
        victim = self.group.name_server(number) if self.fault in NAMES else leader
        start = now()
        self.account.waited.clear()
        hit = re.sub(r"\bleader\b", f"leader {leader}", FAULTS[self.fault], count=1)
        self.tell(f"round {number}: {hit}")
        await self.group.hit(self.fault, victim)
        if self.fault in HOLD_S:
            await asyncio.sleep(HOLD_S[self.fault])
            await self.group.mend(self.fault, victim)
            self.tell(f"round {number}: {victim} is let go on, {await self.ask.leader()} leads")
        else:
            self.tell(f"round {number}: {await self.ask.leader()} leads")
        first = await self.steady(start)
        if self.fault not in {*HOLD_S, *PLANNED}:
            await self.group.mend(self.fault, victim)
            self.tell(f"round {number}: {victim} started again")
            await asyncio.sleep(3)
        second = await self.steady(now())
        end = now()
        row = {"fault": self.fault, "round": number, "leader": leader, **figures(self.account, start, end)}
        row["steady after s"] = "never" if first is None else first
        self.tell(f"round {number}: well again")
        return row, first is not None and second is not None

    async def start(self):
        self.tell(f"starts a group of {self.args.members}")
        await self.group.up()
        self.ask = Asker(self.group.members, self.group.names)
        groups = [(t, c.program.group + name) for c in self.clients for name, t in c.program.consumers.items()]
        await self.ask.make_topics(topic for topic, _ in groups)
        self.tell("starts the clients")
        for clients in self.clients:
            await clients.start(self.group.names, self.args.rate, self.work)
        self.tasks = [asyncio.create_task(self.ask.watch_offsets(m, groups, self.account)) for m in self.group.members]
        if not await self.until(90, lambda: self.account.steady(now())):
            raise RuntimeError(f"the clients do not work even before a fault: {self.account.unsteady(now())}; see {self.work}")

    async def all(self):
        """Returns what must not be."""
        await self.start()
        await self.retries_have_a_place()
        before, rows, bad = self.account.failed, [], []
        if before:
            self.tell(f"{before} sends failed before the first fault")
        for number in range(1, self.args.rounds + 1):
            row, well = await self.round(number)
            rows.append(row)
            if not well:
                bad.append(f"round {number}: clients were not well again within {STEADY_S} s")
        for clients in self.clients:
            clients.hush()
        if not await self.until(60, lambda: all(clients.quiet for clients in self.clients)):
            bad.append("sends without an end")
        await self.until(30, lambda: not self.account.unconsumed())
        return bad + verdict(self.account, rows, self.args.failed_max, self.args.pause_max)

    async def close(self):
        for clients in self.clients:
            await clients.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if self.ask:
            self.ask.close()
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
            print(f"failover: data, logs and events in {work}", flush=True)
        else:
            shutil.rmtree(work)
    return not bad

def main():
    p = argparse.ArgumentParser(prog="failover", description=__doc__)
    p.add_argument("fault", nargs="*", default=["kill"], choices=[*FAULTS, "all"])
    p.add_argument("--rounds", type=int, default=1)
    p.add_argument("--members", type=int, default=3)
    p.add_argument("--rate", type=int, default=30, help="messages a second of each producer")
    p.add_argument("--clients", default="java", help="java, go, or both by comma")
    p.add_argument("--failed-max", type=int, help="most failed sends that are fine, for each kind of fault")
    p.add_argument("--pause-max", type=float, help="longest pause of a consumer, and latest delivery, that is fine, s")
    p.add_argument("--work", help="where folders for data and logs are made")
    p.add_argument("--no-network", action="store_true", help="namespaces cannot be made here")
    args = p.parse_args()
    faults = list(FAULTS) if "all" in args.fault else args.fault
    if unknown := set(args.clients.split(",")) - PROGRAMS.keys():
        sys.exit(f"failover: --clients knows {', '.join(PROGRAMS)}, not {', '.join(sorted(unknown))}")
    if args.no_network:
        need = [f for f in faults if f in SPACES]
        if need and "all" not in args.fault or args.members != 3:
            sys.exit("failover: isolate, cut, name and --members other than 3 need namespaces: root, ip and nsenter")
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
