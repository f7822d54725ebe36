// Calls what applications call most, with both SDKs, each thing once, streaming and not.
//
// Addresses and keys come from the environment, as the SDKs read them themselves: OPENAI_BASE_URL, OPENAI_API_KEY,
// ANTHROPIC_BASE_URL, ANTHROPIC_API_KEY. Prints one JSON line and ends with 1 if anything failed.
//
// Options: --only openai|anthropic, --openai-model, --embedding-model, --anthropic-model

import { parseArgs } from "node:util";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { describe } from "./describe.mjs";

const { values: options } = parseArgs({
  options: {
    only: { type: "string" },
    "openai-model": { type: "string", default: "gpt-4o-mini" },
    "embedding-model": { type: "string", default: "text-embedding-3-small" },
    "anthropic-model": { type: "string", default: "claude-3-haiku-20240307" },
  },
});
const messages = [{ role: "user", content: "Say hello." }];

/** Collects the texts of a stream; `last` says whether an event is the one that must come. */
async function collect(stream, textOf, last) {
  let text = "";
  let complete = false;
  for await (const event of stream) {
    text += textOf(event) ?? "";
    complete ||= last(event);
  }
  if (!complete) throw new Error("the stream did not come to its end");
  return text;
}

const model = options["openai-model"];
const openaiCalls = {
  chat: [
    (client) => client.chat.completions.create({ model, messages }),
    (answer) => answer.choices[0].message.content,
  ],
  chat_stream: [
    (client) =>
      client.chat.completions.create({ model, messages, stream: true, stream_options: { include_usage: true } }),
    (stream) => collect(stream, (chunk) => chunk.choices[0]?.delta.content, (chunk) => Boolean(chunk.usage)),
  ],
  responses: [
    (client) => client.responses.create({ model, input: "Say hello." }),
    (answer) => answer.output_text,
  ],
  responses_stream: [
    (client) => client.responses.create({ model, input: "Say hello.", stream: true }),
    (stream) =>
      collect(
        stream,
        (event) => (event.type === "response.output_text.delta" ? event.delta : ""),
        (event) => event.type === "response.completed",
      ),
  ],
  embeddings: [
    (client) => client.embeddings.create({ model: options["embedding-model"], input: ["one", "two"] }),
    (answer) => `${answer.data.length} embeddings`,
  ],
  models: [(client) => client.models.list(), (page) => `${page.data.length} models`],
};

const ask = { model: options["anthropic-model"], messages };
const anthropicCalls = {
  messages: [
    (client) => client.messages.create({ ...ask, max_tokens: 100 }),
    (answer) => answer.content[0].text,
  ],
  messages_stream: [
    (client) => client.messages.create({ ...ask, max_tokens: 100, stream: true }),
    (stream) =>
      collect(
        stream,
        (event) => (event.type === "content_block_delta" ? event.delta.text : ""),
        (event) => event.type === "message_stop",
      ),
  ],
  count_tokens: [(client) => client.messages.countTokens(ask), (count) => `${count.input_tokens} tokens`],
  models: [(client) => client.models.list(), (page) => `${page.data.length} models`],
};

async function run(vendor, client, name, [call, textOf]) {
  const outcome = { name: `${vendor}.${name}`, ok: false, error: null, text: null };
  let headers;
  try {
    const { data, response } = await call(client).withResponse();
    headers = response.headers;
    outcome.text = await textOf(data);
    outcome.ok = Boolean(outcome.text);
  } catch (error) {
    outcome.error = describe(error);
    headers ??= error.headers;
  }
  outcome.arm = headers?.get("x-bf-arm") ?? null;
  outcome.reason = headers?.get("x-bf-arm-reason") ?? null;
  outcome.request_id = headers?.get("x-bf-request-id") ?? null;
  return outcome;
}

const results = [];
const suites = [
  ["openai", () => new OpenAI({ maxRetries: 0 }), openaiCalls],
  ["anthropic", () => new Anthropic({ maxRetries: 0 }), anthropicCalls],
];
for (const [vendor, connect, calls] of suites) {
  if (options.only && options.only !== vendor) continue;
  const client = connect();
  for (const [name, call] of Object.entries(calls)) results.push(await run(vendor, client, name, call));
}
const ok = results.every((result) => result.ok);
console.log(JSON.stringify({ language: "js", node: process.version, ok, results }));
process.exit(ok ? 0 : 1);
