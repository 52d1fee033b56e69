#!/usr/bin/env node
// The shared client script on grpc-js, with messages read from schema/etcd at start. See README.md for the cases.
"use strict";

const { createRequire } = require("node:module");
const path = require("node:path");
const { parseArgs } = require("node:util");

const ROOT = path.resolve(__dirname, "..", "..", "..");
const ORACLES = process.env.ETCHD_ORACLES || path.join(ROOT, "build", "oracles");
const fetched = createRequire(path.join(ORACLES, "node", "node_modules", "x"));
const grpc = fetched("@grpc/grpc-js");
const loader = fetched("@grpc/proto-loader");

const LIMIT_ENTRY = 1536 * 1024;
const LIMIT_MESSAGE = LIMIT_ENTRY + 512 * 1024;
const PATIENCE = 60_000; // milliseconds; no call and no case takes longer
const OPTIONS = {
  "grpc.max_receive_message_length": -1,
  "grpc.max_send_message_length": -1,
  "grpc.enable_retries": 0,
};
const { status } = grpc;

const { values: options } = parseArgs({
  options: {
    endpoint: { type: "string" },
    pid: { type: "string" },
    old: { type: "boolean", default: false }, // etcd 3.5: no RangeStream, and Unknown for a stream past its deadline
  },
});

class Failed extends Error {}

function check(condition, text) {
  if (!condition) throw new Failed(text);
}

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// The codes are numbers in grpc-js; their names say more.
const show = (e) => (e && e.code !== undefined ? `${status[e.code]} ${JSON.stringify(e.details)}` : String(e));

const api = grpc.loadPackageDefinition(
  loader.loadSync("rpc.proto", {
    includeDirs: [path.join(ROOT, "schema", "etcd")],
    keepCase: true,
    longs: String, // lease ids are larger than a number can tell apart
    enums: String,
    defaults: true,
    oneofs: true,
  }),
).etcdserverpb;

// What a streaming call says, in its order: take() gives the next message, or null when the call ended with OK.
class Answers {
  constructor(call) {
    this.call = call;
    this.queue = [];
    this.waiting = [];
    call.on("data", (message) => this.put({ message }));
    call.on("error", (error) => this.put({ error }));
    call.on("end", () => this.put({ message: null }));
  }

  put(entry) {
    const waiting = this.waiting.shift();
    if (waiting) waiting(entry);
    else this.queue.push(entry);
  }

  async take() {
    const entry = this.queue.shift() ?? (await new Promise((resolve) => this.waiting.push(resolve)));
    if (entry.error) throw entry.error;
    return entry.message;
  }

  // How the call ends, once every message is read.
  async end() {
    try {
      while ((await this.take()) !== null);
      return { code: status.OK, details: "" };
    } catch (error) {
      return error;
    }
  }
}

class Client {
  constructor(endpoint) {
    const credentials = grpc.credentials.createInsecure();
    this.kv = new api.KV(endpoint, credentials, OPTIONS);
    // One connection for all three services, as the other clients of this script have.
    const shared = { ...OPTIONS, channelOverride: this.kv.getChannel() };
    this.watches = new api.Watch(endpoint, credentials, shared);
    this.lease = new api.Lease(endpoint, credentials, shared);
  }

  ready() {
    return new Promise((resolve, reject) =>
      this.kv.waitForReady(Date.now() + 20_000, (error) => (error ? reject(error) : resolve())),
    );
  }

  unary(service, method, request, patience = 20_000) {
    return new Promise((resolve, reject) =>
      service[method](request, { deadline: Date.now() + patience }, (error, answer) => (error ? reject(error) : resolve(answer))),
    );
  }

  put(key, value, fields = {}) {
    return this.unary(this.kv, "Put", { key: Buffer.from(key), value: Buffer.from(value), ...fields });
  }

  range(key, fields = {}, patience = 20_000) {
    return this.unary(this.kv, "Range", { key: Buffer.from(key), ...fields }, patience);
  }

  async usable() {
    check((await this.range("none")).count === "0", "the connection is harmed");
  }

  async refused(method, request, code, text) {
    let answer;
    try {
      answer = await this.unary(this.kv, method, request);
    } catch (e) {
      check(e.code === code && e.details === text, `${show(e)}, not ${status[code]} ${JSON.stringify(text)}`);
      return;
    }
    throw new Failed(`${JSON.stringify(answer)} where ${JSON.stringify(text)} is due`);
  }

