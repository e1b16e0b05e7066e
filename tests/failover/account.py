"""What clients tell of their sends and deliveries, added up as it comes.

A message costs one byte for ever: whether it was acknowledged, failed, and consumed. All else is what is under way, sums, and the
latest history, so that an account of hours is as good as one of a minute.
"""
import re, time
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple

now = time.monotonic  # the clock that Java's System.nanoTime() reads on Linux
ACKED, FAILED, CONSUMED = 1, 2, 4
PLACES = 100_000      # of so many messages, the latest, it is known where they were stored
AHEAD = 1_000_000     # no producer leaves out so many numbers
REASONS = 200         # so many different texts of failures are told apart

Send = namedtuple("Send", "uid kind key number sent done why")   # why: None when acknowledged

class Some:
    """How many there were, and the first few."""

    def __init__(self, keep=5):
        self.count, self.first, self.keep = 0, [], keep

    def add(self, what):
        self.count += 1
        if len(self.first) < self.keep:
            self.first.append(what)

    def __len__(self):
        return self.count

class Sum:
    """Of the sends of a kind of producer."""

    def __init__(self):
        self.acked = self.failed = 0
        self.slowest_ack = self.slowest_fail = 0.0

    tried = property(lambda self: self.acked + self.failed)

    def add(self, send):
        if send.why is None:
            self.acked, self.slowest_ack = self.acked + 1, max(self.slowest_ack, send.done - send.sent)
        else:
            self.failed, self.slowest_fail = self.failed + 1, max(self.slowest_fail, send.done - send.sent)

class Producer:
    def __init__(self, kind, consumer):
        self.kind, self.consumer, self.last_ack, self.fates = kind, consumer, 0.0, bytearray()

    def mark(self, number, fate):
        """Adds to what is known of a message. Returns what was known before."""
        if not 0 <= number < len(self.fates) + AHEAD:
            raise RuntimeError(f"message {number} of {self.kind}, which has sent {len(self.fates)}")
        if number >= len(self.fates):
            self.fates.extend(bytes(number + 1 - len(self.fates)))
        before = self.fates[number]
        self.fates[number] = before | fate
        return before

class Order:
    """Of the messages of a key: first deliveries, in turn, judged once it is known whether they were acknowledged."""

    def __init__(self):
        self.undecided, self.last = deque(), (-1,)

    def decide(self, fates):
        """Yields those that were consumed after a later one of the key; what failed has no place in the order."""
        while self.undecided and fates[self.undecided[0][0]] & (ACKED | FAILED):
            number, where = self.undecided.popleft()
            if fates[number] & ACKED:
                if number < self.last[0]:
                    yield number, where, "after", *self.last
                else:
                    self.last = number, where

