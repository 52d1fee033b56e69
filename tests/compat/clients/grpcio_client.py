#!/usr/bin/env python3
"""The shared client script on grpcio (grpc-core), with stubs compiled from schema/etcd. See README.md for the cases."""

import argparse
import asyncio
import importlib
import os
import queue
import signal
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
ORACLES = os.environ.get("ETCHD_ORACLES") or os.path.join(ROOT, "build", "oracles")
sys.path.insert(0, os.path.join(ORACLES, "python"))

import grpc  # noqa: E402
from grpc_tools import protoc  # noqa: E402

LIMIT_ENTRY = 1536 * 1024
LIMIT_MESSAGE = LIMIT_ENTRY + 512 * 1024
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),
]


def load_stubs():
    """Compiles schema/etcd into the build folder and imports what comes out."""
    schema = os.path.join(ROOT, "schema", "etcd")
    build = os.path.join(ROOT, "build")
    os.makedirs(build, exist_ok=True)
    # A folder for each process: nothing in it is ever old or half written.
    with tempfile.TemporaryDirectory(prefix="grpcio-stubs-", dir=build) as folder:
        files = ["rpc.proto", "kv.proto", "auth.proto"]
        if protoc.main(["protoc", f"-I{schema}", f"--python_out={folder}", f"--grpc_python_out={folder}", *files]) != 0:
            sys.exit("schema/etcd does not compile")
        sys.path.insert(0, folder)
        sys.dont_write_bytecode = True
        messages = importlib.import_module("rpc_pb2")
        services = importlib.import_module("rpc_pb2_grpc")
        sys.path.remove(folder)
    return messages, services


pb, services = load_stubs()


class Failed(Exception):
    pass


def check(condition, text):
    if not condition:
        raise Failed(text)


class Client:
    def __init__(self, endpoint, old):
        self.endpoint, self.old = endpoint, old
        self.channel = grpc.insecure_channel(endpoint, options=OPTIONS)
        grpc.channel_ready_future(self.channel).result(timeout=20)
        self.kv = services.KVStub(self.channel)
        self.watches = services.WatchStub(self.channel)
        self.lease = services.LeaseStub(self.channel)

    def refused(self, call, request, code, text):
        try:
            call(request, timeout=20)
        except grpc.RpcError as e:
            check(e.code() == code and e.details() == text, f"{e.code()} {e.details()!r}, not {code} {text!r}")
        else:
            raise Failed(f"passed where {text!r} is due")

    def put(self, key, value, **fields):
        return self.kv.Put(pb.PutRequest(key=key, value=value, **fields), timeout=20)

    def range(self, key, timeout=20, **fields):
        return self.kv.Range(pb.RangeRequest(key=key, **fields), timeout=timeout)

    def watch(self, timeout=60, **create):
        """An open Watch call: a queue to send by, and the call to read from."""
        requests = queue.Queue()
        requests.put(pb.WatchRequest(create_request=pb.WatchCreateRequest(**create)))
        call = self.watches.Watch(iter(requests.get, None), timeout=timeout)
        return requests, call


