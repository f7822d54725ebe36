// The example application: asks both vendors something every couple of seconds and says which arm answered.
//
// It knows nothing of the gateway. Addresses and keys come from the environment (envFrom in its Deployment):
// OPENAI_BASE_URL, OPENAI_API_KEY, ANTHROPIC_BASE_URL, ANTHROPIC_API_KEY. INTERVAL_MS sets the pace (default 2000).
//
// `app.mjs --once N` sends N requests of each SDK instead, and prints how they were split.

import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { describe } from "./describe.mjs";

const { values: options } = parseArgs({ options: { once: { type: "string" } } });
// With --once failures are counted: none may be hidden by a retry.
const settings = options.once ? { maxRetries: 0 } : {};
const openai = new OpenAI(settings);
const anthropic = new Anthropic(settings);
const content = "Tell me something nice.";

const apps = {
  openai: (user) =>
    openai.chat.completions
      .create({ model: process.env.OPENAI_MODEL ?? "gpt-4o-mini", user, messages: [{ role: "user", content }] })
      .withResponse(),
  anthropic: (user_id) =>
    anthropic.messages
      .create({
        model: process.env.ANTHROPIC_MODEL ?? "claude-3-haiku-20240307",
        max_tokens: 100,
        metadata: { user_id },
        messages: [{ role: "user", content }],
      })
      .withResponse(),
};

/** One request of a user; says which arm served it, or that it failed. */
async function ask(vendor, user) {
  const start = performance.now();
  let arm;
  let error;
  try {
    const { response } = await apps[vendor](user);
    arm = response.headers.get("x-bf-arm") ?? "direct";
  } catch (thrown) {
    arm = thrown.headers?.get("x-bf-arm") ?? "none";
    error = describe(thrown);
  }
  return { vendor, user, arm, ms: Math.round(performance.now() - start), ...(error && { error }) };
}

function show({ vendor, user, arm, ms, error }) {
  const end = error ? `failed: ${error}` : "ok";
  console.log(`${new Date().toISOString()} ${vendor.padEnd(9)} ${user.padEnd(10)} arm=${arm.padEnd(8)} ${ms}ms ${end}`);
}

function summarise([vendor, { requests, failures, arms, first_error }]) {
  const shares = Object.entries(arms).map(([arm, n]) => `${n} ${arm} (${((100 * n) / requests).toFixed(1)} %)`);
  const failed = failures ? `${failures} failed, the first: ${first_error}` : "none failed";
  console.log(`${vendor.padEnd(9)} ${requests} requests by arm: ${shares.sort().join(", ")}; ${failed}`);
}

/** `count` users ask each vendor once, a few at a time. */
async function once(count) {
  const split = {};
  let next = 0;
  const worker = async () => {
    while (next < count) {
      const user = `user-${next++}`;
      for (const vendor of Object.keys(apps)) {
        const { arm, error } = await ask(vendor, user);
        const of = (split[vendor] ??= { requests: 0, failures: 0, arms: {} });
        of.requests += 1;
        of.failures += error ? 1 : 0;
        of.arms[arm] = (of.arms[arm] ?? 0) + 1;
        if (error) of.first_error ??= error;
      }
    }
  };
  await Promise.all(Array.from({ length: 16 }, worker));
  Object.entries(split).forEach(summarise);
  return Object.values(split).every((of) => of.failures === 0);
}

/** Goes on until SIGTERM; a request under way is waited for. */
async function forever() {
  const stop = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => stop.abort());
  const pace = Number(process.env.INTERVAL_MS ?? 2000);
  for (let turn = 0; !stop.signal.aborted; turn++) {
    const user = `user-${turn % 100}`;
    (await Promise.all(Object.keys(apps).map((vendor) => ask(vendor, user)))).forEach(show);
    await sleep(pace, undefined, { signal: stop.signal }).catch(() => {});
  }
}

if (options.once) {
  process.exit((await once(Number(options.once))) ? 0 : 1);
}
await forever();
