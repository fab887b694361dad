"""Sets Home Assistant's own integrations up through their forms."""

import asyncio

from instance import Instance
from scene import seen


async def add_ollama(home: Instance, url: str, model: str) -> str:
    """Set core's `ollama` up; returns its agent."""
    page = await home.flow("ollama", {"url": "http://127.0.0.1:9"})
    assert page["errors"], page
    seen(f"core's ollama: nobody at the address: {page['errors']}")
    page = await home.flow("ollama", {"url": url})
    assert page["type"] == "create_entry", page
    entry = page["result"]["entry_id"]
    common = {"model": f"{model}:latest", "num_ctx": 8192, "keep_alive": -1, "think": False}
    for kind, options in (
        ("conversation", {"llm_hass_api": ["assist"], "max_history": 20}),
        ("ai_task_data", {"max_history": 20}),
    ):
        fields = {"name": f"Ollama {kind}", **common, **options}
        page = await home.flow([entry, kind], fields, kind="subentries/")
        assert page["type"] == "create_entry", page
    await home.until("conversation.ollama_conversation", bool)
    await home.until("ai_task.ollama_ai_task_data", bool)
    seen("core's ollama: the form, an agent, an entity for tasks")
    fields = {"name": "Ollama none", **common, "model": "none:latest"}
    page = await home.flow([entry, "conversation"], fields, kind="subentries/")
    path = f"config/config_entries/subentries/flow/{page['flow_id']}"
    while page["type"] == "progress":
        await asyncio.sleep(0.3)
        page = await home.post(path, {})
    assert page["type"] == "abort", page
    seen(f"core's ollama: a model that is not there: {page['reason']}")
    return "conversation.ollama_conversation"


async def add_llama_cpp(home: Instance, url: str, model: str) -> str:
    """Set core's `llama_cpp` up; returns its agent."""
    page = await home.flow("llama_cpp", {"base_url": "http://127.0.0.1:9/v1"})
    assert page["errors"], page
    seen(f"core's llama_cpp: nobody at the address: {page['errors']}")
    known = set(await home.states())
    page = await home.flow("llama_cpp", {"base_url": f"{url}/v1"}, {"chat_model": "none"})
    assert page["errors"], page
    seen(f"core's llama_cpp: a model that is not there: {page['errors']}")
    path = f"config/config_entries/flow/{page['flow_id']}"
    page = await home.post(path, {"chat_model": model})
    assert page["type"] == "create_entry", page
    agents: list[str] = []
    while not agents:
        new = set(await home.states()) - known
        agents = [entity for entity in new if entity.startswith("conversation.")]
    seen("core's llama_cpp: the form, an agent")
    return agents[0]
