// Tests the official package `@anthropic-ai/sdk` with the daemon.

import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import { MODEL, QUESTION, example, functions, url, wanted } from "./common.mjs";

const client = new Anthropic({ baseURL: url, apiKey: "none" });
const greedy = { model: MODEL, max_tokens: 60, temperature: 0 };

const message = await client.messages.create({ ...greedy, messages: QUESTION });
assert.match(message.content[0].text, /Rome/);
assert.equal(message.stop_reason, "end_turn");

const stream = client.messages.stream({ ...greedy, messages: QUESTION });
let text = "";
stream.on("text", (more) => (text += more));
const streamed = await stream.finalMessage();
assert.equal(text, message.content[0].text);
assert.equal(streamed.usage.output_tokens, message.usage.output_tokens);

const counted = await client.messages.countTokens({ model: MODEL, messages: QUESTION });
const { input_tokens, cache_read_input_tokens } = message.usage;
assert.equal(counted.input_tokens, input_tokens + cache_read_input_tokens);

const tools = functions.map(({ name, description, parameters }) => ({ name, description, input_schema: parameters }));
const ask = { ...greedy, messages: example.messages, tools };
const called = await client.messages.create(ask);
const calledInStream = await client.messages.stream(ask).finalMessage();
for (const { content, stop_reason } of [called, calledInStream]) {
  const [{ name, input }] = content.filter((block) => block.type === "tool_use");
  assert.deepEqual({ name, arguments: input }, wanted);
  assert.equal(stop_reason, "tool_use");
}

await assert.rejects(client.messages.create({ ...greedy, model: "claude-x", messages: QUESTION }), (error) => {
  assert.ok(error instanceof Anthropic.NotFoundError, String(error));
  assert.equal(error.error.error.type, "not_found_error");
  return true;
});
const models = [];
for await (const model of client.models.list()) models.push(model.id);
assert.ok(models.includes(MODEL), models.join());
console.log("ok");
