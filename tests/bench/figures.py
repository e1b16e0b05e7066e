#!/usr/bin/env python3
"""Figures of scripts/bench. Standard library only.

idle PIDS SECONDS · answers NAMESRV BROKER · caught-up LEADER FOLLOWER COMMAND...: measure, and print a report
table REPORTS · many REPORTS · catch-up REPORTS · long REPORTS · passed-on REPORTS · kill REPORTS: print what reports say
share REPORT PART: prints that part of a report's messages per second
record REPORTS COMMIT: adds to history.csv
"""
import csv
import json
import os
import platform
import re
import socket
import statistics
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
SYNCED, CACHED = "synced", "page-cache"

# Reports of the Java reference by figure and durability; of several recorded runs, the best one for Java is shown.
JAVA = {
    CACHED: {
        "closed-1": ["results-java/closed-dledger-closed-1", "results-java-2/j-c1", "results-java-3/page-cache-closed-1"],
        "closed-64": ["results-java/closed-dledger-closed-64", "results-java-2/j-c16", "results-java-3/page-cache-closed-64"],
        "closed-1024": ["results-java/closed-dledger-closed-1024", "results-java-2/j-c256", "results-java-3/page-cache-closed-1024"],
        "drain": ["results-java/closed-dledger-drain", "results-java-2/j-drain", "results-java-3/page-cache-drain"],
        "open-2000": ["results-java/openq1-open-2000", "results-java-2/j-o2000", "results-java-3/page-cache-open-2000"],
        "tail-1000": ["results-java/openq1-tail", "results-java-3/page-cache-tail-1000"],
        "start": ["results-java/closed-dledger-ready", "results-java-3/page-cache-start"],
        "failover": ["results-java/kill1-fo", "results-java/kill2-fo", "results-java-3/page-cache-failover"],
        "failover-drain": ["results-java-3/page-cache-failover-drain"],
        "idle": ["results-java-3/page-cache-idle"],
    },
    SYNCED: {
        "closed-1": ["results-java/closed-dledger-sync-closed-1", "results-java-3/synced-closed-1"],
        "closed-64": ["results-java/closed-dledger-sync-closed-64", "results-java-3/synced-closed-64"],
        "closed-1024": ["results-java/closed-dledger-sync-closed-1024", "results-java-3/synced-closed-1024"],
        "drain": ["results-java/closed-dledger-sync-drain", "results-java-3/synced-drain"],
        "open-2000": ["results-java-3/synced-open-2000"],
        "tail-1000": ["results-java-3/synced-tail-1000"],
        "start": ["results-java/closed-dledger-sync-ready", "results-java-3/synced-start"],
        "failover": ["results-java-3/synced-failover"],
        "failover-drain": ["results-java-3/synced-failover-drain"],
        "idle": ["results-java-3/synced-idle"],
    },
}
TITLES = {
    "closed-1": "closed loop, 1 in flight",
    "closed-64": "closed loop, 64 in flight",
    "closed-1024": "closed loop, 1,024 in flight",
    "open-2000": "open loop, 2,000/s",
    "tail-1000": "send to receipt, 1,000/s",
    "drain": "drain of a backlog",
}


# Of the figures of one number those that history.csv has no column for.
UNRECORDED = ("start of one member after kill -9 to accepting clients, ms",
              "kill -9 of all at 1,024 in flight: start to all accepting, ms",
              "fresh and idle, three brokers: own memory, MiB")


def load(path):
    try:
        with open(path) as f:
            return json.load(f)
    except FileNotFoundError:
        return None


def better(a, b):
    """Whether report a speaks better of its system than b: more messages, or at the same rate the lower p99."""
    if "first_ack_s" in a:
        return a["first_ack_s"] < b["first_ack_s"]
    if "rate" in (a.get("load") or {}) and a["load"]["rate"]:
        if longest(a) and a["load"]["rate"] == 1000 and "end_to_end_ms" not in a:
            return longest(a) < longest(b)
        return a["latency_ms"]["p99"] < b["latency_ms"]["p99"]
    return a["msgs_per_s"] > b["msgs_per_s"]


def longest(report):
    gaps = ((report or {}).get("acks") or {}).get("longest_gaps_between_acks") or []
    return gaps[0]["ms"] if gaps else None


