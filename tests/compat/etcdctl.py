#!/usr/bin/env python3
"""Puts etcdctl through its subcommands against two servers and compares all it prints.

Usage: etcdctl.py --server PATH [--oracle PATH] [--etcdctl PATH]... [-v]

Compared are standard output, standard error and the exit code, once for each output format. What
may rightly differ between two servers is replaced before: times, sizes, addresses, the server's own
version where it is printed, and lease ids that the server picked.
"""

import argparse
import base64
import os
import re
import subprocess
import sys
import threading

import servers

FORMATS = ["simple", "json", "fields", "table", "protobuf"]

# Each step: arguments, and what comes from standard input. LEASE1, LEASE2 stand for ids of leases granted before.
STEPS = [
    (["put", "hello", "aoho"], None),
    (["put", "hello", "boho"], None),
    (["put", "hello", "coho", "--prev-kv"], None),
    (["put", "fresh", "x", "--prev-kv"], None),
    (["put", "from-stdin"], "a value\nof two lines"),
    (["put", "--", "-dash", "-value"], None),
    (["put", "empty", ""], None),
    (["put", "", "x"], None),
    (["put", "nolease", "x", "--lease=7"], None),
    (["put", "hello", "--ignore-value"], None),
    (["put", "nothere", "--ignore-value"], None),
    (["put", "hello", "x", "--ignore-value"], None),
    (["put", "hello", "doho", "--ignore-lease"], None),
    (["put", "nothere", "x", "--ignore-lease"], None),
    (["put"], None),
    (["put", "a1", "1"], None), (["put", "a2", "3"], None), (["put", "a3", "2"], None), (["put", "b1", "9"], None),
    (["put", "binary", "\x01é"], None),
    (["get", "hello"], None),
    (["get", "none"], None),
    (["get", "hello", "--hex"], None),
    (["get", "hello", "--print-value-only"], None),
    (["get", "a", "--prefix"], None),
    (["get", "a", "--prefix", "--limit=2"], None),
    (["get", "a", "--prefix", "--keys-only"], None),
    (["get", "a", "--prefix", "--count-only"], None),
    (["get", "a", "--prefix", "--count-only", "--write-out=fields"], None),
    (["get", "a", "--prefix", "--order=DESCEND", "--sort-by=VALUE"], None),
    (["get", "a", "--prefix", "--order=ASCEND", "--sort-by=CREATE"], None),
    (["get", "a", "--prefix", "--sort-by=MODIFY"], None),
    (["get", "a", "--prefix", "--sort-by=VERSION"], None),
    (["get", "a", "--prefix", "--sort-by=NONSENSE"], None),
    (["get", "a1", "a3"], None),
    (["get", "a2", "--from-key"], None),
    (["get", "", "--from-key"], None),
    (["get", "", "--prefix", "--keys-only"], None),
    (["get", ""], None),
    (["get", "hello", "--rev=2"], None),
    (["get", "hello", "--rev=100000"], None),
    (["get", "hello", "--consistency=s"], None),
    (["get", "hello", "--consistency=x"], None),
    (["get", "", "--prefix", "--min-mod-rev=4"], None),
    (["get", "", "--prefix", "--max-mod-rev=4"], None),
    (["get", "", "--prefix", "--min-create-rev=5"], None),
    (["get", "", "--prefix", "--max-create-rev=5"], None),
    (["get"], None),
    (["del", "a1"], None),
    (["del", "a1"], None),
    (["del", "a2", "--prev-kv"], None),
    (["del", "a", "--prefix", "--prev-kv"], None),
    (["del", "b1", "b2"], None),
    (["del", "zzz", "--from-key"], None),
    (["del", ""], None),
    (["txn"], 'value("hello") = "doho"\nmod("hello") > "1"\n\nput txn yes\nget hello\nget a --prefix\n\nput txn no\n\n'),
    (["txn"], 'value("hello") = "x"\n\nput txn yes\n\nget txn\ndel txn\n\n'),
    (["txn"], 'create("nothere") = "0"\nversion("nothere") = "0"\n\nget hello --rev=2\n\n\n'),
    (["txn"], "\nput twice 1\nput twice 2\n\n\n"),
    (["txn"], "\nget hello --rev=100000\n\n\n"),
    (["txn"], "\n\n\n"),
    (["txn"], "nonsense\n\n\n\n"),
    (["lease", "grant", "600"], None),
    (["lease", "grant", "500"], None),
    (["lease", "grant", "0"], None),
    (["lease", "grant", "9000000001"], None),
    (["lease", "grant", "abc"], None),
    (["put", "leased", "x", "--lease=LEASE1"], None),
    (["put", "leased too", "y", "--lease=LEASE1"], None),
    (["get", "leased"], None),
    (["put", "leased", "z", "--ignore-lease"], None),
    (["lease", "timetolive", "LEASE1"], None),
    (["lease", "timetolive", "LEASE1", "--keys"], None),
    (["lease", "timetolive", "77"], None),
    (["lease", "keep-alive", "--once", "LEASE1"], None),
    (["lease", "keep-alive", "--once", "77"], None),
    (["lease", "keep-alive", "77"], None),
    (["lease", "list"], None),
    (["lease", "revoke", "LEASE2"], None),
    (["lease", "revoke", "LEASE1"], None),
    (["lease", "revoke", "LEASE1"], None),
    (["lease", "timetolive", "LEASE1"], None),
    (["lease", "list"], None),
    (["get", "leased"], None),
    (["compaction", "REVISION-8"], None),
    (["compaction", "REVISION-8"], None),
    (["compaction", "REVISION-4", "--physical"], None),
    (["compaction", "100000"], None),
    (["compaction", "abc"], None),
    (["compaction"], None),
    (["get", "hello", "--rev=2"], None),
    (["watch", "hello", "--rev=2"], None),
    (["watch", "b", "a", "--rev=2"], None),
    (["defrag"], None),
    (["endpoint", "health"], None),
    (["endpoint", "status"], None),
    (["endpoint", "hashkv"], None),
    (["endpoint", "hashkv", "--rev=100000"], None),
    (["member", "list"], None),
    (["alarm", "list"], None),
    (["alarm", "disarm"], None),
    (["version"], None),
]

