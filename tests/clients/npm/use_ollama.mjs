// Tests the official package `ollama` with the daemon.

import assert from "node:assert/strict";
import { Ollama } from "ollama";
import { MODEL, QUESTION, example, url, wanted } from "./common.mjs";

const client = new Ollama({ host: url });
const greedy = { model: MODEL, options: { temperature: 0 } };

const chat = await client.chat({ ...greedy, messages: QUESTION });
assert.match(chat.message.content, /Rome/);
assert.equal(chat.done_reason, "stop");

let text = "";
for await (const part of await client.chat({ ...greedy, messages: QUESTION, stream: true })) text += part.message.content;
assert.equal(text, chat.message.content);

const called = await client.chat({ ...greedy, messages: example.messages, tools: example.tools });
const [call] = called.message.tool_calls;
assert.deepEqual({ name: call.function.name, arguments: call.function.arguments }, wanted);

const { embeddings } = await client.embed({ model: MODEL, input: ["a cat", "a dog"] });
assert.equal(embeddings.length, 2);
const { models } = await client.list();
assert.ok(models.some((model) => model.name === `${MODEL}:latest`));
assert.ok((await client.show({ model: MODEL })).capabilities.includes("completion"));

await assert.rejects(client.chat({ model: "nope", messages: QUESTION }), { status_code: 404 });
console.log("ok");