def java(reports, durability, figure):
    """What was measured now, else the best recorded run."""
    now = load(f"{reports}/java-{durability}/{figure}.json")
    if now or os.path.isdir(f"{reports}/java-{durability}"):
        return now
    best = None
    for name in JAVA[durability].get(figure, ()):
        report = load(f"{HERE}/{name}.json")
        if report and (best is None or better(report, best)):
            best = report
    return best


def number(value, digits=1):
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.{digits}f}"


def columns(report):
    if not report:
        return ["-"] * 6
    latency = report.get("end_to_end_ms") or report.get("latency_ms") or {}
    servers = report.get("servers") or {}
    return [number(report.get("msgs_per_s")), *(number(latency.get(q), 2) for q in ("p50", "p99", "p99.9")),
            number(servers.get("cpu_us_per_msg")), number(servers.get("rss_anon_mib"))]


def rows(reports, durability):
    for figure, title in TITLES.items():
        ours = load(f"{reports}/rmq-{durability}/{figure}.json")
        yield title, columns(ours), columns(java(reports, durability, figure))


def single(reports, durability):
    """Figures of one number: title, ours, Java's."""
    def of(figure, value):
        def text(report):
            try:
                return value(report) if report else "-"
            except (KeyError, TypeError):
                return "-"
        return text(load(f"{reports}/rmq-{durability}/{figure}.json")), text(java(reports, durability, figure))

    accepts = lambda r: number(1000 * max(at for _, at in r["accepting_s"]), 0)
    yield "first start to first acknowledged send, s", *of("start", lambda r: number(r["first_ack_s"], 2))
    yield "start of one member after kill -9 to accepting clients, ms", *of("restart-idle", accepts)
    yield "kill -9 of all at 1,024 in flight: start to all accepting, ms", *of("restart", accepts)
    yield "… to first acknowledged send, s", *of("restart", lambda r: number(r["first_ack_s"], 2))
    yield "kill -9 of the leader at 1,000/s: longest silence, ms", *of("failover", lambda r: number(longest(r), 0))
    yield "… of its acknowledged messages lost", *of("failover-drain", lambda r: str(r["ledger"]["lost"]))
    yield "fresh and idle, three brokers: own memory, MiB", *of("fresh", lambda r: number(r["rss_anon_mib"]))
    yield "idle, three brokers: CPU, % of a core", *of("idle", lambda r: number(r["cpu_percent"], 2))
    yield "idle, three brokers: own memory / with mapped files, MiB", *of(
        "idle", lambda r: f"{number(r['rss_anon_mib'])} / {number(r['rss_mib'])}")


def verdicts(reports, durability):
    """What makes a figure wrong (True) or worthless (False), with the reason."""
    for system in ("rmq", "java"):
        for figure in (*TITLES, "failover-drain"):
            report = load(f"{reports}/{system}-{durability}/{figure}.json")
            if not report:
                continue
            where = f"{system}, {durability}, {figure}"
            ledger = report.get("ledger")
            if ledger and not ledger["ok"]:
                yield True, f"{where}: what was acknowledged is not what is stored: {json.dumps(ledger)}"
            if report.get("damaged") or report.get("offset_breaks") or report.get("complete") is False:
                yield True, f"{where}: damaged, broken or incomplete: {json.dumps({k: report[k] for k in ('damaged', 'offset_breaks', 'complete')})}"
            if report.get("failed"):
                yield True, f"{where}: failed sends {json.dumps(report['failed'])}, first: {report.get('first_error')}"
            other, lasted = (report.get("servers") or {}).get("other_cpu_s") or 0, report.get("elapsed_s") or 1
            if lasted >= 1 and other > 0.15 * lasted * (os.cpu_count() or 1):
                yield False, f"{where}: something else used {other:.1f} CPU seconds of {lasted:.1f}: not worth keeping"