  // An open Watch call with one watcher, whose created response is taken.
  async watch(create, patience = PATIENCE) {
    const answers = new Answers(this.watches.Watch({ deadline: Date.now() + patience }));
    answers.call.write({ create_request: create });
    const created = await answers.take();
    check(created.created && created.watch_id === "0", `created: ${JSON.stringify(created)}`);
    return answers;
  }
}

async function unary(c) {
  const first = await c.put("unary", "1");
  const second = await c.put("unary", "2", { prev_kv: true });
  check(Number(second.header.revision) === Number(first.header.revision) + 1, "two puts are not one revision apart");
  check(second.prev_kv.value.toString() === "1", "the previous value is wrong");
  const got = await c.range("unary");
  const right = got.count === "1" && got.kvs[0].value.toString() === "2" && got.kvs[0].mod_revision === second.header.revision;
  check(right, `range: ${JSON.stringify(got)}`);
  await c.refused("Range", {}, status.INVALID_ARGUMENT, "etcdserver: key is not provided");
  await c.refused("Range", { key: Buffer.from("a"), revision: 2 ** 40 }, status.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision");
  await c.refused("Put", { key: Buffer.from("a"), lease: 12345 }, status.NOT_FOUND, "etcdserver: requested lease not found");
}

async function server_stream(c) {
  for (let i = 0; i < 100; i++) await c.put(`stream/${String(i).padStart(3, "0")}`, String(i));
  const call = c.kv.RangeStream({ key: Buffer.from("stream/"), range_end: Buffer.from("stream0") }, { deadline: Date.now() + 20_000 });
  const answers = new Answers(call);
  const parts = [];
  for (let part; (part = await answers.take()) !== null; ) parts.push(part.range_response);
  const values = parts.flatMap((part) => part.kvs.map((kv) => kv.value.toString()));
  check(values.length === 100 && values.every((value, i) => value === String(i)), "the keys are not all there in order");
  check(parts.length > 1, "100 keys in one message");
  const last = parts.pop();
  check(last.count === "100" && last.header !== null, "the last message has no count or header");
  check(!parts.some((part) => part.header !== null || part.count !== "0" || part.more), "a header, count or more before the last message");
}

async function two_way_stream(c) {
  const watch = await c.watch({ key: Buffer.from("two-way") });
  for (let i = 0; i < 200; i++) await c.put("two-way", String(i));
  for (let seen = 0; seen < 200; ) {
    for (const event of (await watch.take()).events) {
      check(event.kv.value.toString() === String(seen), `event ${seen} is of ${event.kv.value}`);
      seen++;
    }
  }
  watch.call.write({ cancel_request: { watch_id: 0 } });
  check((await watch.take()).canceled, "no answer to a cancel request");
  watch.call.cancel();
  await watch.end();

  const lease = await c.unary(c.lease, "LeaseGrant", { TTL: 100 });
  const keep = new Answers(c.lease.LeaseKeepAlive({ deadline: Date.now() + 20_000 }));
  for (const [id, ttl] of [[lease.ID, "100"], ["424242", "0"], [lease.ID, "100"]]) {
    keep.call.write({ ID: id });
    const answer = await keep.take();
    check(answer.ID === id && answer.TTL === ttl, `keep-alive of ${id} answers ${JSON.stringify(answer)}`);
  }
  keep.call.end();
  const ended = await keep.end();
  check(ended.code === status.OK, `keep-alive ends with ${show(ended)}`);
}

async function deadline(c) {
  // The server's clock may run out first: it then resets the stream, which grpc-js shows as cancelled.
  const overdue = (e) => [status.DEADLINE_EXCEEDED, status.CANCELLED].includes(e.code) || (options.old && e.code === status.UNKNOWN);
  const watch = await c.watch({ key: Buffer.from("deadline") }, 500);
  const start = Date.now();
  const ended = await watch.end();
  check(overdue(ended), `a watch past its deadline ends with ${show(ended)}`);
  check(Date.now() - start < 5_000, "the deadline came late");
  for (let i = 0; i < 20; i++) {
    try {
      await c.range("none", {}, i / 4);
    } catch (e) {
      check(overdue(e), `a read past its deadline ends with ${show(e)}`);
    }
  }
  await c.usable();
}

async function cancel(c) {
  await c.put("cancel", "x".repeat(1000));
  for (let i = 0; i < 50; i++) {
    const watch = await c.watch({ key: Buffer.from("cancel"), start_revision: 1 });
    check((await watch.take()).events.length === 1, "not one event");
    watch.call.cancel();
    const ended = await watch.end();
    check(ended.code === status.CANCELLED, `a cancelled watch ends with ${show(ended)}`);
  }
  await c.usable();
}

async function large_response(c) {
  const value = Buffer.from(Uint8Array.from({ length: 512 << 10 }, (_, i) => i));
  for (let i = 0; i < 5; i++) await c.put(`large/${i}`, value);
  const got = await c.range("large/", { range_end: Buffer.from("large0") });
  const size = c.kv.Range.responseSerialize(got).length;
  check(size > 2 << 20 && got.kvs.length === 5 && got.kvs.every((kv) => kv.value.equals(value)), "a large answer is damaged");
}

async function size_limits(c) {
  const tooLarge = [status.INVALID_ARGUMENT, "etcdserver: request is too large"];
  const put = (size) => ({ key: Buffer.from("limit"), value: Buffer.alloc(size, "x") });
  const probe = LIMIT_MESSAGE - 100; // as many bytes for its length as the real ones have
  const empty = c.kv.Put.requestSerialize(put(probe)).length - probe;
  await c.unary(c.kv, "Put", put(LIMIT_ENTRY - 200));
  await c.refused("Put", put(LIMIT_ENTRY), ...tooLarge);
  await c.refused("Put", put(LIMIT_MESSAGE - empty), ...tooLarge);
  const text = `grpc: received message larger than max (${LIMIT_MESSAGE + 1} vs. ${LIMIT_MESSAGE})`;
  await c.refused("Put", put(LIMIT_MESSAGE + 1 - empty), status.RESOURCE_EXHAUSTED, text);
  check((await c.range("limit", { count_only: true })).count === "1", "the connection is harmed");
}

async function many_streams(c) {
  const opening = Array.from({ length: 1000 }, () => c.watch({ key: Buffer.from("many") }));
  const watches = await Promise.all(opening);
  await c.put("many", "all of you");
  for (const watch of watches) {
    const { events } = await watch.take();
    check(events.length === 1 && events[0].kv.value.toString() === "all of you", `a watch was told ${JSON.stringify(events)}`);
  }
  for (const watch of watches) watch.call.cancel();
  await Promise.all(watches.map((watch) => watch.end()));
  await c.usable();
}

async function sigterm(c) {
  const watch = await c.watch({ key: Buffer.from("sigterm") });
  let passed = 0;
  const write = async () => {
    for (;;) {
      try {
        await c.put("other", "x");
        passed++;
      } catch (e) {
        return e;
      }
    }
  };
  const writer = write();
  while (passed < 20) {
    const early = await Promise.race([writer, sleep(1)]);
    check(!early, `a put before SIGTERM: ${show(early)}`);
  }
  process.kill(Number(options.pid), "SIGTERM");
  const ended = await watch.end();
  check([status.OK, status.UNAVAILABLE].includes(ended.code), `the open watch ends with ${show(ended)}`);
  const last = await Promise.race([writer, sleep(30_000)]);
  check(last, "a put hangs after SIGTERM");
  check(last.code === status.UNAVAILABLE, `the last put ends with ${show(last)}`);
}

async function main() {
  const client = new Client(options.endpoint);
  await client.ready();
  const cases = [unary, server_stream, two_way_stream, deadline, cancel, large_response, size_limits, many_streams, sigterm];
  let passed = 0;
  let failed = 0;
  for (const run of cases) {
    if ((run === server_stream && options.old) || (run === sigterm && !options.pid)) continue;
    const hangs = sleep(PATIENCE).then(() => Promise.reject(new Failed("hangs")));
    try {
      await Promise.race([run(client), hangs]);
      passed++;
      console.log(`ok      ${run.name}`);
    } catch (e) {
      failed++;
      console.log(`FAILED  ${run.name}: ${e instanceof Failed ? e.message : show(e)}`);
    }
    hangs.catch(() => {});
  }
  console.log(`grpc-js: ${passed} passed, ${failed} failed`);
  // Calls of a failed case may still be open.
  process.exit(failed ? 1 : 0);
}

main().catch((e) => {
  console.log(show(e));
  process.exit(2);
});
