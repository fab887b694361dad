"""Tests the package `instructor`: answers in the form of a class, over tools and JSON schemas.

usage: use_instructor.py URL MODEL
"""

import sys

import instructor
import openai
from pydantic import BaseModel, Field


class Lamp(BaseModel):
    """A lamp and what to do with it."""

    room: str
    brightness: int = Field(ge=0, le=100)


url, model = sys.argv[1:]
MESSAGES = [{"role": "user", "content": "Set the lamp in the kitchen to a brightness of 40 percent."}]
for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
    client = instructor.from_openai(openai.OpenAI(base_url=f"{url}/v1", api_key="none"), mode=mode)
    ask = {"model": model, "messages": MESSAGES, "response_model": Lamp, "temperature": 0}
    lamp = client.chat.completions.create(**ask)
    assert "kitchen" in lamp.room.lower() and lamp.brightness == 40, (mode, lamp)
# An object that grows while it arrives.
client = instructor.from_openai(openai.OpenAI(base_url=f"{url}/v1", api_key="none"), mode=instructor.Mode.TOOLS)
parts = list(client.chat.completions.create_partial(model=model, messages=MESSAGES, response_model=Lamp, temperature=0))
assert parts[-1].brightness == 40, parts
print("ok")
