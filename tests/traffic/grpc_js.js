#!/usr/bin/env node
// What tests/traffic records of grpc-js; the cases are those of ../compat/go/trafficload. ETCHD_ORACLES/node holds
// the library.
"use strict";

const { createRequire } = require("node:module");
const path = require("node:path");
const { parseArgs } = require("node:util");

const ROOT = path.resolve(__dirname, "..", "..");
const ORACLES = process.env.ETCHD_ORACLES || path.join(ROOT, "build", "oracles");
const fetched = createRequire(path.join(ORACLES, "node", "node_modules", "x"));
const grpc = fetched("@grpc/grpc-js");
const loader = fetched("@grpc/proto-loader");
const { values: options } = parseArgs({ options: { endpoint: { type: "string" }, pid: { type: "string" } } });
const api = grpc.loadPackageDefinition(
  loader.loadSync("rpc.proto", { includeDirs: [path.join(ROOT, "schema", "etcd")], keepCase: true, longs: String }),
).etcdserverpb;

const connect = (Service) =>
  new Service(options.endpoint, grpc.credentials.createInsecure(), {
    "grpc.keepalive_time_ms": 5500,
    "grpc.keepalive_timeout_ms": 5000,
    "grpc.use_local_subchannel_pool": 1,
    "grpc.enable_retries": 0,
    "grpc.max_receive_message_length": -1,
  });
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const unary = (client, method, request, deadline) =>
  new Promise((resolve, reject) => {
    client[method](request, deadline ? { deadline: Date.now() + deadline } : {}, (error, answer) =>
      error ? reject(error) : resolve(answer),
    );
  });
const each = (count, call) => Promise.all(Array.from({ length: count }, (_, n) => call(n)));
const put = (client, key, bytes, deadline) =>
  unary(client, "Put", { key: Buffer.from(key), value: Buffer.alloc(bytes) }, deadline);

async function main() {
  const burst = connect(api.KV);
  for (let round = 0; round < 4; round++) await each(300, (n) => put(burst, `burst/${n}`, 64));
  burst.close();

  const large = connect(api.KV);
  await put(large, "large", 1 << 20);
  await each(64, () => unary(large, "Range", { key: Buffer.from("large") }));
  large.close();

  const [watch, kv] = [connect(api.Watch), connect(api.KV)];
  await each(100, async (n) => {
    const call = watch.Watch();
    call.on("error", () => {});
    const next = () => new Promise((resolve) => call.once("data", resolve));
    const created = next();
    call.write({ create_request: { key: Buffer.from(`watch/${n}`) } });
    await created;
    const told = next();
    await put(kv, `watch/${n}`, 64);
    await told;
    call.cancel();
  });
  await sleep(12_000);
  watch.close();
  kv.close();

  if (options.pid) {
    const outage = connect(api.KV);
    await put(outage, "before", 64);
    process.kill(Number(options.pid), "SIGSTOP");
    await each(1500, (n) => put(outage, `outage/${n}`, 64, 500).catch(() => {}));
    process.kill(Number(options.pid), "SIGCONT");
    await put(outage, "after", 64);
    outage.close();
  }
}

main();
