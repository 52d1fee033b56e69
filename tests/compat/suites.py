#!/usr/bin/env python3
"""Runs the test suite of another project's client against real etcd and against a server, and compares.

Usage: suites.py --server PATH --suite etcd-client|etcd3 [-v]

What passes on etcd has to pass on the server, but for the tests that suites.md lists. Both servers are
driven at once, so that the suites' many sleeps are slept through only once. Neither waits for the disk: the suites
count with leases of two and three seconds, which a shared disk, busy with what was just built, can take for one write.
"""

import argparse
import concurrent.futures
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

import servers

HERE = os.path.dirname(os.path.abspath(__file__))
# Seconds; no test and no group of tests comes near.
PATIENCE = 240
UNSYNCED = "--unsafe-no-fsync"
# The result of a test that was left out.
NOT_RUN = "not run"


def listed(suite, server):
    """The rows of suites.md for one suite: the test's name, where it fails, and what it says there."""
    rows = {}
    with open(os.path.join(HERE, "suites.md"), encoding="utf-8") as file:
        for line in file:
            cells = [cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if len(cells) == 5 and cells[0] == suite:
                if cells[2] not in ("etcd", "etchd", NOT_RUN) or not cells[4] or cells[1] in rows:
                    sys.exit(f"suites.md: a wrong or double row: {line}")
                # Run against etcd itself, the suites check themselves: nothing is missing there.
                if cells[2] == "etchd" and servers.is_etcd(server):
                    continue
                rows[cells[1]] = cells[2], re.compile(cells[3].replace(r"\|", "|"))
    return rows


def start(command, **more):
    """Runs a program to its end: its exit code (None when it hung) and all it printed."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False,
            timeout=PATIENCE, **more,
        )
    except subprocess.TimeoutExpired as e:
        return None, (e.stdout or b"").decode(errors="replace") + "\nhangs\n"
    return done.returncode, done.stdout.decode(errors="replace")


def build_rust():
    """Builds the shared script on tonic and etcd-client's tests: the paths of the programs by name.

    Both in one go, so that what they need is built once and with the same features.
    """
    manifest = os.path.join(HERE, "clients", "tonic", "Cargo.toml")
    cargo = ["--locked", "--manifest-path", manifest]
    found = subprocess.run(["cargo", "metadata", "--format-version=1", *cargo], stdout=subprocess.PIPE, check=True)
    package = next(p for p in json.loads(found.stdout)["packages"] if p["name"] == "etcd-client")
    folder = os.path.join(servers.ROOT, "build", "etcd-client")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(os.path.join(os.path.dirname(package["manifest_path"]), "tests"), folder, copy_function=lay)
    done = subprocess.run(
        ["cargo", "test", "--no-run", "--quiet", *cargo, "--target-dir", os.path.join(servers.ROOT, "build", "tonic"),
         "--message-format=json-render-diagnostics"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, check=False, timeout=1800,
        env=dict(os.environ, PROTOC=os.path.join(servers.ORACLES, "protoc"), ETCD_CLIENT_TESTS=folder),
    )
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace"))
    made = [json.loads(line) for line in done.stdout.splitlines()]
    made = [m for m in made if m.get("executable") and m["profile"]["test"] == ("test" in m["target"]["kind"])]
    return {m["target"]["name"]: m["executable"] for m in made}


def lay(source, target):
    """Copies a file of etcd-client's tests; their endpoint is a constant, and becomes an argument."""
    with open(source, encoding="utf-8") as file:
        text = file.read()
    constant = 'pub const DEFAULT_TEST_ENDPOINT: &str = "localhost:2379";'
    if os.path.basename(source) == "testing.rs" and constant not in text:
        raise RuntimeError("etcd-client's tests say in another way where their server is")
    text = text.replace(constant, (
        "pub fn endpoint() -> &'static str {\n"
        "    static ENDPOINT: std::sync::OnceLock<String> = std::sync::OnceLock::new();\n"
        '    ENDPOINT.get_or_init(|| std::env::var("ETCHD_TEST_ENDPOINT").expect("a server"))\n'
        "}"
    ))
    text = text.replace("DEFAULT_TEST_ENDPOINT};", "endpoint};").replace("DEFAULT_TEST_ENDPOINT", "endpoint()")
    with open(target, "w", encoding="utf-8") as file:
        file.write(text)


def etcd_client(binary, programs, skipped):
    """Each test by itself, in their order: what failed is then told apart from what it did to the others."""
    results = {}
    # As the project's own CI runs them: small chunks of RangeStream, a root user and short tokens, of which etchd
    # knows nothing before it has authentication.
    extra = ["--auth-token-ttl=2"] if servers.is_etcd(binary) else []
    with servers.Server(binary, UNSYNCED, "--max-request-bytes=10204", *extra) as server:
        ctl = [servers.ETCDCTL, "--endpoints", server.endpoint]
        for words in (["user", "add", "root", "--new-user-password=rootpwd"], ["user", "grant-role", "root", "root"]):
            code, text = start([*ctl, *words])
            if code and servers.is_etcd(binary):
                raise RuntimeError(text)
        env = dict(os.environ, ETCHD_TEST_ENDPOINT=server.endpoint)
        for name in ("client", "namespace"):
            _, text = start([programs[name], "--list"])
            for test in re.findall(r"^(\w+): test$", text, re.MULTILINE):
                if f"{name}::{test}" in skipped:
                    results[f"{name}::{test}"] = NOT_RUN
                    continue
                code, text = start([programs[name], "--exact", test, "--include-ignored"], env=env)
                passed = code == 0 and "1 passed" in text
                results[f"{name}::{test}"] = None if passed else text
    return results


# The groups run side by side, each on a server of its own: most of their time is sleep.
ETCD3_GROUPS = [
    "watch_key",
    "watch and not watch_key",
    "lock and (expire or refresh)",
    "lock and not (expire or refresh)",
    "not watch and not lock",
]

# Loaded into pytest: every client without an endpoint goes to the server under test, and examples are always the same.
ETCD3_PLUGIN = """
import os
import etcd3
import hypothesis
host, _, port = os.environ["ETCHD_TEST_ENDPOINT"].partition(":")
etcd3.client.__defaults__ = (host, int(port), *etcd3.client.__defaults__[2:])
register = hypothesis.settings.register_profile
def register_profile(name, parent=None, **settings):
    register(name, parent, derandomize=True, database=None, **settings)
type.__setattr__(hypothesis.settings, "register_profile", staticmethod(register_profile))
"""


def etcd3_group(binary, group):
    folder = os.path.join(servers.ORACLES, "etcd3")
    # Some tests stop the cluster's other members around a serializable read. A cluster of one has none: a process
    # that just sleeps is stopped in their place, because the search for the members has to find something.
    other = subprocess.Popen(["sleep", str(10 * PATIENCE)], preexec_fn=servers.die_with_parent)
    with servers.Server(binary, UNSYNCED) as server, tempfile.TemporaryDirectory() as scratch:
        try:
            # Newer ones have no "snapshot status".
            ctl = f'case " $* " in *" snapshot "*) ctl={servers.ETCDCTL_OLD} ;; *) ctl={servers.ETCDCTL} ;; esac'
            tool(scratch, "etcdctl", f'{ctl}\nexec $ctl --endpoints={server.endpoint} "$@"')
            tool(scratch, "pgrep", f"echo {other.pid}")
            with open(os.path.join(scratch, "etcd3_at_server.py"), "w", encoding="utf-8") as file:
                file.write(ETCD3_PLUGIN)
            env = dict(
                os.environ,
                PATH=scratch + os.pathsep + os.environ["PATH"],
                PYTHONPATH=os.pathsep.join([folder, os.path.join(folder, "needs"), scratch]),
                PYTHONDONTWRITEBYTECODE="1",
                PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
                PYTHON_ETCD_HTTP_URL=f"http://{server.endpoint}",
                ETCHD_TEST_ENDPOINT=server.endpoint,
                TEST_ETCD_VERSION="v3.5.0",  # they only know up to v3.4 and compare the letters
            )
            report = os.path.join(scratch, "report.xml")
            _, text = start(
                [sys.executable, "-m", "pytest", "-p", "etcd3_at_server", "-p", "no:cacheprovider", "-q", "--tb=short",
                 "-k", group, f"--junitxml={report}", "tests"],
                cwd=folder, env=env,
            )
        finally:
            other.kill()
            other.wait()
        if not os.path.exists(report):
            raise RuntimeError(f"{group}: {text}")
        results = {}
        for case in xml.etree.ElementTree.parse(report).iter("testcase"):
            name = f"{case.get('classname').rpartition('.')[2]}::{case.get('name')}"
            bad = [e for e in case if e.tag in ("failure", "error", "skipped")]
            # A test that fails and then cannot be tidied up after is reported twice.
            before = results.get(name) or ""
            results[name] = before + "".join(f"{e.get('message')}\n{e.text}\n" for e in bad) or None
        return results


def tool(folder, name, line):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"#!/bin/sh\n{line}\n")
    os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)


