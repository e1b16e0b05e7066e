"""Everything that must not be is found in a made-up account, and a clean one passes:  python3 -m unittest test_failover"""
import contextlib, io, unittest
import account, failover
from clients import GO, JAVA


class Made(unittest.TestCase):
    def setUp(self):
        self.account = account.Account([JAVA, GO])
        for n in range(60):
            self.ack("sync-1", n, n / 10)
            self.ack("ordered-1", n, n / 10, key=f"k{n % 2}")
            self.consumed("concurrent", "sync-1", n, n / 10 + 0.1)
            self.consumed("orderly", "ordered-1", n, n / 10 + 0.1, key=f"k{n % 2}")

    def ack(self, producer, n, at, key="-", took=0.01):
        self.account.line(f"ack\t{producer}\t{n}\t{key}\t{at * 1000:.0f}\t{(at + took) * 1000:.0f}\n")

    def fail(self, producer, n, at, key="-"):
        self.account.line(f"fail\t{producer}\t{n}\t{key}\t{at * 1000:.0f}\t{at * 1000 + 20:.0f}\tSomeException: why\n")

    def consumed(self, consumer, producer, n, at, key="-", offset=None):
        where = f"G/0/{n if offset is None else offset}"
        self.account.line(f"consumed\t{consumer}\t{producer}\t{n}\t{key}\t{at * 1000:.0f}\t{where}\n")

    def verdict(self, **limits):
        with contextlib.redirect_stdout(io.StringIO()):
            return failover.verdict(self.account, [{"round": 1, **account.figures(self.account, 2.0, 5.9)}], **limits)

    def test_clean(self):
        self.assertEqual(self.verdict(failed_max=0), [])
        self.assertEqual((self.account.acked, self.account.failed, self.account.consumed), (120, 0, 120))

    def test_lost(self):
        self.ack("sync-1", 60, 6.0)
        self.assertIn("acknowledged and not consumed", *self.verdict())

    def test_what_is_consumed_before_its_acknowledgement_is_told_is_not_lost(self):
        self.consumed("concurrent", "sync-1", 60, 6.0)
        self.ack("sync-1", 60, 6.0)
        self.assertEqual(self.verdict(), [])

    def test_what_failed_need_not_be_consumed_but_counts(self):
        self.fail("async-1", 0, 3.0)
        self.assertEqual((self.verdict(), self.verdict(failed_max=1)), ([], []))
        self.assertIn("1 sends failed", *self.verdict(failed_max=0))
        row = account.figures(self.account, 2.0, 5.9)
        self.assertEqual((row["failed sync"], row["failed async"], row["failed ordered"], row["failed go-async"]), (0, 1, 0, 0))

    def test_failures_are_counted_by_fault_and_kind(self):
        self.account.fault = "kill leader"
        self.fail("go-sync-1", 0, 3.0)
        self.fail("go-sync-1", 1, 3.1)
        self.consumed("go-concurrent", "go-sync-1", 1, 3.2)
        self.assertEqual(self.account.failed_by, {"kill leader": {"go-sync": 2}})
        self.assertEqual(self.account.failed_and_stored, 1)
        self.assertEqual(self.account.reasons, {"SomeException: why": 2})

    def test_duplicates_are_told_apart(self):
        self.consumed("concurrent", "sync-1", 7, 6.0)
        self.consumed("concurrent", "sync-1", 8, 6.0, offset=99)
        self.assertEqual((self.account.again, self.account.stored_again), (2, 1))
        self.assertEqual(self.account.twice_by, {"none": 1})
        self.assertEqual(self.verdict(), [])

    def test_order(self):
        self.ack("ordered-1", 60, 6.0, key="k0")
        self.ack("ordered-1", 62, 6.2, key="k0")
        self.consumed("orderly", "ordered-1", 62, 6.3, key="k0")
        self.consumed("orderly", "ordered-1", 60, 6.4, key="k0")
        self.assertIn("consumed out of order", *self.verdict())

    def test_order_when_deliveries_are_told_before_acknowledgements(self):
        self.consumed("orderly", "ordered-1", 62, 6.3, key="k0")
        self.consumed("orderly", "ordered-1", 60, 6.4, key="k0")
        self.ack("ordered-1", 60, 6.0, key="k0")
        self.assertEqual(self.verdict(), [])
        self.ack("ordered-1", 62, 6.2, key="k0")
        self.assertIn("consumed out of order", *self.verdict())

    def test_order_of_a_key_is_that_of_its_producer(self):
        self.ack("go-ordered-1", 0, 6.0, key="k0")
        self.consumed("go-orderly", "go-ordered-1", 0, 6.1, key="k0")
        self.assertEqual(self.verdict(), [])

    def test_what_is_delivered_again_or_failed_breaks_no_order(self):
        self.consumed("orderly", "ordered-1", 50, 6.3, key="k0")
        self.fail("ordered-1", 60, 6.0, key="k0")
        self.ack("ordered-1", 62, 6.2, key="k0")
        self.consumed("orderly", "ordered-1", 62, 6.3, key="k0")
        self.consumed("orderly", "ordered-1", 60, 6.4, key="k0")
        self.assertEqual(self.verdict(), [])

    def test_who_reads_a_topic_gets_no_other(self):
        self.ack("go-sync-1", 0, 6.0)
        self.consumed("concurrent", "go-sync-1", 0, 6.1)
        self.assertIn("consumed by who reads another topic", *self.verdict())

    def test_what_nobody_understands_ends_the_run(self):
        for text in ("ack\tsync-1\tx\t-\t1\t2", "ack\tnobody-1\t0\t-\t1\t2", "what\n", "ack\tsync-1\t999999999\t-\t1\t2",
                     "ack\tsync-1\t-1\t-\t1\t2"):
            self.assertRaises(RuntimeError, self.account.line, text)

    def test_offsets(self):
        key = ("g", "t", 0)
        self.account.offset(key, 1.0, 40, "n0")
        seen = self.account.offsets[key][1]
        self.account.offset(key, seen - 1, 30, "n1")  # asked before the higher one was told
        self.assertEqual(self.verdict(), [])
        self.account.offset(key, seen + 1, 30, "n1")
        self.account.offset(key, seen + 1, None, "n2")
        self.assertEqual([r[-2:] for r in self.account.regressed.first], [(40, 30), (40, -1)])
        self.assertIn("committed offsets went back", *self.verdict())

    def test_how_long_a_message_waited(self):
        self.ack("sync-1", 60, 6.0, took=0.5)
        self.consumed("concurrent", "sync-1", 60, 9.0)
        self.assertAlmostEqual(self.account.waited["concurrent"], 2.5)

    def test_pauses_and_late_deliveries_fail_where_a_limit_is_set(self):
        for consumer in ("go-concurrent", "go-orderly"):
            self.account.times[consumer] = self.account.times["concurrent"]
        self.assertEqual(self.verdict(pause_max=0.2), [])
        self.ack("sync-1", 60, 5.0)
        self.consumed("concurrent", "sync-1", 60, 5.7)  # of a queue that waited, while others went on
        self.assertEqual(self.verdict(), [])
        self.assertIn("round 1: concurrent late s 0.69, --pause-max 0.2", self.verdict(pause_max=0.2))
        self.account.times["orderly"] = [2.0, 5.0]
        self.assertIn("round 1: orderly pause s 3.00, --pause-max 0.2", self.verdict(pause_max=0.2))

    def test_what_99_of_100_sends_took_leaves_out_the_slowest(self):
        for n in range(60, 140):
            self.ack("sync-1", n, 3.0, took=0.5 if n == 60 else 0.02)
        row = account.figures(self.account, 2.0, 5.9)
        self.assertAlmostEqual(row["99 % acked in s"], 0.02)
        self.assertAlmostEqual(row["slowest ack s"], 0.5)

    def test_gaps(self):
        times = [1.0, 2.0, 2.5, 6.0]
        self.assertEqual(account.longest_gap(times, 2.2, 7.0), 3.5)
        self.assertEqual(account.longest_gap(times, 5.0, 6.5), 3.5, "what began before the fault counts")
        self.assertEqual(account.longest_gap(times, 6.5, 9.0), 3.0, "and what has not ended")

    def test_steady(self):
        producers = self.account.producers
        for p in producers:
            self.ack(p, 100, 9.0)
        self.assertFalse(self.account.steady(12.0), "nobody is acknowledged")
        self.assertFalse(self.account.steady(11.01 + 0.5), "nobody consumes")
        for p in producers:
            self.consumed(producers[p].consumer, p, 100, 9.1)
        self.assertTrue(self.account.steady(10.9))
        self.fail("sync-2", 101, 10.0)
        self.assertFalse(self.account.steady(10.9), "a send has just failed")
        self.assertIn("last failure 0.9 s ago", self.account.unsteady(10.9))

    def test_history_is_let_go_and_sums_stay(self):
        tried = self.account.sums["sync"].tried
        self.account.forget(100.0)
        self.assertEqual((len(self.account.sends), len(self.account.times["orderly"])), (0, 0))
        self.assertEqual(self.account.sums["sync"].tried, tried)
        self.consumed("concurrent", "sync-1", 7, 101.0)
        self.assertEqual(self.account.again, 1, "and what was consumed long ago is known")


if __name__ == "__main__":
    unittest.main()
