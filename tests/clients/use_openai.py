"""Tests the official package `openai` with the daemon.

usage: use_openai.py URL SOCKET TOOL_CALL
"""

import json
import sys

import httpx
import openai
import pydantic

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
    [short] = client.embeddings.create(model=MODEL, input=[[1, 2, 3]], dimensions=8).data
    assert len(short.embedding) == 8
    try:
        chat(model="nope", messages=QUESTION)
    except openai.NotFoundError as error:
        assert error.code == "model_not_found", error
    else:
        raise AssertionError("it was not refused")


class Number(pydantic.BaseModel):
    n: int = pydantic.Field(ge=0, le=9)


def check_responses(client, example):
    ask = client.responses.create
    answer = ask(model=MODEL, input="What is the capital of Italy?", temperature=0, metadata={"room": "kitchen"})
    assert "Rome" in answer.output_text and answer.status == "completed", answer
    assert answer.metadata == {"room": "kitchen"} and answer.store is False
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    again = [*QUESTION, *answer.output, {"role": "user", "content": "And of France?"}]
    assert ask(model=MODEL, input=again, instructions="Be brief.").status == "completed"

    events = list(ask(model=MODEL, input=QUESTION, temperature=0, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == answer.output_text == events[-1].response.output_text

    tools = [{"type": "function", **tool["function"]} for tool in example["tools"]]
    wanted = example["accept_call"]
    called = ask(model=MODEL, input=example["messages"], tools=tools, temperature=0)
    with client.responses.stream(model=MODEL, input=example["messages"], tools=tools, temperature=0) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_response()
    assert "response.function_call_arguments.delta" in kinds, kinds
    for response in (called, streamed):
        [call] = [item for item in response.output if item.type == "function_call"]
        assert (call.name, json.loads(call.arguments)) == (wanted["name"], wanted["arguments"])
    # The tool's result is sent with the whole conversation: nothing is stored.
    done = {"type": "function_call_output", "call_id": call.call_id, "output": "done"}
    assert ask(model=MODEL, input=[*example["messages"], *called.output, done], tools=tools).output_text

    parsed = client.responses.parse(model=MODEL, input=QUESTION, text_format=Number)
    assert 0 <= parsed.output_parsed.n <= 9, parsed
    with client.responses.stream(model=MODEL, input=QUESTION, text_format=Number) as stream:
        assert 0 <= stream.get_final_response().output_parsed.n <= 9
    cut = ask(model=MODEL, input=QUESTION, max_output_tokens=1)
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens"), cut

    # A tool that there is not here is left out.
    assert ask(model=MODEL, input=QUESTION, tools=[{"type": "web_search"}]).status == "completed"
    for wrong in ({"previous_response_id": answer.id}, {"background": True}):
        try:
            ask(model=MODEL, input=QUESTION, **wrong)
        except openai.BadRequestError as error:
            assert error.code == "not_supported", error
            assert error.param.startswith(next(iter(wrong))), error
        else:
            raise AssertionError(f"{wrong} was not refused")


url, path, line = sys.argv[1:]
example = json.loads(line)
over_socket = httpx.Client(transport=httpx.HTTPTransport(uds=path))
for client in (
    openai.OpenAI(base_url=f"{url}/v1", api_key="none"),
    openai.OpenAI(base_url="http://localhost/v1", api_key="none", http_client=over_socket),
):
    check(client, example)
    check_responses(client, example)
print("ok")