def unary(c):
    first = c.put(b"unary", b"1")
    second = c.put(b"unary", b"2", prev_kv=True)
    check(second.header.revision == first.header.revision + 1, "two puts are not one revision apart")
    check(second.prev_kv.value == b"1", "the previous value is wrong")
    got = c.range(b"unary")
    check(got.count == 1 and got.kvs[0].value == b"2" and got.kvs[0].mod_revision == second.header.revision, f"range: {got}")
    c.refused(c.kv.Range, pb.RangeRequest(), grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: key is not provided")
    c.refused(c.kv.Range, pb.RangeRequest(key=b"a", revision=1 << 40), grpc.StatusCode.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision")
    c.refused(c.kv.Put, pb.PutRequest(key=b"a", lease=12345), grpc.StatusCode.NOT_FOUND, "etcdserver: requested lease not found")


def server_stream(c):
    for i in range(100):
        c.put(b"stream/%03d" % i, b"%d" % i)
    parts = list(c.kv.RangeStream(pb.RangeRequest(key=b"stream/", range_end=b"stream0"), timeout=20))
    kvs = [kv for p in parts for kv in p.range_response.kvs]
    check([kv.value for kv in kvs] == [b"%d" % i for i in range(100)], "the keys are not all there in order")
    check(parts[-1].range_response.count == 100 and parts[-1].range_response.HasField("header"), "the last message has no count or header")
    check(not any(p.range_response.HasField("header") or p.range_response.count for p in parts[:-1]), "a header before the last message")
    check(len(parts) > 1, "100 keys in one message")


def two_way_stream(c):
    requests, call = c.watch(key=b"two-way")
    created = next(call)
    check(created.created and created.watch_id == 0, f"created: {created}")
    for i in range(200):
        c.put(b"two-way", b"%d" % i)
    seen = []
    while len(seen) < 200:
        seen += [e.kv.value for e in next(call).events]
    check(seen == [b"%d" % i for i in range(200)], "events are missing or out of order")
    requests.put(pb.WatchRequest(cancel_request=pb.WatchCancelRequest(watch_id=0)))
    check(next(call).canceled, "no answer to a cancel request")
    call.cancel()
    requests.put(None)

    lease = c.lease.LeaseGrant(pb.LeaseGrantRequest(TTL=100), timeout=20)
    keeps = [pb.LeaseKeepAliveRequest(ID=id) for id in (lease.ID, 424242, lease.ID)]
    answers = list(c.lease.LeaseKeepAlive(iter(keeps), timeout=20))
    check([a.TTL for a in answers] == [100, 0, 100], f"keep-alives answer {[a.TTL for a in answers]}")


def deadline(c):
    allowed = [grpc.StatusCode.DEADLINE_EXCEEDED] + ([grpc.StatusCode.UNKNOWN] if c.old else [])
    requests, call = c.watch(timeout=0.5, key=b"deadline")
    check(next(call).created, "not created")
    start = time.monotonic()
    try:
        next(call)
    except grpc.RpcError as e:
        # The server's clock may run out first: it then resets the stream, which grpc-core shows as cancelled.
        reset = e.code() == grpc.StatusCode.CANCELLED and "RST_STREAM" in e.details()
        check(reset or e.code() in allowed, f"a watch past its deadline ends with {e.code()} {e.details()!r}")
    check(time.monotonic() - start < 5, "the deadline came late")
    requests.put(None)
    for _ in range(20):
        try:
            c.range(b"deadline", timeout=0.000001)
        except grpc.RpcError as e:
            check(e.code() in allowed, f"a read past its deadline ends with {e.code()}")
    check(c.range(b"none").count == 0, "the connection is harmed")


def cancel(c):
    c.put(b"cancel", b"x" * 1000)
    for _ in range(50):
        requests, call = c.watch(key=b"cancel", start_revision=1)
        next(call)
        next(call)
        call.cancel()
        requests.put(None)
        try:
            for _ in call:
                pass
        except grpc.RpcError as e:
            check(e.code() == grpc.StatusCode.CANCELLED, f"a cancelled watch ends with {e.code()}")
    check(c.range(b"cancel").count == 1, "the connection is harmed")


def large_response(c):
    value = bytes(range(256)) * 2048
    for i in range(5):
        c.put(b"large/%d" % i, value)
    got = c.range(b"large/", range_end=b"large0")
    check(got.ByteSize() > 2 << 20 and all(kv.value == value for kv in got.kvs) and len(got.kvs) == 5, "a large answer is damaged")


def size_limits(c):
    too_large = (grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: request is too large")
    c.put(b"limit", b"x" * (LIMIT_ENTRY - 200))
    c.refused(c.kv.Put, pb.PutRequest(key=b"limit", value=b"x" * LIMIT_ENTRY), *too_large)
    probe = LIMIT_MESSAGE - 100  # as many bytes for its length as the real ones have
    empty = pb.PutRequest(key=b"limit", value=b"x" * probe).ByteSize() - probe
    c.refused(c.kv.Put, pb.PutRequest(key=b"limit", value=b"x" * (LIMIT_MESSAGE - empty)), *too_large)
    text = f"grpc: received message larger than max ({LIMIT_MESSAGE + 1} vs. {LIMIT_MESSAGE})"
    c.refused(c.kv.Put, pb.PutRequest(key=b"limit", value=b"x" * (LIMIT_MESSAGE + 1 - empty)), grpc.StatusCode.RESOURCE_EXHAUSTED, text)
    check(c.range(b"limit", count_only=True).count == 1, "the connection is harmed")


def many_streams(c):
    asyncio.run(asyncio.wait_for(many_streams_on_one_connection(c), timeout=90))


async def many_streams_on_one_connection(c):
    async with grpc.aio.insecure_channel(c.endpoint, options=OPTIONS) as channel:
        watch = services.WatchStub(channel).Watch
        create = pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"many"))
        calls = [watch() for _ in range(1000)]
        for call in calls:
            await call.write(create)
        created = [await call.read() for call in calls]
        check(all(r.created for r in created), "not every watch was created")
        c.put(b"many", b"all of you")
        told = [await call.read() for call in calls]
        check(all(r.events[0].kv.value == b"all of you" for r in told), "not every watch was told")
        for call in calls:
            call.cancel()
    check(c.range(b"many").count == 1, "the connection is harmed")


def sigterm(c, pid):
    requests, call = c.watch(key=b"sigterm")
    check(next(call).created, "not created")
    stop, codes = threading.Event(), []

    def write():
        while not stop.is_set():
            try:
                c.put(b"other", b"x")
                codes.append(None)
            except grpc.RpcError as e:
                codes.append(e.code())
                return

    writer = threading.Thread(target=write)
    writer.start()
    while len(codes) < 20 and writer.is_alive():
        time.sleep(0.001)
    os.kill(pid, signal.SIGTERM)
    try:
        for _ in call:
            pass
        ended = grpc.StatusCode.OK
    except grpc.RpcError as e:
        ended = e.code()
    requests.put(None)
    check(ended in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE), f"the open watch ends with {ended}")
    writer.join(timeout=30)
    stop.set()
    check(not writer.is_alive(), "a put hangs after SIGTERM")
    check(codes[-1] == grpc.StatusCode.UNAVAILABLE, f"the last put ends with {codes[-1]}")
    check(len(codes) >= 20, "no put passed before SIGTERM")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--pid", type=int, help="the server, for the SIGTERM case")
    parser.add_argument("--old", action="store_true", help="the server is etcd 3.5: no RangeStream, and Unknown for a stream past its deadline")
    options = parser.parse_args()
    client = Client(options.endpoint, options.old)
    cases = [unary, two_way_stream, deadline, cancel, large_response, size_limits, many_streams]
    if not options.old:
        cases.insert(1, server_stream)
    if options.pid:
        cases.append(lambda c: sigterm(c, options.pid))
        cases[-1].__name__ = "sigterm"
    failed = 0
    for case in cases:
        start = time.monotonic()
        try:
            case(client)
            print(f"ok      {case.__name__} ({time.monotonic() - start:.1f} s)", flush=True)
        except (Failed, grpc.RpcError, StopIteration, asyncio.TimeoutError) as e:
            failed += 1
            text = f"{e.code()} {e.details()!r}" if isinstance(e, grpc.RpcError) else repr(e)
            print(f"FAILED  {case.__name__}: {text}", flush=True)
    print(f"grpcio: {len(cases) - failed} passed, {failed} failed", flush=True)
    # Threads of a failed case may still hang in a call.
    os._exit(1 if failed else 0)


if __name__ == "__main__":
    main()
