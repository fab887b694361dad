// What the scripts have in common: their arguments, and a question of which the answer is known.
// usage: use_….mjs URL TOOL_CALL
// TOOL_CALL is a line of JSON: a conversation, tools, and the expected call.

export const MODEL = "hearth-demo-q8_0";
export const QUESTION = [{ role: "user", content: "What is the capital of Italy?" }];
export const url = process.argv[2];
export const example = JSON.parse(process.argv[3]);
export const functions = example.tools.map((tool) => tool.function);
export const wanted = example.accept_call;
