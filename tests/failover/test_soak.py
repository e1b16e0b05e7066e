"""What a soak must notice it does notice, in made-up groups, and what is well it leaves alone:  python3 -m unittest test_soak"""
import asyncio, contextlib, io, os, subprocess, tempfile, types, unittest
from collections import Counter, defaultdict
import account, ours, soak, soak_faults, soak_group


def quietly(f, *args):
    with contextlib.redirect_stdout(io.StringIO()):
        result = f(*args)
        return asyncio.run(result) if asyncio.iscoroutine(result) else result


class Node:
    """A member without a process."""

    def __init__(self, name, folder="/nowhere", exit=None):
        self.name, self.addr, self.dir, self.unasked_exit, self.proc, self.started = name, name + ":1", folder, exit, None, 0

    def alive(self):
        return self.unasked_exit is None

    def start(self):
        self.started, self.unasked_exit = self.started + 1, None

    def kill(self):
        self.proc = None

    def tail(self):
        return ["the last line"]

    def segments(self):
        return sorted(os.path.join(self.dir, f) for f in os.listdir(self.dir))


def group(*nodes, told=None):
    """A group of such members, of which each says what `told` has by name."""
    g = object.__new__(soak_group.Group)
    g.c = types.SimpleNamespace(brokers=list(nodes), names=[], group="G")
    g.nodes, g.members, g.asked = list(nodes), {n.name: n for n in nodes}, set()
    g.bad, g.watchdogs, g.fault, g.errors, g.said = account.Some(), 0, "none", defaultdict(int), Counter()

    async def figures(name):
        return told[name]

    g.ask = types.SimpleNamespace(figures=figures)
    return g


class Drawn(unittest.TestCase):
    def first(self, seed, n, faults=tuple(soak_faults.KINDS)):
        return [d for d, _ in zip(soak_faults.draws(seed, faults), range(n))]

    def test_a_seed_is_a_run(self):
        self.assertEqual(self.first(1, 50), self.first(1, 50))
        self.assertNotEqual(self.first(1, 50), self.first(2, 50))

    def test_all_kinds_come_and_no_other(self):
        self.assertEqual({d.fault for d in self.first(1, 200)}, set(soak_faults.KINDS))
        self.assertEqual({d.fault for d in self.first(1, 20, ["kill", "wipe"])}, {"kill", "wipe"})

    def test_all_that_is_drawn_can_be_done(self):
        for d in self.first(3, 300):
            self.assertTrue(callable(getattr(soak_faults.Faults, "do_" + d.fault)))
            lo, hi = soak_faults.KINDS[d.fault].hold
            self.assertTrue(lo <= d.hold <= hi and 0 <= d.much <= 1, d)


class Noticed(unittest.TestCase):
    def test_errors_in_logs(self):
        rows = (("2026 ERROR rmq::raft: the log is damaged", "none", True), ("2026  INFO rmq: fine", "none", False),
                ("thread 'raft' panicked at src/x.rs:1:1:", "disk", True), ("2026  INFO rmq: no ERRORS", "none", False),
                ("2026 ERROR rmq: the raft thread stands still: a disk that hangs, or a fault", "disk", False),
                ("2026 ERROR rmq: the raft thread stands still: a disk that hangs, or a fault", "kill", True))
        for line, fault, bad in rows:
            self.assertEqual(soak_group.complaint(line, fault) is not None, bad, (line, fault))

    def test_a_line_is_read_once_it_is_whole(self):
        with tempfile.NamedTemporaryFile() as f:
            log = soak_group.Log(f.name)
            f.write(b"one\ntw")
            f.flush()
            self.assertEqual(list(log.lines()), ["one"])
            f.write(b"o\nthree\n")
            f.flush()
            self.assertEqual(list(log.lines()), ["two", "three"])

    def test_processes_that_end_by_themselves(self):
        crashed, hung, well = Node("n0", exit=101), Node("n1", exit=soak_group.WATCHDOG), Node("n2")
        g = group(crashed, hung, well)
        quietly(g.revive)
        self.assertEqual((g.watchdogs, len(g.bad), [n.started for n in g.nodes]), (1, 1, [1, 1, 0]))
        self.assertIn("n0 ended by itself (status 101)", g.bad.first[0])

    def test_a_stop_ends_with_status_0(self):
        ready = "echo; while :; do sleep 0.02; done"
        for script, bad in ((f"trap 'exit 0' TERM; {ready}", 0), (f"trap 'exit 3' TERM; {ready}", 1), (ready, 1)):
            node = Node("n0")
            g = group(node)
            node.proc = subprocess.Popen(["bash", "-c", script], start_new_session=True, stdout=subprocess.PIPE)
            with node.proc.stdout as out:
                out.readline()  # it is set up
                quietly(g.term, node)
            self.assertEqual(len(g.bad), bad, (script, g.bad.first))

    def test_leaks(self):
        s = soak_group.Sizes()
        s.look(1, 0, (900, 99, 999))
        s.look(1, 30, (10, 11, 50))
        s.look(1, 60, (11, 12, 60))
        self.assertEqual(s.leaks("n0"), [])
        s.look(1, 90, (300, 40, 400))
        self.assertEqual(s.leaks("n0"), ["n0: MiB went from 10 to 300", "n0: threads went from 11 to 40",
                                         "n0: descriptors went from 50 to 400"])
        s.look(2, 100, (5, 5, 5))
        self.assertEqual(s.leaks("n0"), [], "a new life, of which nothing is known yet")
        self.assertEqual((s.begin, s.most), ((10, 11, 50), (300, 40, 400)))

    def test_a_group_that_is_not_whole(self):
        def its(term="3", leader="n0", lag="0"):
            return {"raftTerm": term, "raftLeader": leader, "raftPeerLagEntries_n1": lag}
        rows = (({"n0": its(), "n1": its()}, None), ({"n0": its(), "n1": {}}, "n1 do not answer"),
                ({"n0": its(), "n1": its(term="4")}, "members name"), ({"n0": its(leader="n0"), "n1": its(leader="n1")}, "members name"),
                ({"n0": its(leader="?"), "n1": its(leader="?")}, "members name"), ({"n0": its(lag="99"), "n1": its()}, "lack entries"),
                ({"n0": its(lag="-1"), "n1": its()}, "lack entries"))
        for told, want in rows:
            why = asyncio.run(group(Node("n0"), Node("n1"), told=told).whole())
            self.assertTrue(why is None if want is None else want in (why or ""), (told, why))

    def test_what_never_is_well_ends_the_run(self):
        s = object.__new__(soak.Soak)
        s.tasks, s.clients, s.account = [], [], account.Account([])
        s.account.steady = lambda t: True
        whole = {"n0": {"raftTerm": "1", "raftLeader": "n0"}}
        s.group = group(Node("n0"), told=whole)
        self.assertLess(asyncio.run(s.well(quiet_s=0)), 5)
        self.assertGreater(asyncio.run(s.well(quiet_s=0.3)), 0.3)
        s.group = group(Node("n0"), told={"n0": {}})
        with self.assertRaisesRegex(RuntimeError, "not well within 0.3 s: n0 do not answer"):
            asyncio.run(s.well(limit=0.3))


