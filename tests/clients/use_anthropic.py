"""Tests the official package `anthropic` with the daemon.

usage: use_anthropic.py URL SOCKET TOOL_CALL
"""

import json
import sys

import anthropic
import httpx2
import pydantic

MODEL = "hearth-demo-q8_0"
QUESTION = [{"role": "user", "content": "What is the capital of Italy?"}]
# The newest models of Anthropic take no temperature, and its client has no argument for it.
GREEDY = {"model": MODEL, "max_tokens": 60, "extra_body": {"temperature": 0}}


def refused(kind, name, call):
    try:
        call()
    except kind as error:
        assert error.body["type"] == "error" and error.body["error"]["type"] == name, error
        return error.body["error"]["message"]
    raise AssertionError(f"{name}: it was not refused")


def check_texts(client):
    message = client.messages.create(messages=QUESTION, **GREEDY)
    assert message._request_id.startswith("req_"), message
    [block] = message.content
    assert block.type == "text" and "Rome" in block.text, message
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)

    counted = client.messages.count_tokens(model=MODEL, messages=QUESTION)
    usage = message.usage
    assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens, (counted, usage)

    with client.messages.stream(messages=QUESTION, **GREEDY) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text == block.text
    assert final.usage.output_tokens == usage.output_tokens
    kinds = [event.type for event in client.messages.create(messages=QUESTION, stream=True, **GREEDY)]
    assert kinds[:2] == ["message_start", "content_block_start"], kinds
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"], kinds

    stopped = client.messages.create(messages=QUESTION, stop_sequences=["Rome"], **GREEDY)
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "Rome"), stopped
    assert "Rome" not in stopped.content[0].text
    cut = client.messages.create(messages=QUESTION, **GREEDY | {"max_tokens": 1})
    assert cut.stop_reason == "max_tokens", cut
    begun = [*QUESTION, {"role": "assistant", "content": "The capital of Italy is"}]
    continued = client.messages.create(messages=begun, system=[{"type": "text", "text": "Be brief."}], **GREEDY)
    assert not continued.content[0].text.startswith("The capital"), continued


def check_tools(client, example):
    tools = [
        {"name": f["name"], "description": f["description"], "input_schema": f["parameters"]}
        for f in (tool["function"] for tool in example["tools"])
    ]
    wanted = example["accept_call"]
    ask = dict(messages=example["messages"], tools=tools, **GREEDY)
    called = client.messages.create(**ask)
    with client.messages.stream(**ask) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_message()
    assert "input_json" in kinds, kinds
    for message in (called, streamed):
        [call] = [block for block in message.content if block.type == "tool_use"]
        assert (call.name, call.input) == (wanted["name"], wanted["arguments"])
        assert message.stop_reason == "tool_use"
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "done"}
    turns = [called.to_param(), {"role": "user", "content": [result]}]
    answered = client.messages.create(**ask | {"messages": [*example["messages"], *turns]})
    assert answered.content, answered
    # A tool of Anthropic's own is left out.
    search = {"type": "web_search_20250305", "name": "web_search"}
    assert client.messages.create(**ask | {"tools": [search, *tools]}).stop_reason == "tool_use"
    chosen = client.messages.create(
        messages=QUESTION, tools=tools, tool_choice={"type": "tool", "name": "turn_on"}, **GREEDY
    )
    assert chosen.content[-1].name == "turn_on", chosen


class Number(pydantic.BaseModel):
    n: int


def check_forms(client):
    parsed = client.messages.parse(messages=QUESTION, output_format=Number, **GREEDY)
    assert isinstance(parsed.parsed_output.n, int), parsed


def check_errors(client):
    ask = client.messages.create
    named = refused(anthropic.NotFoundError, "not_found_error", lambda: ask(messages=QUESTION, **GREEDY | {"model": "claude-x"}))
    assert MODEL in named, named
    url = {"type": "image", "source": {"type": "url", "url": "https://example.org/x.png"}}
    for wrong, part in (
        ({"messages": [{"role": "user", "content": [url]}]}, "messages[0].content[0].source"),
        ({"messages": QUESTION, "thinking": {"type": "much"}}, "thinking.type"),
    ):
        message = refused(anthropic.BadRequestError, "invalid_request_error", lambda: ask(**GREEDY | wrong))
        assert part in message, message


def check_models(client):
    listed = [model.id for model in client.models.list(limit=1)]
    assert MODEL in listed, listed
    model = client.models.retrieve(MODEL)
    assert model.created_at.year > 2000 and model.type == "model", model


url, path, line = sys.argv[1:]
over_socket = anthropic.DefaultHttpxClient(transport=httpx2.HTTPTransport(uds=path))
for client in (
    anthropic.Anthropic(base_url=url, api_key="none"),
    anthropic.Anthropic(base_url="http://localhost", api_key="none", http_client=over_socket),
):
    check_texts(client)
    check_tools(client, json.loads(line))
    check_forms(client)
    check_errors(client)
    check_models(client)
print("ok")
