"""What all entities have in common."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import probatio

from homeassistant.components import conversation
from homeassistant.config_entries import ConfigSubentry
from homeassistant.const import CONF_MODEL
from homeassistant.helpers import device_registry as dr, llm
from homeassistant.helpers.entity import Entity, EntityDescription
from homeassistant.helpers.update_coordinator import CoordinatorEntity

from .bus import HearthdError, RequestFailed
from .const import (
    CONF_MAX_HISTORY,
    CONF_MAX_TOKENS,
    CONF_PRIORITY,
    CONF_TEMPERATURE,
    DEFAULT_MAX_HISTORY,
    DEFAULT_PRIORITY,
    DOMAIN,
    LOGGER,
    MAX_TOOL_ROUNDS,
)
from .coordinator import HearthdConfigEntry, HearthdCoordinator
from .prompt import Parts, Shared, messages, offer, schema


class TooManyToolCalls(HearthdError):
    """The model goes on calling tools instead of answering."""

    key = "too_many_tool_calls"


class HearthdEntity(CoordinatorEntity[HearthdCoordinator]):
    """Something that the service tells of itself."""

    _attr_has_entity_name = True

    def __init__(
        self, coordinator: HearthdCoordinator, description: EntityDescription
    ) -> None:
        """Initialize as part of the service's device."""
        super().__init__(coordinator)
        entry = coordinator.config_entry
        self.entity_description = description
        self._attr_unique_id = f"{entry.entry_id}_{description.key}"
        self._attr_device_info = dr.DeviceInfo(
            identifiers={(DOMAIN, entry.entry_id)},
            name="Hearthd",
            manufacturer="Hearthd",
            sw_version=coordinator.data.get("Version"),
            entry_type=dr.DeviceEntryType.SERVICE,
        )


class HearthdModelEntity(Entity):
    """Something that the model answers.

    Available while the service is not: the bus starts it for a request.
    """

    _attr_has_entity_name = True
    _attr_name = None

    def __init__(self, entry: HearthdConfigEntry, subentry: ConfigSubentry) -> None:
        """Initialize as a device of its own."""
        self.entry = entry
        self.subentry = subentry
        self._attr_unique_id = subentry.subentry_id
        self._attr_device_info = dr.DeviceInfo(
            identifiers={(DOMAIN, subentry.subentry_id)},
            name=subentry.title,
            manufacturer="Hearthd",
            model=subentry.data.get(CONF_MODEL),
            entry_type=dr.DeviceEntryType.SERVICE,
        )

    async def _answer(
        self,
        chat_log: conversation.ChatLog,
        parts: Parts,
        shared: Shared | None,
        structure: probatio.Schema | None = None,
    ) -> None:
        """Have the model answer, calling tools where it wants to."""
        api = chat_log.llm_api
        serializer = api.custom_serializer if api else None
        tools = offer(api, shared) if api else []
        form = None
        if structure is not None:
            form = {
                "type": "json_schema",
                "json_schema": {
                    "name": "answer",
                    "schema": schema(structure, serializer or llm.selector_serializer),
                },
            }
        for left in reversed(range(MAX_TOOL_ROUNDS)):
            request = self._request(chat_log, parts, tools)
            if form is not None:
                # Where tools are offered as well, each answer is a call or has the form.
                request["response_format"] = form
                if not left:
                    request["tool_choice"] = "none"
            await self._round(chat_log, request)
            if not chat_log.unresponded_tool_results:
                return
        raise TooManyToolCalls(rounds=str(MAX_TOOL_ROUNDS))

    def _request(
        self,
        chat_log: conversation.ChatLog,
        parts: Parts,
        tools: list[dict[str, Any]],
    ) -> dict[str, Any]:
        """Return the request for the next round."""
        options = self.subentry.data
        limit = int(options.get(CONF_MAX_HISTORY, DEFAULT_MAX_HISTORY))
        request: dict[str, Any] = {
            "messages": messages(parts, chat_log.content, limit),
            # Rather answer without the middle of a long talk than not at all.
            "truncation": "auto",
        }
        if tools:
            request["tools"] = tools
        if model := options.get(CONF_MODEL):
            request["model"] = model
        if (temperature := options.get(CONF_TEMPERATURE)) is not None:
            request["temperature"] = temperature
        if max_tokens := options.get(CONF_MAX_TOKENS):
            request["max_tokens"] = int(max_tokens)
        return request

    async def _round(
        self, chat_log: conversation.ChatLog, request: dict[str, Any]
    ) -> None:
        """Put one answer of the model, and what tools said to it, into the log."""
        coordinator = self.entry.runtime_data
        default = DEFAULT_PRIORITY[self.subentry.subentry_type]
        priority = self.subentry.data.get(CONF_PRIORITY, default)
        events = coordinator.service.stream(request, priority)
        try:
            async with aclosing(events), aclosing(_deltas(events)) as deltas:
                async for _ in chat_log.async_add_delta_content_stream(
                    self.entity_id, deltas
                ):
                    pass
        except HearthdError as err:
            coordinator.async_report(err)
            raise


async def _deltas(
    events: AsyncGenerator[dict[str, Any]],
) -> AsyncGenerator[conversation.AssistantContentDeltaDict]:
    """Say what the service tells in Home Assistant's words."""
    yield {"role": "assistant"}
    async for event in events:
        match event["type"]:
            case "token":
                yield {"content": event["text"]}
            case "reasoning":
                yield {"thinking_content": event["text"]}
            case "tool_call":
                call = llm.ToolInput(
                    id=event["id"],
                    tool_name=event["name"],
                    tool_args=event["arguments"],
                )
                yield {"tool_calls": [call]}
            case "started":
                LOGGER.debug(
                    "%s of %s tokens of the prompt were kept",
                    event["cached_tokens"],
                    event["prompt_tokens"],
                )
            case "failed":
                kind = "".join(part.title() for part in event["kind"].split("_"))
                raise RequestFailed(kind, event["message"])
            case "finished":
                return
    # The service went away in the middle of it.
    raise RequestFailed("Cancelled", "The service stopped while it answered; ask again.")
