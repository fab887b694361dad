"""Tests LlamaIndex with the daemon and a real model, over the APIs of OpenAI and Ollama.

usage: use_llama_index.py URL MODEL
"""

import sys

import pydantic
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.ollama import Ollama
from llama_index.llms.openai_like import OpenAILike

QUESTION = "What is the capital of Italy? Answer in one word."


class City(pydantic.BaseModel):
    name: str


def weather(place: str) -> str:
    """Tells the weather at a place."""
    return f"It snows in {place}."


def check(llm):
    said = llm.complete(QUESTION).text
    assert "Rome" in said, said
    said = llm.chat([ChatMessage(role="user", content=QUESTION)]).message.content
    assert "Rome" in said, said
    streamed = "".join(part.delta or "" for part in llm.stream_chat([ChatMessage(role="user", content=QUESTION)]))
    assert streamed == said, (streamed, said)
    tool = FunctionTool.from_defaults(weather)
    done = llm.predict_and_call([tool], "How is the weather in Paris?")
    assert "It snows in Paris." in str(done), done
    city = llm.as_structured_llm(City).complete(QUESTION).raw
    assert "Rome" in city.name, city


url, model = sys.argv[1:]
openai = OpenAILike(
    model=model, api_base=f"{url}/v1", api_key="none", context_window=4096, is_chat_model=True,
    is_function_calling_model=True, should_use_structured_outputs=True, temperature=0, max_tokens=100,
)
check(openai)
check(Ollama(model=model, base_url=url, context_window=4096, temperature=0, request_timeout=120))
text = OpenAILike(model=model, api_base=f"{url}/v1", api_key="none", is_chat_model=False, temperature=0, max_tokens=5)
assert "Rome" in text.complete("The capital of Italy is").text

# An answer from the nearest of three texts.
embedder = OpenAILikeEmbedding(model_name=model, api_base=f"{url}/v1", api_key="none")
texts = ["The fuse box is in the cellar.", "Cats sleep most of the day.", "Bread is baked at 220 degrees."]
index = VectorStoreIndex.from_documents([Document(text=text) for text in texts], embed_model=embedder)
answer = index.as_query_engine(llm=openai, similarity_top_k=3).query("In which room is the fuse box?")
assert len(answer.source_nodes) == 3 and "cellar" in str(answer), answer
print("ok")
