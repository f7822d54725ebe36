// Sends many requests with one SDK client and counts which arm and which revision served them.
//
// The client reads address and key from the environment. Retries are off: a failed request is a failure. Prints one
// JSON line: {requests, failures, first_error, arms: {bifrost, baseline, none}, reasons, revisions, statuses, seconds};
// arms, reasons, revisions and statuses count every answer whose head came, also one that failed later.
//
// Options: --requests N or --duration SECONDS, --concurrency C, --users fixed|none (fixed: user-0 to user-(N-1)),
// --first-user N, --api chat|responses|messages, --model M, --stream, --prompt TEXT

import { parseArgs } from "node:util";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { describe } from "./describe.mjs";

const { values: options } = parseArgs({
  options: {
    requests: { type: "string", default: "1000" },
    concurrency: { type: "string", default: "32" },
    users: { type: "string", default: "none" },
    "first-user": { type: "string", default: "0" },
    api: { type: "string", default: "chat" },
    model: { type: "string" },
    stream: { type: "boolean", default: false },
    prompt: { type: "string", default: "Say hello." },
    duration: { type: "string" },
  },
});
const requests = Number(options.requests);
const duration = options.duration && Number(options.duration) * 1000;
const firstUser = Number(options["first-user"]);
const messages = [{ role: "user", content: options.prompt }];

/** For each API: the client, a small model, the call, what names the user, and whether an event ends a stream. */
const apis = {
  chat: {
    connect: () => new OpenAI({ maxRetries: 0 }),
    model: "gpt-4o-mini",
    call: (client, body) => client.chat.completions.create({ ...body, messages }),
    user: (user) => ({ user }),
    ends: (chunk) => Boolean(chunk.choices[0]?.finish_reason),
  },
  responses: {
    connect: () => new OpenAI({ maxRetries: 0 }),
    model: "gpt-4o-mini",
    call: (client, body) => client.responses.create({ ...body, input: options.prompt }),
    user: (user) => ({ user }),
    ends: (event) => event.type === "response.completed",
  },
  messages: {
    connect: () => new Anthropic({ maxRetries: 0 }),
    model: "claude-3-haiku-20240307",
    call: (client, body) => client.messages.create({ ...body, messages, max_tokens: 100 }),
    user: (user_id) => ({ metadata: { user_id } }),
    ends: (event) => event.type === "message_stop",
  },
};
const api = apis[options.api];
if (!api) throw new Error(`--api is one of ${Object.keys(apis).join(", ")}`);

const tally = {
  language: "js",
  requests: 0,
  failures: 0,
  first_error: null,
  arms: { bifrost: 0, baseline: 0, none: 0 },
  reasons: {},
  revisions: {},
  statuses: {},
};

function add(counts, name) {
  counts[name] = (counts[name] ?? 0) + 1;
}

function served(headers, status) {
  add(tally.arms, headers.get("x-bf-arm") ?? "none");
  add(tally.statuses, status);
  const reason = headers.get("x-bf-arm-reason");
  if (reason) add(tally.reasons, reason);
  const revision = headers.get("x-bf-revision");
  if (revision) add(tally.revisions, revision);
}

async function one(client, number) {
  const body = { model: options.model ?? api.model, stream: options.stream };
  if (options.users === "fixed") Object.assign(body, api.user(`user-${firstUser + number}`));
  let head;
  try {
    const { data, response } = await api.call(client, body).withResponse();
    head = response;
    if (options.stream) {
      let ended = false;
      for await (const event of data) ended ||= api.ends(event);
      // A stream that was cut may end without an error of its own.
      if (!ended) throw new Error("the stream did not come to its end");
    }
  } catch (error) {
    tally.failures += 1;
    tally.first_error ??= describe(error);
    head ??= error.headers && error;
  }
  if (head) served(head.headers, head.status);
}

const client = api.connect();
const start = performance.now();

async function worker() {
  while (duration ? performance.now() - start < duration : tally.requests < requests) {
    const number = tally.requests;
    tally.requests += 1;
    await one(client, number);
  }
}

await Promise.all(Array.from({ length: Number(options.concurrency) }, worker));
tally.seconds = Math.round(performance.now() - start) / 1000;
console.log(JSON.stringify(tally));