def machine():
    model = platform.processor() or "unknown processor"
    try:
        with open("/proc/cpuinfo") as f:
            model = next(line.split(":", 1)[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}"


def measured(reports):
    return [d for d in (SYNCED, CACHED) if os.path.isdir(f"{reports}/rmq-{d}")]


def table(reports):
    print(f"{machine()}; 1 KiB bodies, a group of three and the load tool on this machine; 8 queues")
    names = ["msgs/s", "p50 ms", "p99 ms", "p99.9 ms", "CPU us/msg", "own MiB"]
    bad = 0
    for durability in measured(reports):
        now = os.path.isdir(f"{reports}/java-{durability}")
        print(f"\n{durability}" + ("" if now else " (Java: recorded, best of tests/bench/results-java*)"))
        lines = [["", *names, *("Java " + n for n in names)]]
        lines += [[title, *ours, *theirs] for title, ours, theirs in rows(reports, durability)]
        show(lines)
        print()
        show([["", "this", "Java"], *map(list, single(reports, durability))])
        for wrong, text in verdicts(reports, durability):
            bad += wrong and text.startswith("rmq")  # what the reference does wrong is news, not our failure
            print(f"{'WRONG' if wrong else 'NOTE'} {text}")
    return bad


def show(lines):
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for n, line in enumerate(lines):
        cells = [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:]))]
        print("| " + " | ".join(cells) + " |")
        if n == 0:
            print("|" + "|".join("-" * (w + 2) for w in widths) + "|")


def record(reports, commit):
    path = f"{HERE}/history.csv"
    fresh = not os.path.exists(path)
    with open(path, "a", newline="") as f:
        out = csv.writer(f, lineterminator="\n")
        if fresh:
            out.writerow(["when", "commit", "machine", "durability"]
                         + [f"{figure} {column}" for figure in TITLES for column in ("msgs/s", "p50 ms", "p99 ms", "p99.9 ms", "CPU us/msg", "own MiB")]
                         + ["start s", "restart s", "failover ms", "lost", "idle CPU %", "idle MiB"])
        for durability in measured(reports):
            wide = [c for _, ours, _ in rows(reports, durability) for c in ours]
            narrow = [ours for title, ours, _ in single(reports, durability) if title not in UNRECORDED]
            plain = [c.replace(",", "") for c in wide + narrow]
            out.writerow([time.strftime("%F %T"), commit, machine(), durability, *plain])
    print(f"added to {path}")


def sample(pids):
    """CPU seconds, and KiB resident in all and of its own, of all the processes."""
    cpu = rss = anon = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rsplit(") ", 1)[1].split()
        cpu += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        with open(f"/proc/{pid}/status") as f:
            status = dict(line.split(":", 1) for line in f)
        rss += int(status["VmRSS"].split()[0])
        anon += int(status["RssAnon"].split()[0])
    return cpu, rss, anon


