// Tests the official package `openai` with the daemon.

import assert from "node:assert/strict";
import OpenAI from "openai";
import { MODEL, QUESTION, example, url, wanted } from "./common.mjs";

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none" });
const greedy = { model: MODEL, temperature: 0 };

const chat = await client.chat.completions.create({ ...greedy, messages: QUESTION });
const said = chat.choices[0].message.content;
assert.match(said, /Rome/);

const chunks = await client.chat.completions.create({ ...greedy, messages: QUESTION, stream: true });
let text = "";
for await (const chunk of chunks) text += chunk.choices[0]?.delta.content ?? "";
assert.equal(text, said);

const called = await client.chat.completions.create({ ...greedy, messages: example.messages, tools: example.tools });
const [call] = called.choices[0].message.tool_calls;
assert.deepEqual({ name: call.function.name, arguments: JSON.parse(call.function.arguments) }, wanted);

const response = await client.responses.create({ ...greedy, input: QUESTION });
assert.match(response.output_text, /Rome/);

const vectors = await client.embeddings.create({ model: MODEL, input: ["a cat", "a dog"] });
assert.equal(vectors.data.length, 2);
assert.ok(vectors.data[0].embedding.length > 8);

await assert.rejects(client.chat.completions.create({ model: "nope", messages: QUESTION }), (error) => {
  assert.ok(error instanceof OpenAI.NotFoundError, String(error));
  assert.equal(error.code, "model_not_found");
  return true;
});
console.log("ok");
