"""Tests LangChain's models for all APIs with the daemon.

usage: use_langchain.py URL SOCKET TOOL_CALL
"""

import json
import sys

from langchain_community.llms import OpenAI
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from langchain_openai import ChatOpenAI

MODEL = "hearth-demo-q8_0"
QUESTION = "What is the capital of Italy?"


def check(chat, example):
    assert "Rome" in chat.invoke(QUESTION).text
    assert "Rome" in "".join(part.text for part in chat.stream(QUESTION))
    messages = [(message["role"], message["content"]) for message in example["messages"]]
    [call] = chat.bind_tools(example["tools"]).invoke(messages).tool_calls
    wanted = example["accept_call"]
    assert (call["name"], call["args"]) == (wanted["name"], wanted["arguments"])


url, _, line = sys.argv[1:]
example = json.loads(line)
check(ChatOllama(model=MODEL, base_url=url, temperature=0), example)
for responses in (False, True):
    openai = ChatOpenAI(
        model=MODEL, base_url=f"{url}/v1", api_key="none", temperature=0, use_responses_api=responses
    )
    check(openai, example)
assert "Rome" in OllamaLLM(model=MODEL, base_url=url, temperature=0).invoke(QUESTION)
# The older class, which is still in use, requests text completions in the model's own
# format.
community = OpenAI(model_name=MODEL, openai_api_base=f"{url}/v1", openai_api_key="none", temperature=0)
text = f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
assert "Rome" in community.invoke(text) and "Rome" in "".join(community.stream(text))
vectors = OllamaEmbeddings(model=MODEL, base_url=url).embed_documents(["a cat", "a dog"])
assert len(vectors) == 2 and len(vectors[0]) > 8
print("ok")