class Compared(unittest.TestCase):
    def members(self, *contents):
        """Members whose log files have these bytes, by position: three files of 4 bytes from 0 on."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        nodes = []
        for i, files in enumerate(contents):
            nodes.append(Node(f"n{i}", f"{folder.name}/n{i}"))
            os.makedirs(nodes[-1].dir)
            for base, data in files.items():
                with open(f"{nodes[-1].dir}/{base:020}", "wb") as f:
                    f.write(data)
        return group(*nodes)

    def test_logs(self):
        whole = {0: b"abcd", 4: b"efgh", 8: b"ij\0\0"}
        rows = (((whole, whole), 0, 10, None), ((whole, {**whole, 4: b"efGh"}), 0, 10, 6), ((whole, {**whole, 8: b"ijxx"}), 0, 10, None),
                ((whole, {4: b"efgh", 8: b"ij"}), 4, 10, None), ((whole, {4: b"efgh", 8: b"ij"}), 0, 10, 0),
                ((whole, {0: b"abcd", 8: b"ij"}), 0, 10, 4), ((whole, whole, {**whole, 0: b"Xbcd"}), 0, 10, 0))
        for contents, start, end, want in rows:
            found = self.members(*contents).compare(start, end)
            self.assertEqual(found and found[0], want, contents)


class Ours(unittest.TestCase):
    ACCOUNT = ("1  2  3\naccount\n  time   9.00 s\n  sent    100\n  acknowledged   99\n  given up    1\n  sends that failed, tried again   7\n"
               "  consumed    98\n  lost (acknowledged, never consumed)   2\n  doubled   3\n")

    def test_the_quickstart_s_account(self):
        self.assertEqual(list(ours.account_in(self.ACCOUNT).values()), [100, 99, 1, 7, 98, 2, 3])
        self.assertEqual(ours.account_in("account\n  sent 3\n"), {})
        rust = ours.Rust("x")
        rust.out = "out"
        self.assertIn("no account", *rust.broken())
        rust.figures = ours.account_in(self.ACCOUNT)
        self.assertEqual(len(rust.broken()), 2)
        rust.figures |= {"given up": 0, "lost (acknowledged, never consumed)": 0}
        self.assertEqual(rust.broken(), [])

    def test_damage_is_no_delivery(self):
        a = account.Account([ours.PYTHON])
        python = ours.Python("G", a)
        python.account = types.SimpleNamespace(delivered=lambda *args: None)
        body = ours.wire.body_of("py-plain-1 0 -", 64)
        messages = [(0, 0, body), (0, 1, body[:-1] + b"?")]
        real, ours.wire.messages = ours.wire.messages, lambda data: messages
        try:
            self.assertEqual(python.took(b"", 0, 0), 2)
        finally:
            ours.wire.messages = real
        self.assertEqual(python.damaged, 1)
        self.assertEqual((python.moved(0, 5, 9), python.moved(0, 9, 5)), (9, 9))
        self.assertEqual(python.back.first, [(None, 0, 9, 5)])
        self.assertEqual(len(python.broken()), 2)


if __name__ == "__main__":
    unittest.main()
