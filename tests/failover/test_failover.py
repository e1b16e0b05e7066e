"""Everything that must not be is found in a made-up account, and a clean one passes:  python3 -m unittest test_failover"""
import contextlib, io, unittest
import failover


class Made(unittest.TestCase):
    def setUp(self):
        self.account = failover.Account()
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

    def verdict(self, failed_max=None):
        with contextlib.redirect_stdout(io.StringIO()):
            return failover.verdict(self.account, [failover.figures(self.account, 2.0, 5.9)], failed_max)

    def test_clean(self):
        self.assertEqual(self.verdict(failed_max=0), [])

    def test_lost(self):
        self.ack("sync-1", 60, 6.0)
        self.assertIn("acknowledged and not consumed", *self.verdict())

    def test_what_failed_need_not_be_consumed_but_counts(self):
        self.fail("async-1", 0, 3.0)
        self.assertEqual((self.verdict(), self.verdict(failed_max=1)), ([], []))
        self.assertIn("1 sends failed", *self.verdict(failed_max=0))
        row = failover.figures(self.account, 2.0, 5.9)
        self.assertEqual((row["failed sync"], row["failed async"], row["failed ordered"]), (0, 1, 0))

    def test_duplicates_are_told_apart(self):
        self.consumed("concurrent", "sync-1", 7, 6.0)
        self.consumed("concurrent", "sync-1", 8, 6.0, offset=99)
        self.assertEqual(failover.duplicates(self.account), (2, 1))
        self.assertEqual(self.verdict(), [])

    def test_order(self):
        self.ack("ordered-1", 60, 6.0, key="k0")
        self.ack("ordered-1", 62, 6.2, key="k0")
        self.consumed("orderly", "ordered-1", 62, 6.3, key="k0")
        self.consumed("orderly", "ordered-1", 60, 6.4, key="k0")
        self.assertIn("consumed out of order", *self.verdict())

    def test_what_is_delivered_again_or_failed_breaks_no_order(self):
        self.consumed("orderly", "ordered-1", 50, 6.3, key="k0")
        self.fail("ordered-1", 60, 6.0, key="k0")
        self.ack("ordered-1", 62, 6.2, key="k0")
        self.consumed("orderly", "ordered-1", 62, 6.3, key="k0")
        self.consumed("orderly", "ordered-1", 60, 6.4, key="k0")
        self.assertEqual(self.verdict(), [])

    def test_offsets(self):
        key = ("g", "t", 0)
        self.account.offset(key, 1.0, 40, "n0")
        seen = self.account.offsets[key][1]
        self.account.offset(key, seen - 1, 30, "n1")  # asked before the higher one was told
        self.assertEqual(self.verdict(), [])
        self.account.offset(key, seen + 1, 30, "n1")
        self.account.offset(key, seen + 1, None, "n2")
        self.assertEqual([r[4:] for r in self.account.regressed], [(40, 30), (40, -1)])
        self.assertIn("committed offsets went back", *self.verdict())

    def test_gaps(self):
        times = [1.0, 2.0, 2.5, 6.0]
        self.assertEqual(failover.longest_gap(times, 2.2, 7.0), 3.5)
        self.assertEqual(failover.longest_gap(times, 5.0, 6.5), 3.5, "what began before the fault counts")
        self.assertEqual(failover.longest_gap(times, 6.5, 9.0), 3.0, "and what has not ended")

    def test_steady(self):
        for p in failover.PRODUCERS:
            self.ack(p, 100, 9.0)
        self.assertFalse(self.account.steady(12.0), "nobody is acknowledged")
        self.assertFalse(self.account.steady(11.01 + 0.5), "nobody consumes")
        for p in failover.PRODUCERS:
            self.consumed("orderly" if p.startswith("ordered") else "concurrent", p, 100, 9.1)
        self.assertTrue(self.account.steady(10.9))
        self.fail("sync-2", 101, 10.0)
        self.assertFalse(self.account.steady(10.9), "a send has just failed")


if __name__ == "__main__":
    unittest.main()
