"""Starting and stopping the servers that the compatibility tests talk to."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ORACLES = os.environ.get("ETCHD_ORACLES") or os.path.join(ROOT, "build", "oracles")
ETCD = os.path.join(ORACLES, "bin", "etcd")
ETCDCTL = os.path.join(ORACLES, "bin", "etcdctl")
ETCD_OLD = os.path.join(ORACLES, "etcd-3.5", "etcd")
ETCDCTL_OLD = os.path.join(ORACLES, "etcd-3.5", "etcdctl")

# Ids are made of the advertised peer URL, so equal ones give two servers equal ids.
ARGUMENTS = (
    "--name=default --data-dir={dir} --listen-client-urls={client} --advertise-client-urls=http://127.0.0.1:2379 "
    "--listen-peer-urls={peer} --initial-advertise-peer-urls={advertise} --initial-cluster=default={advertise}"
)
ADVERTISED = "http://127.0.0.1:2380"


def template(binary):
    """The command line of a server, with places for what is chosen at its start."""
    extra = " --unsafe-no-fsync --log-level=error" if is_etcd(binary) else os.environ.get("ETCHD_EXTRA_ARGUMENTS", "")
    return f"{binary} {ARGUMENTS} {extra}".strip()


def is_etcd(binary):
    return os.path.basename(binary) == "etcd"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Server:
    """One server process with a fresh data folder."""

    def __init__(self, binary, *extra, addresses=1):
        self.binary = binary
        self.folder = tempfile.mkdtemp(prefix="etchd-compat-")
        self.endpoints = [f"127.0.0.1:{free_port()}" for _ in range(addresses)]
        self.endpoint = self.endpoints[0]
        command = template(binary).format(
            dir=os.path.join(self.folder, "data"),
            client=",".join(f"http://{endpoint}" for endpoint in self.endpoints),
            peer=f"http://127.0.0.1:{free_port()}",
            advertise=ADVERTISED,
        )
        with open(os.path.join(self.folder, "log"), "wb") as log:
            self.process = subprocess.Popen(
                command.split() + list(extra), stdout=log, stderr=log, preexec_fn=die_with_parent
            )
        self.wait_ready()

    def wait_ready(self, limit=60):
        until = time.monotonic() + limit
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.binary} ended with {self.process.returncode}:\n{self.log()}")
            # A linearizable read answers once there is a leader.
            done = subprocess.run(
                [ETCDCTL, "--endpoints", self.endpoint, "--command-timeout=1s", "--dial-timeout=1s", "get", "up"],
                capture_output=True, check=False,
            )
            if done.returncode == 0 and self.settled():
                return
            if time.monotonic() > until:
                raise RuntimeError(f"{self.binary} is not ready after {limit} s: {done.stderr.decode()}\n{self.log()}")

    def settled(self):
        """The cluster's version is decided a moment after the first leader; asked earlier it would change under us."""
        try:
            with urllib.request.urlopen(f"http://{self.endpoint}/version", timeout=1) as answer:
                if b"not_decided" in answer.read():
                    return False
        except OSError:
            pass  # a server without that page has nothing to wait for
        done = subprocess.run(
            [ETCDCTL, "--endpoints", self.endpoint, "endpoint", "status", "-w", "json"], capture_output=True, check=False
        )
        return b'"version":"3.5' in done.stdout or b'"storageVersion"' in done.stdout

    def log(self):
        with open(os.path.join(self.folder, "log"), "rb") as log:
            return log.read()[-4000:].decode(errors="replace")

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
