"""Client kinds that are ours: the fault kit's, in this process, and the quickstart's, which gives an account of its own."""
import asyncio, os, re, signal

from account import Some, now
from clients import Program
from group import NET_ERRORS, QUEUES, wire

KEYS, PULLED = 12, "PyPull"
PYTHON = Program("python", {"py-plain-1": "py-pull", "py-ordered-1": "py-pull"}, {"py-pull": "FailoverPy"}, "FailoverConsumer-", None)

class Python:
    """A producer without keys, one with, a consumer: one try each, at the leader that a name server names, which is asked twice a second.
    Bodies carry a checksum."""

    gone = False

    def __init__(self, group, account):
        self.program, self.group, self.account, self.quiet, self.hushed = PYTHON, group, account, False, False
        self.leader, self.tasks, self.pools, self.damaged, self.back = None, [], [], 0, Some()

    def pool(self):
        self.pools.append(wire.Pool())
        return self.pools[-1]

    async def start(self, names, rate, _work):
        self.names, [self.topic] = names.split(";"), PYTHON.consumers.values()
        producers = [self.produce(name, rate) for name in PYTHON.producers]
        self.producing = [asyncio.create_task(job) for job in producers]
        self.tasks = [*self.producing, *(asyncio.create_task(job) for job in (self.route(), self.consume()))]

    async def route(self):
        """One name server at a time, the next one when it fails."""
        pool, i = self.pool(), 0
        while True:
            try:
                args = {"topic": self.topic, "acceptStandardJsonOnly": "true"}
                r = await pool.call(self.names[i % len(self.names)], wire.ROUTE, args, timeout=0.5)
                if r.code == wire.OK:
                    self.leader = wire.master_of(r.body, self.group)
            except NET_ERRORS:
                i += 1
            await asyncio.sleep(0.5)

    async def produce(self, name, rate):
        pool, ordered, n = self.pool(), "ordered" in name, 0
        while not (self.leader or self.hushed):
            await asyncio.sleep(0.05)
        due = now()
        while not self.hushed:
            key, sent, why = f"k{n % KEYS}" if ordered else "-", now(), None
            uid = f"{name} {n} {key}"
            try:
                if self.leader is None:
                    raise ConnectionError("no leader in the route")
                args = wire.send_args(self.topic, (n % KEYS if ordered else n) % QUEUES, "py", uid.replace(" ", "/"))
                r = await pool.call(self.leader, wire.SEND_V2, args, wire.body_of(uid, 200), timeout=3.0)
                why = None if r.code == wire.OK else f"code {r.code}: {r.remark}"
            except NET_ERRORS as e:
                why = f"{type(e).__name__}: {e}"
            self.account.ended(name, n, key, sent, now(), why)
            n, due = n + 1, max(due + 1 / rate, now())
            await asyncio.sleep(max(due - now(), 0.05 if why else 0))

    async def consume(self):
        """Pulls each queue in turn, commits once a second how far it is."""
        pool, at, committed = self.pool(), [0] * QUEUES, now()
        while True:
            idle = True
            for q in range(QUEUES):
                try:
                    r = await pool.call(self.leader or "", wire.PULL, wire.pull_args(self.topic, q, at[q], self.group_name()), timeout=1.0)
                except NET_ERRORS:
                    continue
                if r.code == wire.OK and r.body:
                    idle, at[q] = False, self.took(r.body, q, at[q])
                elif r.code == wire.PULL_MOVED:
                    at[q] = self.moved(q, at[q], int(r.ext.get("nextBeginOffset", at[q])))
            if now() > committed + 1:
                committed = now()
                await self.commit(pool, at)
            await asyncio.sleep(0.05 if idle else 0)

    def moved(self, queue, at, to):
        """A member says that there is nothing at `at`: on to what is retained, never back to what was consumed."""
        if to < at:
            self.back.add((self.leader, queue, at, to))
        return max(at, to)

    def group_name(self):
        return PYTHON.group + "py-pull"

    def took(self, body, queue, at):
        for _, offset, content in wire.messages(body):
            if uid := wire.uid_of(content):
                name, number, key = uid.split()
                self.account.delivered("py-pull", name, int(number), key, now(), f"{self.group}/{queue}/{offset}")
            else:
                self.damaged += 1
            at = offset + 1
        return at

    async def commit(self, pool, at):
        for q, offset in enumerate(at):
            args = {"consumerGroup": self.group_name(), "topic": self.topic, "queueId": q, "commitOffset": offset}
            try:
                await pool.call(self.leader or "", wire.UPDATE_OFFSET, args, timeout=1.0)
            except NET_ERRORS:
                return

    def hush(self):
        self.hushed = True
        asyncio.gather(*self.producing, return_exceptions=True).add_done_callback(lambda _: setattr(self, "quiet", True))

    def check(self):
        for task in self.tasks:
            if task.done() and not task.cancelled() and task.exception():
                raise task.exception()

    def broken(self):
        of = ((self.damaged, "damaged messages were served"), (len(self.back), f"times a consumer was told to go back, e.g. {self.back.first}"))
        return [f"python: {n} {text}" for n, text in of if n]

    async def close(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for pool in self.pools:
            pool.close()

class Rust:
    """`rmq-quickstart demo`: tries each message again until it is acknowledged, and says at its end what became of them."""
    program = Program("rust", {}, {}, "", None)
    ROWS = ("sent", "acknowledged", "given up", "sends that failed, tried again", "consumed", "lost (acknowledged, never consumed)",
            "doubled")

    def __init__(self, binary):
        self.binary, self.proc, self.quiet, self.figures = binary, None, False, {}

    async def start(self, names, rate, work):
        self.out, self.task = f"{work}/rust.out", None
        with open(self.out, "wb") as out:
            self.proc = await asyncio.create_subprocess_exec(
                self.binary, "demo", "-n", names, "-t", "FailoverRust", "--rate", str(2 * rate), "--seconds", str(10**7), "--size", "200",
                "--give-up-s", "90",
                stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)

    def check(self):
        if self.proc.returncode is not None and not self.task:
            raise RuntimeError(f"the rust clients ended (status {self.proc.returncode}); see {self.out}")

    gone = property(lambda self: self.proc is None or self.proc.returncode is not None and self.task is None)

    def hush(self):
        self.task = asyncio.create_task(self.end())

    async def end(self):
        if self.proc.returncode is None:
            self.proc.send_signal(signal.SIGINT)
        try:
            await asyncio.wait_for(self.proc.wait(), 60)
        except TimeoutError:
            self.proc.kill()
            await self.proc.wait()
        with open(self.out, errors="replace") as f:
            self.figures = account_in(f.read())
        self.quiet = True

    def broken(self):
        if not self.figures:
            return [f"the rust clients gave no account; see {self.out}"]
        of = (("lost (acknowledged, never consumed)", "acknowledged and not consumed"), ("given up", "given up after 90 s"))
        return [f"rust: {self.figures[row]} messages {text}" for row, text in of if self.figures[row]]

    async def close(self):
        if self.proc and self.proc.returncode is None:
            self.proc.kill()
            await self.proc.wait()
        if self.proc and self.task:
            await asyncio.gather(self.task, return_exceptions=True)

def account_in(text):
    """The figures of the account at the end of what a quickstart printed; empty when one is missing."""
    _, _, account = text.rpartition("account\n")
    found = {row: re.search(rf"^  {re.escape(row)} +(\d+)$", account, re.M) for row in Rust.ROWS}
    return {row: int(m[1]) for row, m in found.items()} if all(found.values()) else {}

def rss_mib(pid):
    """(MiB of its own memory, threads, open descriptors) of a process; None when it is gone."""
    try:
        with open(f"/proc/{pid}/status") as f:
            status = dict(line.split(":", 1) for line in f if ":" in line)
        return int(status["RssAnon"].split()[0]) // 1024, int(status["Threads"]), len(os.listdir(f"/proc/{pid}/fd"))
    except (OSError, KeyError):
        return None
