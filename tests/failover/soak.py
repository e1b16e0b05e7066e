"""Hits a group with faults at random while clients of all kinds work, for hours if need be, and accounts for it. scripts/soak starts it."""
import argparse, asyncio, os, shutil, signal, sys, tempfile, time
from collections import defaultdict

from account import Account, figures, now, table
from clients import GO, JAVA, Running
from ours import PYTHON, Python, Rust, rss_mib
from soak_faults import ILL, KINDS, SPACES, Faults, draws
from soak_group import Group

WELL_S = 90        # all is well again so long after a fault is over, or a promise is broken
QUIET_S = 3        # it is looked that long whether what is over has consequences
HISTORY_S = 300    # what is known of single sends and deliveries
TABLE_S = 300
PROGRAMS = {"java": JAVA, "go": GO, "python": PYTHON}

class Soak:
    def __init__(self, args, faults, work):
        self.args, self.faults, self.work, self.t0 = args, faults, work, now()
        kinds = args.clients.split(",")
        self.account = Account([PROGRAMS[k] for k in kinds if k in PROGRAMS])
        self.group = Group(work, not args.no_network, not args.no_cc)
        self.rust = Rust(os.environ["RMQ_BIN"] + "/rmq-quickstart") if "rust" in kinds else None
        self.python = Python(self.group.c.group, self.account) if "python" in kinds else None
        self.clients = [Running(PROGRAMS[k], self.account) for k in kinds if k in ("java", "go")]
        self.clients += [c for c in (self.python, self.rust) if c]
        self.tasks, self.enough, self.hits, self.took = [], asyncio.Event(), 0, defaultdict(list)

    def tell(self, text):
        s = now() - self.t0
        print(f"{int(s) // 3600}:{int(s) % 3600 // 60:02}:{s % 60:04.1f}  {text}", flush=True)

    def check(self):
        for task in self.tasks:
            if task.done() and not task.cancelled() and task.exception():
                raise task.exception()
        for clients in self.clients:
            clients.check()

    async def until(self, limit, test):
        end = now() + limit
        while not test():
            self.check()
            if now() > end:
                return False
            await asyncio.sleep(0.1)
        return True

    async def well(self, since=None, limit=WELL_S, quiet_s=QUIET_S):
        """Waits until group and clients are, and nothing fails. Returns the seconds since then; raises when they never are."""
        since = now() if since is None else since
        why = "nothing was asked"
        while now() < since + limit:
            self.check()
            steady = self.account.steady(now())
            why = await self.group.whole() or (None if steady else self.account.unsteady(now()))
            if why is None and now() > since + quiet_s:
                return now() - since
            await asyncio.sleep(0.2)
        raise RuntimeError(f"not well within {limit} s: {why}")

    # ---- from the start to the end

    async def start(self):
        self.tell(f"three members serve after {await self.group.up():.1f} s")
        groups = [(t, p.group + name) for p in (c.program for c in self.clients) for name, t in p.consumers.items()]
        await self.group.ask.make_topics(topic for topic, _ in groups)
        for clients in self.clients:
            await clients.start(self.group.names, self.args.rate, self.work)
        self.tasks = [asyncio.create_task(self.group.ask.watch_offsets(m, groups, self.account)) for m in self.group.members]
        self.tasks += [asyncio.create_task(job) for job in (self.group.watch(), self.tables())]
        self.tell(f"clients of all kinds work after {await self.well(limit=120):.1f} s")

    async def tables(self):
        every = min(TABLE_S, max(60, self.args.minutes * 20))
        while True:
            await asyncio.sleep(every)
            self.account.forget(now() - HISTORY_S)
            self.tell(self.state())

    def state(self):
        """The short table: what clients did, what processes take."""
        a, sizes = self.account, {n: s.last for n, s in self.group.sizes.items() if s.last}
        text = (f"{a.acked} acknowledged, {a.failed} failed, {a.consumed} consumed, {len(a.waiting)} wait, {a.again} twice; "
                f"{self.hits} faults; disk {sum(map(self.group.disk_bytes, self.group.c.brokers)) >> 20} MiB")
        rows = [{"process": n, "MiB": m, "threads": t, "descriptors": f} for n, (m, t, f) in sizes.items()]
        own = rss_mib(os.getpid())
        rows.append({"process": "this", "MiB": own[0], "threads": own[1], "descriptors": own[2]})
        return text + "\n" + table(rows)

    async def hit(self, draw, faults):
        """One fault, until all is well again, and its line."""
        await asyncio.sleep(draw.pause)
        label = f"{draw.fault} {draw.target}"
        self.account.fault, self.group.fault = label, draw.fault
        self.account.waited.clear()
        start, before = now(), {k: s.failed for k, s in self.account.sums.items()}
        self.group.look()
        self.hits += 1
        try:
            async with asyncio.timeout(WELL_S * 5):
                what, mended = await faults.do(draw)
        except TimeoutError:
            raise RuntimeError(f"fault {draw.number} ({label}) had no end") from None
        try:
            took = await self.well(mended)
        except RuntimeError as e:
            raise RuntimeError(f"after fault {draw.number} ({label}: {what}): {e}") from None
        self.took[label].append(took)
        no_ack = figures(self.account, start, now())["no ack for s"]
        failed = ", ".join(f"{k} {s.failed - before[k]}" for k, s in self.account.sums.items() if s.failed > before[k])
        [(who, waited)] = self.account.waited.most_common(1) or [("nobody", 0.0)]
        self.tell(f"fault {draw.number} {label}: {what}, for {mended - start:.1f} s; well {took:.1f} s after that; "
                  f"no acknowledgement for {no_ack:.1f} s, a message waited {waited:.1f} s for {who}; failed: {failed or 'none'}")

    async def soak(self):
        faults, end = Faults(self.group, self.well), self.t0 + 60 * self.args.minutes
        for draw in draws(self.args.seed, self.faults):
            if now() + draw.pause > end or self.enough.is_set():
                return
            await self.hit(draw, faults)
            self.check()

    async def all(self):
        """Returns what must not be."""
        bad = []
        try:
            await self.start()
            await self.soak()
        except RuntimeError as e:
            bad.append(str(e))
            self.tell(f"BROKEN {e}")
        self.account.fault = "the end"
        return bad + await self.end()

    async def end(self):
        """Lets what is under way come to its end, then stops all and compares. Returns what must not be."""
        bad = []
        self.tell("producers stop; what is under way is awaited")
        working = [clients for clients in self.clients if not clients.gone]
        for clients in working:
            clients.hush()
        if not await self.quietly(100, lambda: all(clients.quiet or clients.gone for clients in working)):
            bad.append(f"without an end: {', '.join(c.program.name for c in working if not c.quiet)}")
        await self.quietly(30, lambda: not self.account.unconsumed())
        state = self.state()
        for clients in self.clients:
            await clients.close()
        common = await self.group.settled()
        kept = [self.group.disk_bytes(n) for n in self.group.c.brokers]
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        stopped = await self.group.stop()
        self.group.read_logs()
        self.tell(f"all processes have stopped, the last one after {stopped:.1f} s")
        if common is None:
            bad.append("members' logs have not the same end 30 s after the last message")
        elif differs := self.group.compare(*common):
            bad.append(f"members' logs differ at byte {differs[0]} ({differs[1]}), of {common[0]} to {common[1]}")
        self.report(state, common, kept)
        own = [text for clients in (self.python, self.rust) if clients for text in clients.broken()]
        leaks = [text for name, s in self.group.sizes.items() for text in s.leaks(name)]
        said = [f"{self.group.bad.count} times, e.g. {self.group.bad.first}"] if self.group.bad else []
        return [*bad, *self.account.broken(), *own, *leaks, *said]

    async def quietly(self, limit, test):
        """As `until`, whatever clients do."""
        end = now() + limit
        while not test() and now() < end:
            await asyncio.sleep(0.1)
        return test()

    # ---- the account

    def report(self, state, common, kept):
        account = self.account
        print(f"\naccount of {(now() - self.t0) / 60:.1f} minutes, --seed {self.args.seed}, {self.hits} faults")
        rows = []
        for label in dict.fromkeys([*self.took, *account.failed_by, *account.twice_by]):
            took, failed = sorted(self.took.get(label, [])), account.failed_by.get(label, {})
            rows.append({"fault": label, "times": len(took), "well after s, median": took[len(took) // 2] if took else "-",
                         "most": took[-1] if took else "-", **{k: failed.get(k, 0) for k in account.kinds}, "stored twice": account.twice_by[label]})
        if rows:
            print("failed sends by fault and kind of producer, and messages of all kinds that were stored twice:\n" + table(rows))
        account.tell()
        if self.rust and self.rust.figures:
            print("rust (tries again): " + ", ".join(f"{n} {what}" for what, n in self.rust.figures.items()))
        print(state.split("\n")[0])
        rows = []
        for name, s in self.group.sizes.items():
            if s.begin:
                rows.append({"process": name, **{f"{what} {when}": value for i, what in enumerate(("MiB", "threads", "descriptors"))
                                                 for when, value in (("first", s.begin[i]), ("most", s.most[i]), ("last", s.last[i]))}})
        if rows:
            print(table(rows))
        if common:
            print(f"members' logs: bytes {common[0]} to {common[1]} compared; on disk {', '.join(f'{n >> 20} MiB' for n in kept)}")
        print(f"ended by a watchdog: {self.group.watchdogs}; warnings and errors in logs:")
        for text, n in self.group.said.most_common(12):
            print(f"  {n:5} x {text}")

    async def close(self):
        for clients in self.clients:
            await clients.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.group.close()

async def run(args, faults, work):
    soak, loop, main = Soak(args, faults, work), asyncio.get_running_loop(), asyncio.current_task()

    def interrupted():
        """The first time: an end with an account. The second time: an end."""
        if soak.enough.is_set():
            main.cancel()
        else:
            soak.enough.set()
            soak.tell("interrupted: ends after this fault, with an account; once more ends it at once")

    for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(s, interrupted)
    try:
        async with asyncio.timeout(args.minutes * 60 + 1200):
            return await soak.all()
    finally:
        await soak.close()

def chosen(args):
    """The kinds of faults that can be made here; says which cannot."""
    faults = args.faults.split(",") if args.faults else list(KINDS)
    if unknown := [f for f in faults if f not in KINDS]:
        sys.exit(f"soak: no fault {', '.join(unknown)}; there are " + ", ".join(f"{k} ({v.text})" for k, v in KINDS.items()))
    lacks = {what for what, no in ((SPACES, args.no_network), (ILL, args.no_cc)) if no}
    skipped = [f for f in faults if KINDS[f].needs in lacks]
    if skipped:
        print(f"soak: without {', '.join(skipped)}: {SPACES} need root, ip and nsenter, {ILL} needs cc")
    if not (able := [f for f in faults if f not in skipped]):
        sys.exit("soak: no fault is left")
    return able

def main():
    p = argparse.ArgumentParser(prog="soak", description=__doc__)
    p.add_argument("minutes", nargs="?", type=float, default=60)
    p.add_argument("--seed", type=int, help="of a run that is to be done again")
    p.add_argument("--faults", help="kinds of faults, by comma: " + ", ".join(KINDS))
    p.add_argument("--clients", default="java,go,python,rust")
    p.add_argument("--rate", type=int, default=10, help="messages a second of each producer")
    p.add_argument("--work", help="where a folder for data and logs is made")
    p.add_argument("--keep", action="store_true", help="keep it, whatever comes out")
    p.add_argument("--no-network", action="store_true", help="namespaces cannot be made here")
    p.add_argument("--no-cc", action="store_true", help="there is no C compiler here")
    args = p.parse_args()
    if args.seed is None:
        args.seed = int(time.time()) % 1_000_000
    faults = chosen(args)
    if not set(args.clients.split(",")) & PROGRAMS.keys():
        sys.exit(f"soak: --clients needs one of {', '.join(PROGRAMS)}")
    work = tempfile.mkdtemp(prefix="rmq-soak.", dir=args.work)
    print(f"soak: {args.minutes:g} minutes, --seed {args.seed}, --faults {','.join(faults)}, --clients {args.clients}, "
          f"--rate {args.rate}; data and logs in {work}", flush=True)
    try:
        bad = asyncio.run(run(args, faults, work))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print(f"soak: interrupted, without an account; data and logs in {work}")
        return 130
    except (RuntimeError, OSError) as e:
        bad = [f"{type(e).__name__}: {e}"]
    for text in bad:
        print(f"BROKEN {text}")
    if bad or args.keep:
        print(f"soak: data and logs in {work}")
    else:
        shutil.rmtree(work)
    print(f"soak: {'broken' if bad else 'all promises kept'}, --seed {args.seed}", flush=True)
    return 1 if bad else 0

if __name__ == "__main__":
    sys.exit(main())
