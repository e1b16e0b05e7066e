"""The client programs: what each one sends and consumes, how it is started, and how it is listened to."""
import asyncio, os
from collections import namedtuple

here = os.path.dirname(os.path.abspath(__file__))
KEPT_BYTES = 64 << 20   # of what a program told, the latest two files of that size are kept

# producers: name -> the consumer that gets what it sends; consumers: name -> topic; argv(names, rate, work).
# A consumer's group is `group` and its name.
Program = namedtuple("Program", "name producers consumers group argv")

def java(names, rate, work):
    lib = here + "/java/target"
    os.makedirs(work + "/home", exist_ok=True)
    return ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Duser.home={work}/home",
            f"-Drocketmq.client.logRoot={work}/client-logs", "-cp", f"{lib}/failover.jar:{lib}/lib/*",
            "failover.Clients", names, str(rate)]

def go(names, rate, work):
    return [here + "/go/target/clients", names, str(rate)]

JAVA = Program("java", {**dict.fromkeys(("sync-1", "sync-2", "sync-3", "async-1", "async-2"), "concurrent"), "ordered-1": "orderly"},
               {"concurrent": "FailoverPlain", "orderly": "FailoverOrdered"}, "FailoverConsumer-", java)
GO = Program("go", {"go-sync-1": "go-concurrent", "go-async-1": "go-concurrent", "go-ordered-1": "go-orderly"},
             {"go-concurrent": "FailoverGoPlain", "go-orderly": "FailoverGoOrdered"}, "FailoverConsumer-", go)

class Running:
    """A program at work, which tells an account."""

    def __init__(self, program, account):
        self.program, self.account, self.quiet, self.proc, self.task = program, account, False, None, None

    async def start(self, names, rate, work):
        self.err = f"{work}/{self.program.name}.err"
        with open(self.err, "wb") as err:
            self.proc = await asyncio.create_subprocess_exec(
                *self.program.argv(names, rate, work), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=err,
                start_new_session=True)   # a Ctrl-C is for who started it
        self.task = asyncio.create_task(self.listen(f"{work}/{self.program.name}.events.tsv"))

    async def listen(self, path):
        events = open(path, "wb")
        try:
            async for line in self.proc.stdout:
                if events.tell() > KEPT_BYTES:
                    events.close()
                    os.replace(path, path + ".before")
                    events = open(path, "wb")
                events.write(line)
                if line == b"quiet\n":
                    self.quiet = True
                else:
                    self.account.line(line.decode())
        finally:
            events.close()

    def check(self):
        """Raises when it ended, or told what cannot be."""
        if self.task.done() and self.task.exception():
            raise self.task.exception()
        if self.proc.returncode is not None or self.task.done():
            raise RuntimeError(f"the {self.program.name} clients ended (status {self.proc.returncode}); see {self.err}")

    def hush(self):
        """Producers send no more; `quiet` is true once each send had its end."""
        if self.proc.returncode is None:
            self.proc.stdin.write(b"quiet\n")

    gone = property(lambda self: self.proc is None or self.proc.returncode is not None)

    async def close(self):
        if self.proc and self.proc.returncode is None:
            self.proc.stdin.close()  # its end is an `end`
            try:
                await asyncio.wait_for(self.proc.wait(), 5)
            except TimeoutError:
                self.proc.kill()
                await self.proc.wait()
        if self.task:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
