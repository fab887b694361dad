"""Tests clients that have to send a token.

usage: use_token.py URL TOKEN
"""

import sys

import anthropic
import ollama
import openai

QUESTION = [{"role": "user", "content": "hello"}]
url, token = sys.argv[1:]


def ask(key):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=key)
    return client.chat.completions.create(model="fake", messages=QUESTION).choices[0].message.content


def ask_anthropics(key):
    client = anthropic.Anthropic(base_url=url, api_key=key)
    return client.messages.create(model="fake", max_tokens=9, messages=QUESTION).content[0].text


assert ask(token) == ask_anthropics(token) == "hello"
try:
    ask_anthropics("none")
except anthropic.AuthenticationError as error:
    assert error.body["error"]["type"] == "authentication_error", error
else:
    raise AssertionError("it was let in by Anthropic's client")
for wrong in ("none", token[:-1], token + "x"):
    try:
        ask(wrong)
    except openai.AuthenticationError as error:
        assert error.code == "access_denied" and "Bearer" in error.message, error
    else:
        raise AssertionError(f"{wrong} was let in")

known = ollama.Client(host=url, headers={"Authorization": f"Bearer {token}"})
assert known.chat("fake", QUESTION).message.content == "hello"
try:
    ollama.Client(host=url).list()
except ollama.ResponseError as error:
    assert error.status_code == 401 and "Bearer" in error.error, error
else:
    raise AssertionError("it was let in without a token")
print("ok")
