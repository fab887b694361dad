"""Tests LlamaIndex over OpenAI's and Ollama's APIs.

usage: use_llama_index.py URL MODEL
"""

import sys

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.ollama import OllamaEmbedding
from llama_index.llms.ollama import Ollama
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

url, model = sys.argv[1:]


class Number(BaseModel):
    """A number."""

    n: int


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"It is sunny in {city}."


tool = FunctionTool.from_defaults(fn=get_weather)
openai = OpenAILike(
    model=model, api_base=f"{url}/v1", api_key="none", temperature=0, max_tokens=64,
    is_chat_model=True, is_function_calling_model=True,
)
ollama = Ollama(model=model, base_url=url, temperature=0, context_window=2048, request_timeout=600)
for llm in (openai, ollama):
    said = llm.chat([ChatMessage(role="user", content="Say hello.")])
    assert said.message.content, said
    parts = list(llm.stream_chat([ChatMessage(role="user", content="Say hello.")]))
    assert parts[-1].message.content == said.message.content, (parts[-1], said)
    assert llm.complete("Say hello.").text
    answer = llm.chat_with_tools([tool], user_msg="What is the weather in Paris? Use the tool.", tool_required=True)
    [call] = llm.get_tool_calls_from_response(answer)
    assert (call.tool_name, call.tool_kwargs) == ("get_weather", {"city": "Paris"}), call
    formed = llm.as_structured_llm(Number).complete("Say a number.")
    assert isinstance(formed.raw, Number), formed
vectors = OllamaEmbedding(model_name=model, base_url=url).get_text_embedding_batch(["a cat", "a dog"])
assert len(vectors) == 2 and len(vectors[0]) > 8
print("ok")
