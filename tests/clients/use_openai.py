"""The official package `openai` against the daemon.

usage: use_openai.py URL SOCKET TOOL_CALL
"""

import json
import sys

import httpx
import openai

MODEL = "hearth-demo-q8_0"
QUESTION = [{"role": "user", "content": "What is the capital of Italy?"}]


def check(client, example):
    assert MODEL in [model.id for model in client.models.list()]
    chat = client.chat.completions.create
    answer = chat(model=MODEL, messages=QUESTION, temperature=0)
    assert "Rome" in answer.choices[0].message.content, answer
    chunks = chat(model=MODEL, messages=QUESTION, temperature=0, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == answer.choices[0].message.content

    called = chat(model=MODEL, messages=example["messages"], tools=example["tools"], temperature=0)
    [call] = called.choices[0].message.tool_calls
    wanted = example["accept_call"]
    assert (call.function.name, json.loads(call.function.arguments)) == (wanted["name"], wanted["arguments"])

    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    formed = chat(model=MODEL, messages=QUESTION, response_format=form)
    assert json.loads(formed.choices[0].message.content)["n"] in (1, 2)

    vectors = client.embeddings.create(model=MODEL, input=["a cat", "a dog"]).data
    assert len(vectors) == 2 and len(vectors[0].embedding) > 8
    try:
        chat(model="nope", messages=QUESTION)
    except openai.NotFoundError as error:
        assert error.code == "model_not_found", error
    else:
        raise AssertionError("it was not refused")


url, path, line = sys.argv[1:]
example = json.loads(line)
check(openai.OpenAI(base_url=f"{url}/v1", api_key="none"), example)
over_socket = httpx.Client(transport=httpx.HTTPTransport(uds=path))
check(openai.OpenAI(base_url="http://localhost/v1", api_key="none", http_client=over_socket), example)
print("ok")
