#!/usr/bin/env python3
"""What tests/traffic records of grpc-core: bursts, large answers, watches that are cancelled, calls that time out in an
outage, keepalive pings. The cases are those of ../compat/go/trafficload."""

import argparse
import os
import signal
import sys
import time

sys.argv, options_text = sys.argv[:1] + ["--endpoint", "unused"], sys.argv[1:]
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "compat", "clients"))
from grpcio_client import grpc, pb, services  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--endpoint", required=True)
parser.add_argument("--pid", type=int, default=0)
options = parser.parse_args(options_text)


def channel(number):
    return grpc.insecure_channel(
        options.endpoint,
        # A subchannel of its own for each case.
        [("grpc.keepalive_time_ms", 5500), ("grpc.keepalive_timeout_ms", 5000),
         ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0),
         ("grpc.max_receive_message_length", -1), ("case", number)],
    )


def burst():
    with channel(1) as connection:
        kv = services.KVStub(connection)
        for _ in range(4):
            calls = [kv.Put.future(pb.PutRequest(key=b"burst/%d" % n, value=bytes(64))) for n in range(300)]
            for call in calls:
                call.result()


def large():
    with channel(2) as connection:
        kv = services.KVStub(connection)
        kv.Put(pb.PutRequest(key=b"large", value=bytes(1 << 20)))
        calls = [kv.Range.future(pb.RangeRequest(key=b"large")) for _ in range(64)]
        for call in calls:
            call.result()


def watches():
    with channel(3) as connection:
        kv, watch = services.KVStub(connection), services.WatchStub(connection)
        for n in range(100):
            request = pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"watch/%d" % n))
            call = watch.Watch(iter([request]))
            next(call)
            kv.Put(pb.PutRequest(key=b"watch/%d" % n, value=bytes(64)))
            next(call)
            call.cancel()
        time.sleep(12)


def outage():
    with channel(4) as connection:
        kv = services.KVStub(connection)
        kv.Range(pb.RangeRequest(key=b"large"))
        os.kill(options.pid, signal.SIGSTOP)
        try:
            calls = [kv.Put.future(pb.PutRequest(key=b"outage/%d" % n, value=bytes(64)), timeout=0.5)
                     for n in range(1500)]
            for call in calls:
                call.exception()
        finally:
            os.kill(options.pid, signal.SIGCONT)
        kv.Put(pb.PutRequest(key=b"after", value=b"outage"))


for case in (burst, large, watches) + ((outage,) if options.pid else ()):
    case()