# Watches that stay open. Each is ended by a marker, an event that it has to print last.
WATCHES = [
    ["watch", "hello", "--rev=1"],
    ["watch", "", "--prefix", "--rev=1"],
    ["watch", "", "--prefix", "--rev=1", "--prev-kv"],
    ["watch", "a", "b", "--rev=2"],
    ["watch", "a", "--prefix", "--rev=3", "--prev-kv"],
    ["watch", "--rev=1", "--progress-notify", "", "--prefix"],
]


def normalise(text, server, leases):
    text = text.replace(server.endpoint, "ENDPOINT")
    for number, lease in enumerate(leases, 1):
        text = re.sub(rf"\b0*{lease:x}\b", f"LEASE{number}", text)
        text = re.sub(rf"\b{lease}\b", f"LEASE{number}", text)
    text = re.sub(r"took = [0-9.]+[a-zµ]+", "took = TIME", text)
    text = re.sub(r'"took":"[^"]*"', '"took":"TIME"', text)
    text = re.sub(r'"Took" : "?[0-9.]+[a-zµ]+"?', '"Took" : TIME', text)
    text = re.sub(r'"ts":"[^"]*"', '"ts":"TIME"', text)
    text = re.sub(r"0x[0-9a-f]{8,}", "ADDRESS", text)
    text = re.sub(r"LocalAddr: '127.0.0.1:[0-9]+'", "LocalAddr: 'ADDRESS'", text)
    text = re.sub(r'"(dbSize|dbSizeInUse|raftIndex|raftAppliedIndex)":[0-9]+', r'"\1":N', text)
    text = re.sub(r'"(DBSize|DBSizeInUse|DB size|RaftIndex|RaftAppliedIndex)" : [0-9]+', r'"\1" : N', text)
    text = re.sub(r"remaining\([0-9]+s\)", "remaining(N)", text)
    text = re.sub(r'"ttl":[1-9][0-9]*', '"ttl":N', text)
    text = re.sub(r'"TTL" : [1-9][0-9]*', '"TTL" : N', text)
    text = re.sub(r"[0-9.]+ [kMG]B", "SIZE", text)
    text = re.sub(r"\b[0-9.]+(ms|µs)(?![a-z])", "TIME", text)
    return text


