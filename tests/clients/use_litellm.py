"""Tests the package `litellm` with the daemon and a real model, over the APIs of OpenAI,
Anthropic and Ollama.

usage: use_litellm.py URL MODEL
"""

import json
import os
import sys

# Otherwise it fetches a list of prices when it is imported.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm  # noqa: E402

litellm.suppress_debug_info = True
QUESTION = [{"role": "user", "content": "What is the capital of Italy? Answer in one word."}]
WEATHER = [{"role": "user", "content": "How is the weather in Paris?"}]
PLACE = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather at a place", "parameters": PLACE}}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
FORM = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA, "strict": True}}


def check(name, base, **choice):
    def ask(messages, **more):
        return litellm.completion(
            model=name, api_base=base, api_key="none", messages=messages, temperature=0, max_tokens=100, **more
        )

    answer = ask(QUESTION)
    text = answer.choices[0].message.content
    assert "Rome" in text and answer.usage.completion_tokens > 0, (name, answer)
    parts = ask(QUESTION, stream=True)
    assert "".join(part.choices[0].delta.content or "" for part in parts) == text, name
    [call] = ask(WEATHER, tools=[TOOL], **choice).choices[0].message.tool_calls
    called = (call.function.name, json.loads(call.function.arguments))
    assert called == ("weather", {"place": "Paris"}), (name, called)
    city = json.loads(ask(QUESTION, response_format=FORM).choices[0].message.content)
    assert "Rome" in city["city"], (name, city)


url, model = sys.argv[1:]
check(f"openai/{model}", f"{url}/v1", tool_choice="required")
check(f"anthropic/{model}", url, tool_choice="required")
check(f"ollama_chat/{model}", url)
text = litellm.text_completion(
    model=f"text-completion-openai/{model}", api_base=f"{url}/v1", api_key="none",
    prompt="The capital of Italy is", temperature=0, max_tokens=5,
)
assert "Rome" in text.choices[0].text, text
for name, base in ((f"openai/{model}", f"{url}/v1"), (f"ollama/{model}", url)):
    vectors = litellm.embedding(model=name, api_base=base, api_key="none", input=["a cat", "a dog"]).data
    assert len(vectors) == 2 and len(vectors[0]["embedding"]) > 8, (name, vectors)
try:
    litellm.completion(model="openai/nope", api_base=f"{url}/v1", api_key="none", messages=QUESTION)
except litellm.NotFoundError as error:
    assert "there is no model" in str(error), error
else:
    raise AssertionError("it was not refused")
print("ok")