class Account:
    """All that happened, by the clients' word, and the consumers' offsets, by the brokers'. `programs`: see clients.py."""

    def __init__(self, programs):
        self.producers = {p: Producer(kind_of(p), c) for program in programs for p, c in program.producers.items()}
        self.kinds = list(dict.fromkeys(p.kind for p in self.producers.values()))
        self.sums = {kind: Sum() for kind in self.kinds}
        self.waiting = {}                                # acknowledged and not consumed, by uid
        self.waited = Counter()                          # longest time, by consumer, from acknowledgement to delivery; cleared by round
        self.sends, self.times = deque(), {c: deque() for program in programs for c in program.consumers}  # the latest
        self.last_fail, self.reasons = 0.0, Counter()
        self.fault, self.failed_by = "none", defaultdict(Counter)   # failed sends, by fault and kind
        self.orders, self.disorder = defaultdict(Order), Some()
        self.places, self.again, self.stored_again, self.failed_and_stored = OrderedDict(), 0, 0, 0
        self.twice_by = Counter()                        # stored again, by fault
        self.consumed, self.strange = 0, Some()
        self.offsets, self.regressed = {}, Some()        # (group, topic, queue) -> highest answer

    def line(self, text):
        what, *f = text.rstrip("\n").split("\t")
        try:
            if what in ("ack", "fail"):
                self.ended(f[0], int(f[1]), f[2], int(f[3]) / 1000, int(f[4]) / 1000, f[5] if what == "fail" else None)
            elif what == "consumed":
                self.delivered(f[0], f[1], int(f[2]), f[3], int(f[4]) / 1000, f[5])
            else:
                raise ValueError
        except (ValueError, IndexError, KeyError):
            raise RuntimeError(f"a client told what nobody understands: {text!r}") from None

    def ended(self, name, number, key, sent, done, why=None):
        """A send was acknowledged, or failed as the application sees it."""
        producer = self.producers[name]
        send = Send(f"{name} {number}", producer.kind, key, number, sent, done, why)
        self.sends.append(send)
        self.sums[send.kind].add(send)
        before = producer.mark(number, FAILED if why else ACKED)
        if why:
            self.last_fail = max(self.last_fail, done)
            self.failed_by[self.fault][send.kind] += 1
            text = re.sub(r"\d[\d.:]*", "#", why)[:110]
            self.reasons[text if text in self.reasons or len(self.reasons) < REASONS else "others"] += 1
            self.failed_and_stored += bool(before & CONSUMED)
        else:
            producer.last_ack = max(producer.last_ack, sent)
            if not before & CONSUMED:
                self.waiting[send.uid] = send
        if key != "-":
            self.in_order(name, key)

    def delivered(self, consumer, name, number, key, at, where):
        producer, uid = self.producers[name], f"{name} {number}"
        self.times[consumer].append(at)
        if consumer != producer.consumer:
            self.strange.add((consumer, uid, where))
        before = producer.mark(number, CONSUMED)
        if acked := self.waiting.pop(uid, None):
            self.waited[consumer] = max(self.waited[consumer], at - acked.done)
        if before & CONSUMED:
            self.again += 1
        else:
            self.consumed += 1
            self.failed_and_stored += bool(before & FAILED)
            if key != "-":
                self.orders[name, key].undecided.append((number, where))
                self.in_order(name, key)
        known = self.places.setdefault(uid, {where})
        if where not in known:
            known.add(where)
            self.stored_again += 1
            self.twice_by[self.fault] += 1
        if len(self.places) > PLACES:
            self.places.popitem(last=False)

    def in_order(self, name, key):
        for bad in self.orders[name, key].decide(self.producers[name].fates):
            self.disorder.add((name, key, *bad))

    def forget(self, before):
        """Lets the history go that is older."""
        while self.sends and self.sends[0].done < before:
            self.sends.popleft()
        for times in self.times.values():
            while times and times[0] < before:
                times.popleft()

    def unconsumed(self, before=float("inf")):
        """Acknowledged before that, and not consumed."""
        return [s for s in self.waiting.values() if s.done < before]

    def steady(self, t):
        """Whether at `t` nothing has failed for 3 s, every producer is acknowledged and no message waits for 2 s."""
        return self.last_fail < t - 3 and min(p.last_ack for p in self.producers.values()) > t - 2 and not self.unconsumed(t - 2)

    def unsteady(self, t):
        """Why it is not."""
        late = [name for name, p in self.producers.items() if p.last_ack < t - 2]
        waits = Counter(self.producers[s.uid.split()[0]].consumer for s in self.unconsumed(t - 2))
        return (f"messages wait for {dict(waits) or 'nobody'}; last failure {t - self.last_fail:.1f} s ago; "
                f"without acknowledgement: {', '.join(late) or 'nobody'}")

    def offset(self, key, asked, told, member):
        """A member's answer about a committed offset, None: there is none. Not lower than answers from before it was asked."""
        known, at = self.offsets.get(key, (-1, 0))
        value = -1 if told is None else told
        if value < known and at < asked:
            self.regressed.add((self.fault, round(asked, 1), *key, member, known, value))
        elif value > known:
            self.offsets[key] = value, now()

    acked = property(lambda self: sum(s.acked for s in self.sums.values()))
    failed = property(lambda self: sum(s.failed for s in self.sums.values()))

    def broken(self):
        """What must not be, as texts."""
        lost = Some()
        for s in self.unconsumed():
            lost.add(s)
        of = ((lost, "acknowledged and not consumed"), (self.disorder, "consumed out of order"),
              (self.regressed, "committed offsets went back (fault, when, group, topic, queue, member, from, to)"),
              (self.strange, "consumed by who reads another topic"))
        return [f"{len(items)} {text}, e.g. {' and '.join(str(tuple(i)) for i in items.first[:3])}" for items, text in of if items]

    def tell(self):
        """Prints sums by kind of producer, why sends failed, and what must not be, in numbers."""
        for kind, s in self.sums.items():
            print(f"{kind:11} {s.tried} tried, {s.acked} acknowledged, {s.failed} failed; "
                  f"slowest acknowledged {s.slowest_ack:.2f} s, slowest failed {s.slowest_fail:.2f} s")
        for text, n in self.reasons.most_common(8):
            print(f"  {n:5} x {text}")
        print(f"lost {len(self.waiting)}, duplicates {self.again} (stored again {self.stored_again}), order broken "
              f"{len(self.disorder)}, offsets regressed {len(self.regressed)}; {self.acked} acknowledged, {self.failed} failed "
              f"({self.failed_and_stored} of these were stored all the same)")

def kind_of(producer):
    return producer.rpartition("-")[0]

def longest_gap(times, start, end):
    """Longest time without one of `times` that ends in [start, end]; what is before `start` counts for the first one."""
    before = max((t for t in times if t < start), default=start)
    points = [before, *sorted(t for t in times if start <= t <= end), end]
    return max(b - a for a, b in zip(points, points[1:]))

def figures(account, start, end):
    """A table's row: what was sent between `start` and `end`, the pauses around that, and who waited longest since `waited` was cleared."""
    sends = [s for s in account.sends if start - 1 <= s.sent <= end]
    failed = [s for s in sends if s.why]
    acked = [s for s in sends if not s.why]
    row = {"tried": len(sends), **{f"failed {k}": sum(s.kind == k for s in failed) for k in account.kinds}}
    row["failing for s"] = max((s.done for s in failed), default=0) - min((s.sent for s in failed), default=0)
    took = sorted(s.done - s.sent for s in acked)
    row["99 % acked in s"] = took[len(took) * 99 // 100] if took else 0.0
    row["slowest ack s"] = max((s.done - s.sent for s in acked), default=0)
    row["no ack for s"] = longest_gap([s.done for s in account.sends if not s.why], start, end)
    for c, times in account.times.items():
        row[f"{c} pause s"] = longest_gap(times, start, end)
        row[f"{c} late s"] = float(account.waited[c])
    return row

def table(rows):
    text = [[f"{v:.2f}" if isinstance(v, float) else str(v) for v in r.values()] for r in rows]
    lines = [list(rows[0]), *text]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    lines.insert(1, ["-" * w for w in widths])
    return "\n".join("| " + " | ".join(v.rjust(w) for v, w in zip(line, widths)) + " |" for line in lines)