def run_suite(suite, server, rows):
    """The results of etcd and of the server: test to None when it passed, to what it printed when not."""
    binaries = [servers.ETCD, server]
    if suite == "etcd-client":
        programs = build_rust()
        never = {test for test, (where, _) in rows.items() if where == NOT_RUN}
        # What etchd has not yet needs no proof on etcd: half a minute's sleep for tokens to expire.
        missing = {test for test, (where, _) in rows.items() if where == "etchd"}
        jobs = [[(etcd_client, binary, programs, skip)] for binary, skip in zip(binaries, (never | missing, never))]
    else:
        jobs = [[(etcd3_group, binary, group) for group in ETCD3_GROUPS] for binary in binaries]
    os.sync()  # what was just built
    with concurrent.futures.ThreadPoolExecutor(sum(map(len, jobs))) as pool:
        running = [[pool.submit(*job) for job in one] for one in jobs]
        return [{test: text for future in one for test, text in future.result().items()} for one in running]


def judge(rows, oracle, tested):
    """Complaints, and the number of tests that have to pass and do."""
    complaints, passed = [], 0
    if oracle.keys() != tested.keys():
        complaints.append(f"other tests on etcd than on the server: {sorted(oracle.keys() ^ tested.keys())}")
    complaints += [f"{test}: listed in suites.md, but there is no such test" for test in sorted(rows.keys() - oracle.keys())]
    for test in sorted(oracle.keys() & tested.keys()):
        where, says = rows.get(test, (None, None))
        there, here = oracle[test], tested[test]
        if where == NOT_RUN:
            continue
        if where == "etcd":
            if there is None:
                complaints.append(f"{test}: listed as failing on etcd, but passes there")
            elif not says.search(there):
                complaints.append(f"{test}: fails on etcd with other words than suites.md says:\n{there}")
        elif there not in (None, NOT_RUN):
            complaints.append(f"{test}: fails on etcd:\n{there}")
        elif where == "etchd":
            if here is None:
                complaints.append(f"{test}: listed as failing on etchd, but passes there")
            elif not says.search(here):
                complaints.append(f"{test}: fails with other words than suites.md says:\n{here}")
        elif here is not None:
            complaints.append(f"{test}: passes on etcd and fails here:\n{here}")
        else:
            passed += 1
    return complaints, passed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--server", required=True, help="the server under test")
    parser.add_argument("--suite", required=True, choices=["etcd-client", "etcd3"])
    parser.add_argument("-v", action="store_true", help="print the result of every test")
    options = parser.parse_args()
    rows = listed(options.suite, options.server)
    oracle, tested = run_suite(options.suite, options.server, rows)
    if options.v:
        for test, there in oracle.items():
            on_etcd, here = ({None: "ok", NOT_RUN: NOT_RUN}.get(text, "FAILED") for text in (there, tested.get(test)))
            print(f"{test}: {on_etcd} on etcd, {here} here")
    complaints, passed = judge(rows, oracle, tested)
    for complaint in complaints:
        print(complaint)
    print(f"{options.suite}: {passed} of {len(oracle)} tests have to pass and do, {len(complaints)} complaints")
    return 1 if complaints or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
