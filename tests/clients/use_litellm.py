"""Tests the package `litellm` over OpenAI's and Ollama's APIs.

usage: use_litellm.py URL MODEL
"""

import json
import os
import sys

# It would fetch its list of prices otherwise.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm

url, model = sys.argv[1:]
QUESTION = [{"role": "user", "content": "What is the weather in Paris? Use the tool."}]
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
OPENAI = {"model": f"openai/{model}", "api_base": f"{url}/v1", "api_key": "none", "temperature": 0}
OLLAMA = {"model": f"ollama_chat/{model}", "api_base": url, "temperature": 0}
GENERATE = {"model": f"ollama/{model}", "api_base": url, "temperature": 0}


def called(answer):
    [call] = answer.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Paris"}), answer


for how in (OPENAI, OLLAMA, GENERATE):
    said = litellm.completion(messages=[{"role": "user", "content": "Say hello."}], max_tokens=12, **how)
    assert said.choices[0].message.content and said.usage.completion_tokens > 0, said
    parts = litellm.completion(messages=[{"role": "user", "content": "Say hello."}], max_tokens=12, stream=True, **how)
    streamed = "".join(part.choices[0].delta.content or "" for part in parts)
    assert streamed == said.choices[0].message.content, (streamed, said)
for how in (OPENAI, OLLAMA):
    called(litellm.completion(messages=QUESTION, tools=[TOOL], **how))
    parts = list(litellm.completion(messages=QUESTION, tools=[TOOL], stream=True, **how))
    called(litellm.stream_chunk_builder(parts, messages=QUESTION))
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3, "maximum": 5}},
              "required": ["n"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "number", "schema": schema, "strict": True}}
    formed = litellm.completion(messages=[{"role": "user", "content": "Say a number."}], response_format=form, **how)
    assert 3 <= json.loads(formed.choices[0].message.content)["n"] <= 5, formed
for name, base in ((f"openai/{model}", f"{url}/v1"), (f"ollama/{model}", url)):
    made = litellm.embedding(model=name, input=["a cat", "a dog"], api_base=base, api_key="none")
    assert len(made.data) == 2 and len(made.data[0]["embedding"]) > 8, made
info = litellm.get_model_info(f"ollama/{model}", api_base=url)
assert info["supports_function_calling"], info
print("ok")
