"""Tests the official package `ollama` with the daemon.

usage: use_ollama.py URL SOCKET TOOL_CALL

TOOL_CALL is a line of JSON: a conversation, tools, and the expected call.
"""

import asyncio
import datetime
import json
import sys

import httpx
import ollama

MODEL = "hearth-demo-q8_0:latest"
QUESTION = [{"role": "user", "content": "What is the capital of Italy?"}]
GREEDY = {"temperature": 0}


def refused(status, call):
    try:
        call()
    except ollama.ResponseError as error:
        assert error.status_code == status, error
        return error.error
    raise AssertionError("it was not refused")


def check(client, example):
    listed = {model.model: model for model in client.list().models}
    assert listed[MODEL].details.family == "llama", listed
    assert "completion" in client.show(MODEL).capabilities

    answer = client.chat(MODEL, QUESTION, options=GREEDY)
    assert "Rome" in answer.message.content, answer
    assert answer.done and answer.done_reason == "stop" and answer.eval_count > 2
    parts = list(client.chat(MODEL, QUESTION, options=GREEDY, stream=True, keep_alive=-1.0))
    assert "".join(part.message.content for part in parts) == answer.message.content
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]

    [running] = client.ps().models
    now = datetime.datetime.now(datetime.timezone.utc)
    assert running.model == MODEL and running.expires_at.year > now.year + 50, running

    said = client.generate(MODEL, QUESTION[0]["content"], options=GREEDY)
    assert "Rome" in said.response, said
    *_, last = client.generate(MODEL, "One two", raw=True, stream=True, options={"num_predict": 3})
    assert last.done and last.eval_count <= 3, last

    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9, "minimum": 0}},
              "required": ["n"], "additionalProperties": False}
    formed = client.chat(MODEL, QUESTION, format=schema, think=False)
    assert 0 <= json.loads(formed.message.content)["n"] <= 9, formed

    called = client.chat(MODEL, example["messages"], tools=example["tools"], options=GREEDY)
    [call] = called.message.tool_calls
    wanted = example["accept_call"]
    assert (call.function.name, call.function.arguments) == (wanted["name"], wanted["arguments"])
    # The tool's result is sent back without the name of the tool.
    messages = [*example["messages"], called.message, {"role": "tool", "content": "done"}]
    assert client.chat(MODEL, messages, tools=example["tools"]).done

    vectors = client.embed(MODEL, ["a cat", "a dog"]).embeddings
    assert len(vectors) == 2 and len(vectors[0]) == len(client.embeddings(MODEL, "a cat").embedding)

    assert client.pull(MODEL).status == "success"
    assert [p.status for p in client.pull(MODEL, stream=True)][-1] == "success"
    assert "hearthctl pull ollama:nope" in refused(404, lambda: client.pull("nope"))
    assert "nope" in refused(404, lambda: client.chat("nope", QUESTION))
    assert "nope" in refused(404, lambda: next(client.chat("nope", QUESTION, stream=True)))
    assert "`options.temperature`" in refused(400, lambda: client.chat(MODEL, QUESTION, options={"temperature": "hot"}))

    assert client.generate(MODEL, keep_alive="5m").done_reason == "load"
    assert client.chat(MODEL, keep_alive=0).done_reason == "unload"


async def check_async(url):
    """Uses the client as Home Assistant does."""
    client = ollama.AsyncClient(host=url)
    parts = await client.chat(model=MODEL, messages=QUESTION, stream=True, keep_alive="300s", options=GREEDY)
    assert "Rome" in "".join([part.message.content async for part in parts])
    # Closed in the middle of an answer; the next one is not affected.
    parts = await client.chat(model=MODEL, messages=QUESTION, stream=True)
    await anext(parts)
    await parts.aclose()
    answers = await asyncio.gather(*(client.chat(MODEL, QUESTION, options=GREEDY) for _ in range(3)))
    assert all("Rome" in answer.message.content for answer in answers)


def check_strangers(url):
    """A page of another site must not get access by DNS rebinding."""
    answer = httpx.get(f"{url}/api/tags", headers={"Host": "example.com"})
    assert answer.status_code == 403 and "localhost" in answer.json()["error"], answer


url, path, line = sys.argv[1:]
example = json.loads(line)
check(ollama.Client(host=url), example)
check(ollama.Client(host="http://localhost", transport=httpx.HTTPTransport(uds=path)), example)
asyncio.run(check_async(url))
check_strangers(url)
print("ok")
