"""Tests the package `instructor` with the daemon and a real model.

usage: use_instructor.py URL MODEL
"""

import sys

import instructor
import openai
import pydantic

QUESTION = "Extract the person: Anna is 34 years old and lives in Bern."


class Person(pydantic.BaseModel):
    name: str
    age: int


class Doubted(Person):
    @pydantic.field_validator("age")
    @classmethod
    def only_when_asked_again(cls, age):
        if len(responses) < 2:
            raise ValueError("read the text again, then give the age")
        return age


url, model = sys.argv[1:]
messages = [{"role": "user", "content": QUESTION}]
ask = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 200}
responses = []
for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA, instructor.Mode.JSON):
    client = instructor.from_openai(openai.OpenAI(base_url=f"{url}/v1", api_key="none"), mode=mode)
    create = client.chat.completions
    person = create.create(response_model=Person, **ask)
    assert (person.name, person.age) == ("Anna", 34), (mode, person)
    parts = list(create.create_partial(response_model=Person, **ask))
    assert (parts[-1].name, parts[-1].age) == ("Anna", 34), (mode, parts)
    if mode is instructor.Mode.TOOLS:
        # The model gets its own call back, with what is wrong with it.
        client.on("completion:response", responses.append)
        person = create.create(response_model=Doubted, max_retries=2, **ask)
        assert len(responses) == 2 and person.name == "Anna", (person, responses)
print("ok")