def normalise_status(text):
    """endpoint status names the release, and two indexes that count internal entries too."""
    text = re.sub(r"\b3\.[0-9]+\.[0-9]+[-+.0-9a-z]*", "VERSION", text)
    text = re.sub(r"\d+(\.\d+)? ?%", "PERCENT", text)
    lines = []
    for line in text.splitlines():
        if line.startswith(("│", "|", "ENDPOINT")):
            # Columns and sizes: the table's width follows from what was replaced.
            cells = [c.strip() for c in re.split(r"[│|,]", line)]
            cells = ["N" if re.fullmatch(r"[0-9]{2,}", c) else c for c in cells]
            line = "|".join(cells)
        lines.append(line)
    return "\n".join(lines)


def normalise_table(text):
    """Borders and padding depend on the width of what was replaced."""
    text = re.sub(r"[-─+┌┬┐├┼┤└┴┘═]{3,}", "---", text)
    return re.sub(r" {2,}", " ", text)


class Side:
    def __init__(self, server):
        self.server = server
        self.leases = []
        self.leases_ever = False
        self.revision = 1

    def command(self, ctl, arguments, output):
        out = []
        for a in arguments:
            a = re.sub(r"LEASE(\d)", lambda m: f"{self.lease(m):x}", a)
            a = re.sub(r"REVISION-(\d+)", lambda m: str(self.revision - int(m[1])), a)
            out.append(a)
        written = any(a.startswith("--write-out") for a in out)
        at = out.index("--") if "--" in out else len(out)
        out[at:at] = [] if written else ["-w", output]
        return [ctl, "--endpoints", self.server.endpoint, *out]

    def lease(self, match):
        number = int(match[1]) - 1
        return self.leases[number] if number < len(self.leases) else 0x7F00

    def run(self, ctl, arguments, stdin, output):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ETCDCTL_")}
        if "REVISION" in " ".join(arguments):
            self.ask_revision(environment)
        grants = arguments[:2] == ["lease", "grant"]
        before = self.lease_ids() if grants else []
        done = subprocess.run(
            self.command(ctl, arguments, output), input=stdin.encode() if stdin else b"", capture_output=True,
            timeout=60, env=environment, check=False,
        )
        text = done.stdout.decode(errors="surrogateescape")
        if grants:
            # Not every format of every release prints the id, so the list tells what is new.
            new = [i for i in self.lease_ids() if i not in before]
            if arguments[2] == "0" and done.returncode == 0 and not new:
                # It lives two seconds only, and the machine took longer.
                return self.run(ctl, arguments, stdin, output)
            self.leases += new
            self.leases_ever = self.leases_ever or bool(new)
            if arguments[2] == "0":
                for lease in new:
                    self.revoke_quietly(lease)
        if output == "protobuf":
            # The wire form of what json shows already: only that it is there or not is compared.
            text = "" if not text else "BYTES"
        parts = [text, done.stderr.decode(), f"exit {done.returncode}"]
        parts = [normalise(p, self.server, self.leases) for p in parts]
        if arguments[:2] == ["endpoint", "status"]:
            parts[0] = normalise_status(parts[0])
        if output == "table":
            parts[0] = normalise_table(parts[0])
        if "--keys" in arguments:
            # A lease's keys are a set: real servers print them in any order.
            parts[0] = " ".join(sorted(re.split(r"[\s,\[\]()]+", parts[0])))
        if arguments[:2] == ["endpoint", "hashkv"] and self.leases_ever:
            # The hash covers the lease ids of the values, which each server picked for itself.
            parts[0] = re.sub(r'("[Hh]ash"\s*:\s*|ENDPOINT, |ENDPOINT [|│] )[0-9]+', r"\1HASH", parts[0])
        return parts

    def ask_revision(self, environment):
        done = subprocess.run(
            [servers.ETCDCTL, "--endpoints", self.server.endpoint, "get", "none", "-w", "fields"],
            capture_output=True, env=environment, check=True,
        )
        self.revision = int(re.search(rb'"Revision" : (\d+)', done.stdout)[1])

    def lease_ids(self):
        done = subprocess.run(
            [servers.ETCDCTL, "--endpoints", self.server.endpoint, "lease", "list"], capture_output=True, check=True
        )
        return [int(line, 16) for line in done.stdout.decode().split("\n")[1:] if line.strip()]

    def revoke_quietly(self, lease):
        """Ends a lease that is too short to be compared by: it may have expired in this moment."""
        subprocess.run(
            [servers.ETCDCTL, "--endpoints", self.server.endpoint, "lease", "revoke", f"{lease:x}"],
            capture_output=True, check=False,
        )

    def watch(self, ctl, arguments, output, last):
        """What a watch prints up to the event of the marker key."""
        process = subprocess.Popen(
            self.command(ctl, arguments, output), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            preexec_fn=servers.die_with_parent,
        )
        guard = threading.Timer(30, process.kill)
        guard.start()
        lines = []
        for raw in process.stdout:
            lines.append(raw.decode(errors="surrogateescape"))
            if last in lines[-1]:
                break
        guard.cancel()
        process.kill()
        rest = process.stderr.read().decode()
        process.wait()
        return [normalise("".join(lines), self.server, self.leases), normalise(rest, self.server, self.leases)]


