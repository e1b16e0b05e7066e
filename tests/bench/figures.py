#!/usr/bin/env python3
"""Figures of scripts/bench: `idle PIDS SECONDS`, `table REPORTS`, `record REPORTS COMMIT`. Standard library only."""
import csv
import json
import os
import platform
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SYNCED, CACHED = "synced", "page-cache"

# Reports of the Java reference by figure and durability; of several recorded runs, the best one for Java is shown.
JAVA = {
    CACHED: {
        "closed-1": ["results-java/closed-dledger-closed-1", "results-java-2/j-c1"],
        "closed-64": ["results-java/closed-dledger-closed-64", "results-java-2/j-c16"],
        "closed-1024": ["results-java/closed-dledger-closed-1024", "results-java-2/j-c256"],
        "drain": ["results-java/closed-dledger-drain", "results-java-2/j-drain"],
        "open-2000": ["results-java/openq1-open-2000", "results-java-2/j-o2000"],
        "tail-1000": ["results-java/openq1-tail"],
        "start": ["results-java/closed-dledger-ready"],
        "failover": ["results-java/kill1-fo", "results-java/kill2-fo"],
    },
    SYNCED: {
        "closed-1": ["results-java/closed-dledger-sync-closed-1"],
        "closed-64": ["results-java/closed-dledger-sync-closed-64"],
        "closed-1024": ["results-java/closed-dledger-sync-closed-1024"],
        "drain": ["results-java/closed-dledger-sync-drain"],
        "start": ["results-java/closed-dledger-sync-ready"],
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

    yield "first start to first acknowledged send, s", *of("start", lambda r: number(r["first_ack_s"], 2))
    yield "restart after kill -9 of all, to first acknowledged send, s", *of("restart", lambda r: number(r["first_ack_s"], 2))
    yield "kill -9 of the leader at 1,000/s: longest silence, ms", *of("failover", lambda r: number(longest(r), 0))
    yield "… of its acknowledged messages lost", *of("failover-drain", lambda r: str(r["ledger"]["lost"]))
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
            narrow = [ours for _, ours, _ in single(reports, durability)]
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


def main(argv):
    match argv:
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
