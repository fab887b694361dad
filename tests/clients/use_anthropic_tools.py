"""Tests the loop of an agent of the official package `anthropic` with a real model.

usage: use_anthropic_tools.py URL MODEL
"""

import sys

import anthropic

url, model = sys.argv[1:]
client = anthropic.Anthropic(base_url=url, auth_token="none")
asked = []


@anthropic.beta_tool
def get_temperature(room: str) -> str:
    """Reads the thermometer of a room.

    Args:
        room: The room, such as kitchen.
    """
    asked.append(room)
    return f"It is 31 degrees in the {room}."


question = {"role": "user", "content": "How warm is it in the kitchen? Read the thermometer."}
# The client has no argument for the temperature.
common = {"model": model, "max_tokens": 100, "extra_body": {"temperature": 0}}
runner = client.beta.messages.tool_runner(tools=[get_temperature], messages=[question], max_iterations=3, **common)
messages = list(runner)
assert messages[0].stop_reason == "tool_use", messages
assert asked and asked[0].lower() == "kitchen", asked
said = "".join(block.text for block in messages[-1].content if block.type == "text")
assert messages[-1].stop_reason == "end_turn" and "31" in said, messages

tool = get_temperature.to_dict()
forced = {"type": "any", "disable_parallel_tool_use": True}
greeting = [{"role": "user", "content": "Hello!"}]
with client.messages.stream(messages=greeting, tools=[tool], tool_choice=forced, **common) as stream:
    message = stream.get_final_message()
assert [block.type for block in message.content] == ["tool_use"], message
assert list(message.content[0].input) == ["room"] and message.stop_reason == "tool_use", message
never = client.messages.create(messages=greeting, tools=[tool], tool_choice={"type": "none"}, **common)
assert [block.type for block in never.content] == ["text"], never
print("ok")
