#!/usr/bin/env python3
"""Records what a client sends to a server, for the test of the bounds (src/pure/session/traffic.rs).

    record.py --server 127.0.0.1:2379 --listen 127.0.0.1:2400 --out NAME.gz [--bytes-max N] -- PROGRAM ARGUMENTS

Stands between the two while PROGRAM runs. The file is gzip of records, numbers little-endian:

    u8 kind, u8 connection, u32 microseconds since the last record, u32 length, payload

    kind 0  the connection began                 no payload
    kind 1  bytes of the client                  as they came in one read
    kind 2  a frame of the server                u8 type, u8 flags, u32 stream, u32 bytes of payload
    kind 3  the connection ended                 no payload

A connection's records stop after --bytes-max bytes of the client; a line says how much was left out.
"""

import argparse
import gzip
import selectors
import socket
import struct
import subprocess
import sys
import threading
import time


class Recording:
    def __init__(self, bytes_max):
        self.lock = threading.Lock()
        self.records = []
        self.last = None
        self.bytes_max = bytes_max
        self.seen = {}
        self.connections = 0

    def begin(self):
        with self.lock:
            number = self.connections
            self.connections += 1
            self.seen[number] = 0
        self.add(0, number, b"")
        return number

    def add(self, kind, number, payload):
        with self.lock:
            if kind == 1:
                self.seen[number] += len(payload)
            if number > 255 or self.seen[number] > self.bytes_max and kind != 3:
                return
            now = time.monotonic_ns() // 1000
            passed = 0 if self.last is None else now - self.last
            self.last = now
            self.records.append(struct.pack("<BBII", kind, number, min(passed, 0xFFFFFFFF), len(payload)) + payload)


class Frames:
    """Splits the server's bytes into frames and notes their heads."""

    def __init__(self, recording, number):
        self.recording, self.number, self.rest = recording, number, b""

    def feed(self, data):
        self.rest += data
        while len(self.rest) >= 9:
            length = int.from_bytes(self.rest[:3], "big")
            if len(self.rest) < 9 + length:
                return
            kind, flags = self.rest[3], self.rest[4]
            stream = int.from_bytes(self.rest[5:9], "big") & 0x7FFFFFFF
            self.recording.add(2, self.number, struct.pack("<BBII", kind, flags, stream, length))
            self.rest = self.rest[9 + length :]


def carry(client, upstream, recording):
    number = recording.begin()
    frames = Frames(recording, number)
    selector = selectors.DefaultSelector()
    selector.register(client, selectors.EVENT_READ)
    selector.register(upstream, selectors.EVENT_READ)
    try:
        while True:
            for key, _ in selector.select():
                data = key.fileobj.recv(65536)
                if not data:
                    return
                if key.fileobj is client:
                    recording.add(1, number, data)
                    upstream.sendall(data)
                else:
                    client.sendall(data)
                    frames.feed(data)
    except OSError:
        pass
    finally:
        recording.add(3, number, b"")
        client.close()
        upstream.close()


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", required=True)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--bytes-max", type=int, default=1 << 20)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    recording = Recording(options.bytes_max)
    listener = socket.create_server(address(options.listen), backlog=128)

    def accept():
        while True:
            client, _ = listener.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                upstream = socket.create_connection(address(options.server))
            except OSError:
                client.close()
                continue
            upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=carry, args=(client, upstream, recording), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    code = subprocess.run(options.command).returncode
    time.sleep(0.2)
    with recording.lock:
        data = b"".join(recording.records)
        with open(options.out, "wb") as target:
            target.write(gzip.compress(data, 9, mtime=0))
        left_out = sum(max(0, seen - options.bytes_max) for seen in recording.seen.values())
    print(f"{options.out}: {recording.connections} connections, {len(recording.records)} records, "
          f"{len(data)} bytes; left out {left_out} bytes of clients", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