def compare(name, a, b, report):
    if a == b:
        return
    text = [f"difference: {name}"]
    for what, x, y in zip(["standard output", "standard error", "exit code"], a, b):
        if x != y:
            text.append(f"  {what}, oracle:\n    " + x.rstrip().replace("\n", "\n    "))
            text.append(f"  {what}, tested:\n    " + y.rstrip().replace("\n", "\n    "))
    report.append("\n".join(text))


def both(call, sides):
    results = [None, None]

    def work(i):
        results[i] = call(sides[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return results


def run_watches(ctl, sides, report):
    count = 0
    for number, arguments in enumerate(WATCHES):
        for output in ["simple", "json", "fields"]:
            # The marker is a new value under a key that the watch sees, so its event is the last one.
            marker = f"last-{number}-{output}"
            key = {0: "hello", 3: "a9", 4: "a9"}.get(number, "marker")
            both(lambda s: s.run(ctl, ["put", key, marker], None, "simple"), sides)
            word = base64.b64encode(marker.encode()).decode() if output == "json" else marker
            a, b = both(lambda s: s.watch(ctl, arguments, output, word), sides)
            compare(f"{' '.join(arguments)} -w {output}", a, b, report)
            if word not in a[0]:
                report.append(f"watch never ended: {' '.join(arguments)} -w {output}: {a}")
            count += 1
    return count


def run_etcdctl(ctl, oracle, tested, report, verbose):
    count = 0
    with servers.Server(oracle) as a, servers.Server(tested) as b:
        sides = [Side(a), Side(b)]
        # What the manual shows first, word for word.
        for value in ["aoho", "boho"]:
            got = both(lambda s: s.run(ctl, ["put", "hello", value], None, "simple"), sides)
            compare(f"put hello {value}", *got, report)
            count += 1
        word = "Ym9obw=="
        got = both(lambda s: s.watch(ctl, ["watch", "hello", "--rev=1"], "json", word), sides)
        compare("watch hello -w=json --rev=1", *got, report)
        if got[0][0].count('"mod_revision"') != 2:
            report.append(f"watch hello -w=json --rev=1 does not print both events: {got[0]}")
        count += 1
        both(lambda s: s.run(ctl, ["put", "a5", "seen"], None, "simple"), sides)
        both(lambda s: s.run(ctl, ["del", "a5"], None, "simple"), sides)
        count += run_watches(ctl, sides, report)
        for output in FORMATS:
            got = both(lambda s: s.run(ctl, ["endpoint", "hashkv"], None, output), sides)
            compare(f"endpoint hashkv before any lease -w {output}", *got, report)
            count += 1
        for output in FORMATS:
            for arguments, stdin in STEPS:
                got = both(lambda s: s.run(ctl, arguments, stdin, output), sides)
                name = f"{' '.join(arguments)} -w {output}"
                if verbose:
                    print(f"{name}\n{got[0]}")
                compare(name, *got, report)
                count += 1
            for side in sides:
                side.leases.clear()
    return count


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--server", required=True, help="the server under test")
    parser.add_argument("--oracle", default=servers.ETCD, help="the server to compare with")
    parser.add_argument("--etcdctl", action="append", help="the etcdctl to use (default: the newest)")
    parser.add_argument("-v", action="store_true", help="print every step")
    options = parser.parse_args()
    report = []
    count = 0
    for ctl in options.etcdctl or [servers.ETCDCTL]:
        count += run_etcdctl(ctl, options.oracle, options.server, report, options.v)
    for text in report:
        print(text)
    print(f"etcdctl: {count} commands, {len(report)} differences")
    return 1 if report else 0


if __name__ == "__main__":
    sys.exit(main())