def idle(pids, seconds):
    time.sleep(2)  # what the last figure left to do
    before, began = sample(pids), time.monotonic()
    time.sleep(seconds)
    after, lasted = sample(pids), time.monotonic() - began
    print(json.dumps({"seconds": round(lasted, 1), "cpu_percent": round(100 * (after[0] - before[0]) / lasted, 2),
                      "rss_mib": after[1] // 1024, "rss_anon_mib": after[2] // 1024}))


def call(address, code):
    """One request without fields: its answer's code and body size, and how long it took, in ms."""
    host, port = address.rsplit(":", 1)
    header = json.dumps({"code": code, "flag": 0, "language": "OTHER", "opaque": 1, "version": 479,
                         "serializeTypeCurrentRPC": "JSON", "extFields": {}}).encode()
    with socket.create_connection((host, int(port)), timeout=30) as s, s.makefile("rb") as answers:
        began = time.monotonic()
        s.sendall(struct.pack(">II", 4 + len(header), len(header)) + header)
        total, mark = struct.unpack(">II", answers.read(8))
        rest = answers.read(total - 4)
        took = 1000 * (time.monotonic() - began)
    length = mark & 0xFFFFFF
    return {"code": json.loads(rest[:length])["code"], "bytes": len(rest) - length, "ms": round(took, 2)}


def answers(namesrv, broker):
    print(json.dumps({
        "broker: all topics (21)": call(broker, 21), "broker: all groups (201)": call(broker, 201),
        "broker: runtime (28)": call(broker, 28), "name server: all topic names (206)": call(namesrv, 206),
        "name server: cluster (106)": call(namesrv, 106)}))


def gauge(address, name):
    """A metric of a member, or -1 while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
            found = re.search(rf"^{name} (\d+)", answer.read().decode(), re.M)
            return int(found[1]) if found else -1
    except (OSError, urllib.error.URLError):
        return -1


def caught_up(leader, follower, command):
    """Runs the command that starts the follower, until that has applied what the leader had committed a moment before."""
    began, answers_after, missed = time.time(), None, None
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    while time.time() < began + 120:
        there = gauge(leader, "rmq_raft_committed_index")
        here = gauge(follower, "rmq_raft_applied_index")
        if here >= 0 and answers_after is None:
            answers_after, missed = time.time() - began, there - here
        if 0 < there <= here:
            print(json.dumps({"began": began, "answers_s": round(answers_after, 3), "missed_entries": missed,
                              "caught_up_s": round(time.time() - began, 3)}))
            return
        time.sleep(0.02)
    sys.exit("the follower did not catch up within 120 s")


def mean(values):
    values = [v for v in values if v is not None]
    return sum(values) / len(values) if values else None


def stretch(seconds):
    """The columns of several seconds of a timeline, as means; the longest latency as it is."""
    latency = lambda q: [(s["latency_ms"] or {}).get(q) for s in seconds]
    longest = [ms for ms in latency("max") if ms is not None]
    return [number(mean([s["messages"] for s in seconds])), number(mean(latency("p50")), 2),
            number(mean(latency("p99")), 2), number(max(longest, default=None), 1),
            number(mean([s["cpu_us_per_msg"] for s in seconds])), number(mean([s["rss_anon_mib"] for s in seconds]))]


STRETCH = ["msgs/s", "p50 ms", "mean p99 ms", "longest ms", "CPU us/msg", "own MiB"]


def long(reports):
    for durability in measured(reports):
        report = load(f"{reports}/rmq-{durability}/long.json")
        seconds, third = report["seconds"], len(report["seconds"]) // 3
        print(f"\n{machine()}; {durability}, 1,024 in flight, {len(seconds)} s")
        parts = [("first third", seconds[:third]), ("second third", seconds[third:2 * third]),
                 ("last third", seconds[2 * third:])]
        show([["", *STRETCH], *([name, *stretch(part)] for name, part in parts)])
        print("p99.9", number(report["latency_ms"]["p99.9"], 2), "ms; longest silences",
              ", ".join(f"{g['ms']:.0f} ms at {g['start_s']:.1f} s" for g in report["acks"]["longest_gaps_between_acks"]))
        for n, second in enumerate(seconds):
            print(f"  {n:3}", *(cell.rjust(9) for cell in stretch([second])))


def catch_up(reports):
    for durability in measured(reports):
        of = lambda name: load(f"{reports}/rmq-{durability}/{name}.json")
        back, others, missed = of("caught-up"), of("others"), of("missed")
        from_s = back["began"] - (others["run"] / 1e9 + others["load"]["warmup_s"])
        first, last = int(from_s), int(from_s + back["caught_up_s"]) + 1
        seconds = others["seconds"]
        print(f"\n{machine()}; {durability}, {missed['acked']:,} messages missed ({back['missed_entries']} entries)")
        print(f"answers after {back['answers_s']} s, caught up after {back['caught_up_s']} s; others' sends, 2,000/s:")
        parts = [("before", seconds[:first]), ("meanwhile", seconds[first:last]), ("after", seconds[last + 1:])]
        show([["", *STRETCH], *([name, *stretch(part)] for name, part in parts)])
        if others["failed"] or missed["failed"]:
            print("WRONG failed sends", others["failed"], missed["failed"])


def many(reports):
    for durability in measured(reports):
        of = lambda name: load(f"{reports}/rmq-{durability}/{name}.json")
        topics, calm, crowd, loaded = of("topics"), of("idle-crowd"), of("crowd"), of("open-2000")
        cpu = lambda report, s: 100 * report["servers"]["cpu_s"] / s
        print(f"\n{machine()}; {durability}")
        show([["", ""],
              [f"{topics['topics']:,} topics x {topics['queues']} queues created, s", number(topics["created_s"], 2)],
              ["… one creation, p50 / p99, ms", f"{topics['latency_ms']['p50']} / {topics['latency_ms']['p99']}"],
              *([name, f"{a['bytes']:,} bytes, {a['ms']} ms"] for name, a in of("answers").items()),
              [f"{calm['clients']:,} clients, long polls held", f"{calm['held']:,}"],
              ["… own memory of each member at most, MiB", " / ".join(map(str, calm["most_anon_mib"].values()))],
              ["… CPU of all members, % of a core", number(cpu(calm, calm["seconds"]), 1)],
              ["… heartbeat p50 / p99, ms", "{p50} / {p99}".format(**calm["latency_ms"]["heartbeat"])],
              ["… route p50 / p99, ms", "{p50} / {p99}".format(**calm["latency_ms"]["route"])],
              ["… and 2,000 sends/s: p50 / p99, ms", "{p50} / {p99}".format(**loaded["latency_ms"])],
              ["… own memory of each member at most, MiB", " / ".join(map(str, crowd["most_anon_mib"].values()))],
              ["follower killed, started: accepts after, s", str(of("restart-follower")["accepting_s"][0][1])],
              ["all killed, started: accept after, s", " / ".join(str(a[1]) for a in of("restart")["accepting_s"])],
              ["… first acknowledged send after, s", str(of("restart")["first_ack_s"])],
              ["… idle then: CPU of all, % of a core", number(of("idle")["cpu_percent"], 2)],
              ["… own memory of all, MiB", str(of("idle")["rss_anon_mib"])]])
        for name, report in (("clients", calm), ("creations", topics)):
            if report.get("failed") or report.get("refused"):
                print("WRONG", name, report.get("failed"), report.get("first_refusal"))


def passed_on(reports):
    """Sends to a follower beside sends to the leader: medians of the rounds."""
    for durability in measured(reports):
        of = lambda figure, way: [r for n in range(1, 4) if (r := load(f"{reports}/rmq-{durability}/{figure}-{way}-{n}.json"))]
        figures = [lambda r: r["msgs_per_s"], lambda r: r["latency_ms"]["p50"], lambda r: r["latency_ms"]["p99"],
                   lambda r: r["servers"]["cpu_us_per_msg"]]
        print(f"\n{machine()}; {durability}, to the leader / to a follower that passes on")
        cells = [[TITLES[figure], *(" / ".join(number(statistics.median(map(what, of(figure, way))), 2) for way in ("leader", "slot"))
                                    for what in figures)] for figure in ("closed-1", "closed-64", "closed-1024", "open-2000")]
        show([["", "msgs/s", "p50 ms", "p99 ms", "CPU us/msg"], *cells])
        failed = [r["failed"] for figure in TITLES for way in ("leader", "slot") for r in of(figure, way) if r.get("failed")]
        if failed:
            print("WRONG failed sends", failed)


def kill(reports):
    """Silences after the leader's death, round by round."""
    wrong = 0
    for durability in measured(reports):
        print(f"\n{machine()}; {durability}, the leader killed (kill -9)")
        lines = [["sends/s", "round", "longest silence ms", "p99 ms", "acknowledged", "failed: in flight at the leader", "lost"]]
        for load_name in ("calm", "busy"):
            for n in range(1, 4):
                its, drained = (load(f"{reports}/rmq-{durability}/kill-{load_name}-{n}{part}.json") for part in ("", "-drain"))
                if its is None:
                    continue
                wrong += drained["ledger"]["lost"]
                lines.append([number(its["load"]["rate"], 0), str(n), number(longest(its), 0), number(its["latency_ms"]["p99"], 2),
                              f"{its['acked']:,}", json.dumps(its["failed"]), str(drained["ledger"]["lost"])])
        show(lines)
    return wrong


def main(argv):
    match argv:
        case ["share", report, part]:
            print(int(load(report)["msgs_per_s"] * float(part)))
        case ["kill", reports]:
            return 1 if kill(reports) else 0
        case ["answers", namesrv, broker]:
            answers(namesrv, broker)
        case ["caught-up", leader, follower, *command]:
            caught_up(leader, follower, command)
        case ["long" | "catch-up" | "many" | "passed-on" as what, reports]:
            {"long": long, "catch-up": catch_up, "many": many, "passed-on": passed_on}[what](reports)
        case ["idle", pids, seconds]:
            idle(pids.split(","), float(seconds))
        case ["table", reports]:
            return 1 if table(reports) else 0
        case ["record", reports, commit]:
            record(reports, commit)
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
