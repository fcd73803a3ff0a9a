// Push or sell listings from Node, without any package: node push.mjs push ACCOUNT LISTINGS.json | sell ACCOUNT REF...
//
// $REDIS_URL is the workers' redis.url: redis://[[user]:password@]host[:port][/db], rediss:// (TLS; ?ssl_ca_certs=FILE
// names the authority) or unix:///path. LISTINGS.json holds a list of listings in the marketplace's write shape. With
// "push ACCOUNT REF..." a worker reads them from the account's source.
//
// One transaction (MULTI ... EXEC) writes the message, Celery's protocol 2 in JSON, and under the same id an entry of the
// outbox and the record that outcomes are added to. A worker deletes the entry when it picks the request up. If the
// message is lost, the watchdog finds the entry and sends the request again; one that arrives twice is executed once.

import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import net from "node:net";
import tls from "node:tls";

const PREFIX = process.env.OKASIE_KEY_PREFIX ?? "okasie:"; // the workers' redis.key_prefix
const EXPIRES_SECONDS = 3600; // older requests are dropped
const KEEP_SECONDS = 24 * 3600; // the record of a request
const TIMEOUT_MS = 2000; // without an answer

/** The message on the queue: what `celery.send_task` would put there. It has no `expires`: the outbox has it. */
export function message(id, task, queue, kwargs) {
  return JSON.stringify({
    body: JSON.stringify([[], kwargs, { callbacks: null, errbacks: null, chain: null, chord: null }]),
    "content-type": "application/json",
    "content-encoding": "utf-8",
    headers: {
      lang: "js", task, id, root_id: id, ignore_result: true,
      argsrepr: `${kwargs.account}: ${task.replace("okasie.", "")}, from Node`, // shown in Flower
      kwargsrepr: `{'account': '${kwargs.account}'}`,
    },
    properties: {
      correlation_id: id, delivery_tag: randomUUID(), delivery_mode: 2,
      delivery_info: { exchange: "", routing_key: queue },
    },
  });
}

/** Commands to Redis over one connection; `send` resolves with the reply and rejects with errors of the server. */
export function connect(url) {
  const { protocol, hostname, port, username, password, pathname, searchParams } = new URL(url);
  const local = protocol === "unix:";
  const address = local ? { path: pathname } : { host: hostname, port: Number(port || 6379) };
  const authority = searchParams.get("ssl_ca_certs");
  const socket = protocol === "rediss:"
    ? tls.connect({ ...address, servername: net.isIP(hostname) ? "" : hostname, ...(authority && { ca: readFileSync(authority) }) })
    : net.connect(address);
  const waiting = [];
  let buffer = Buffer.alloc(0);
  let broken = null;
  const fail = (error) => { broken ??= error; while (waiting.length) waiting.shift().reject(broken); };
  socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Error(`Redis did not answer within ${TIMEOUT_MS} ms`)));
  socket.on("data", (more) => {
    buffer = Buffer.concat([buffer, more]);
    for (let found; waiting.length && (found = read(buffer, 0)); ) {
      buffer = buffer.subarray(found.end);
      const { resolve, reject } = waiting.shift();
      if (found.value instanceof Error) reject(found.value); else resolve(found.value);
    }
  });
  socket.on("error", fail);
  socket.on("close", () => fail(new Error("Redis closed the connection")));
  const send = (...words) => new Promise((resolve, reject) => {
    if (broken) return reject(broken);
    waiting.push({ resolve, reject });
    const parts = words.map(String).map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`);
    socket.write(`*${words.length}\r\n${parts.join("")}`);
  });
  const begin = async () => {
    if (password) await send("AUTH", ...[username, password].filter(Boolean).map(decodeURIComponent));
    const database = local ? 0 : Number(pathname.slice(1) || 0);
    if (database) await send("SELECT", database);
  };
  return { send, begin, end: () => socket.end() };
}

/** One RESP reply from `at`, or null while it is incomplete. */
function read(buffer, at) {
  const line = buffer.indexOf("\r\n", at);
  if (line < 0) return null;
  const [kind, text, end] = [String.fromCharCode(buffer[at]), buffer.toString("utf8", at + 1, line), line + 2];
  if (kind === "+") return { value: text, end };
  if (kind === "-") return { value: new Error(text), end };
  if (kind === ":") return { value: Number(text), end };
  const length = Number(text);
  if (length < 0) return { value: null, end };
  if (kind === "$") {
    if (buffer.length < end + length + 2) return null;
    return { value: buffer.toString("utf8", end, end + length), end: end + length + 2 };
  }
  const values = [];
  let next = end;
  for (let index = 0; index < length; index += 1) {
    const found = read(buffer, next);
    if (!found) return null;
    values.push(found.value);
    next = found.end;
  }
  return { value: values, end: next };
}

/** Enqueue a task; returns its id once Redis has it. */
export async function enqueue(redis, task, queue, kwargs) {
  const id = randomUUID();
  const [seconds, micros] = await redis.send("TIME"); // only Redis time is compared
  const now = Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);
  const until = now + EXPIRES_SECONDS * 1000;
  await redis.send("MULTI");
  const queued = [
    redis.send("HSET", `${PREFIX}push:${id}`, "task", task, "account", kwargs.account, "by", "node", "made", now),
    redis.send("EXPIRE", `${PREFIX}push:${id}`, KEEP_SECONDS),
    redis.send("HSET", `${PREFIX}outbox`, id, JSON.stringify({ task, kwargs, at_ms: now, expires_ms: until })),
    redis.send("ZADD", `${PREFIX}outbox:sent`, now, id),
    redis.send("EXPIRE", `${PREFIX}outbox`, EXPIRES_SECONDS + 3600),
    redis.send("EXPIRE", `${PREFIX}outbox:sent`, EXPIRES_SECONDS + 3600),
    redis.send("LPUSH", queue, message(id, task, queue, kwargs)),
  ];
  await Promise.all(queued);
  await redis.send("EXEC");
  return id;
}

const [kind, account, ...rest] = process.argv.slice(2);
if (!["push", "sell"].includes(kind) || !account || !rest.length) {
  console.error("usage: node push.mjs push ACCOUNT LISTINGS.json|REF...   or   node push.mjs sell ACCOUNT REF...");
  process.exit(2);
}
const kwargs = { account };
if (kind === "push" && rest[0].endsWith(".json")) {
  kwargs.listings = JSON.parse(readFileSync(rest[0], "utf8"));
  kwargs.version = Date.now(); // your version, e.g. the row's change time in ms: an older one never overwrites a newer one
} else {
  kwargs.references = rest;
}
const redis = connect(process.env.REDIS_URL ?? "redis://127.0.0.1:6379/0");
await redis.begin();
console.log(await enqueue(redis, `okasie.${kind}`, "okasie.urgent", kwargs));
redis.end();
