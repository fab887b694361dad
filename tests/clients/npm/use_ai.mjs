// Tests Vercel's package `ai`, by its provider for services like OpenAI's, with the daemon.

import assert from "node:assert/strict";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embed, generateText, jsonSchema, streamText, tool } from "ai";
import { MODEL, QUESTION, example, functions, url, wanted } from "./common.mjs";

const provider = createOpenAICompatible({ name: "hearthd", baseURL: `${url}/v1` });
const greedy = { model: provider(MODEL), temperature: 0, maxRetries: 0 };

const answer = await generateText({ ...greedy, messages: QUESTION });
assert.match(answer.text, /Rome/);
assert.equal(answer.finishReason, "stop");

let text = "";
for await (const more of streamText({ ...greedy, messages: QUESTION }).textStream) text += more;
assert.equal(text, answer.text);

const tools = Object.fromEntries(
  functions.map(({ name, description, parameters }) => [name, tool({ description, inputSchema: jsonSchema(parameters) })]),
);
const called = await generateText({ ...greedy, messages: example.messages, tools });
const [call] = called.toolCalls;
assert.deepEqual({ name: call.toolName, arguments: call.input }, wanted);

const { embedding } = await embed({ model: provider.embeddingModel(MODEL), value: "a cat" });
assert.ok(embedding.length > 8);

await assert.rejects(generateText({ ...greedy, model: provider("nope"), messages: QUESTION }), { statusCode: 404 });
console.log("ok");
