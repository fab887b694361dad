"""The common part of all entities."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import probatio

from homeassistant.components import conversation
from homeassistant.config_entries import ConfigSubentry
from homeassistant.const import CONF_MODEL
from homeassistant.helpers import device_registry as dr, intent, llm
from homeassistant.helpers.entity import Entity, EntityDescription
from homeassistant.helpers.update_coordinator import CoordinatorEntity

from .bus import HearthdError, RequestFailed
from .const import (
    CONF_CONFIRMATION,
    CONF_MAX_HISTORY,
    CONF_MAX_TOKENS,
    CONF_PRIORITY,
    CONF_TEMPERATURE,
    DEFAULT_MAX_HISTORY,
    DEFAULT_PRIORITY,
    DOMAIN,
    LOGGER,
)
from .coordinator import HearthdConfigEntry, HearthdCoordinator
from .offer import Doubt, Offer, Said
from .prompt import Parts, messages, schema
from .spoken import async_confirmation, which


class TooManyToolCalls(HearthdError):
    """The model keeps calling tools instead of answering."""

    key = "too_many_tool_calls"


class HearthdEntity(CoordinatorEntity[HearthdCoordinator]):
    """A state of the service."""

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
    """An entity whose requests the model answers.

    Available while the service is not: the bus starts it for a request.
    """

    _attr_has_entity_name = True
    _attr_name = None

    def __init__(self, entry: HearthdConfigEntry, subentry: ConfigSubentry) -> None:
        """Initialize as a separate device."""
        self.entry = entry
        self.subentry = subentry
        self._said = Said()
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
        offer: Offer,
        structure: probatio.Schema | None = None,
    ) -> None:
        """Have the model answer, with calls of tools."""
        api = chat_log.llm_api
        serializer = api.custom_serializer if api else None
        form = None
        if structure is not None:
            form = {
                "type": "json_schema",
                "json_schema": {
                    "name": "answer",
                    "schema": schema(structure, serializer or llm.selector_serializer),
                },
            }
        seen: list[list[Any]] = []
        for left in reversed(range(offer.rounds)):
            request = self._request(chat_log, parts, offer)
            if form is not None:
                # With tools as well, each answer is a call or valid against the schema.
                request["response_format"] = form
                if not left:
                    request["tool_choice"] = "none"
            await self._round(chat_log, request, offer)
            if not chat_log.unresponded_tool_results:
                return
            if offer.home is None:
                continue
            calls, results = _last_calls(chat_log)
            text = await self._confirmation(results)
            if not text and calls in seen:
                # The model repeats its call: the result of the tool is the answer.
                text = next(filter(None, map(_error_text, results)), "")
            seen.append(calls)
            if text:
                said = conversation.AssistantContent(self.entity_id, text)
                chat_log.async_add_assistant_content_without_tools(said)
                return
        raise TooManyToolCalls(rounds=str(offer.rounds))

    async def _confirmation(
        self, results: list[conversation.ToolResultContent]
    ) -> str:
        """Return the confirmation of actions that all succeeded; empty: the model answers."""
        if not self.subentry.data.get(CONF_CONFIRMATION, True):
            return ""
        texts: dict[str, None] = {}
        for content in results:
            response = getattr(content.result.data, "original", None)
            if content.result.error or not isinstance(response, intent.IntentResponse):
                return ""
            language = response.language
            texts[await async_confirmation(self.hass, language, response)] = None
        return ". ".join(filter(None, texts))

    def _request(
        self,
        chat_log: conversation.ChatLog,
        parts: Parts,
        offer: Offer,
    ) -> dict[str, Any]:
        """Return the request for the next round."""
        options = self.subentry.data
        limit = int(options.get(CONF_MAX_HISTORY, DEFAULT_MAX_HISTORY))
        request: dict[str, Any] = {
            **messages(parts, chat_log.content, limit, self._said),
            # Omit the middle of a long conversation instead of failing.
            "truncation": "auto",
            **offer.options(chat_log.content),
        }
        if offer.tools:
            request["tools"] = offer.tools
        if model := options.get(CONF_MODEL):
            request["model"] = model
        if (temperature := options.get(CONF_TEMPERATURE)) is not None:
            request["temperature"] = temperature
        if max_tokens := options.get(CONF_MAX_TOKENS):
            request["max_tokens"] = int(max_tokens)
        return request

    async def _round(
        self, chat_log: conversation.ChatLog, request: dict[str, Any], offer: Offer
    ) -> None:
        """Put one answer of the model, and the results of its tool calls, into the log."""
        coordinator = self.entry.runtime_data
        default = DEFAULT_PRIORITY[self.subentry.subentry_type]
        priority = self.subentry.data.get(CONF_PRIORITY, default)
        events = coordinator.service.stream(request, priority, _pictures(chat_log))
        try:
            async with aclosing(events), aclosing(self._deltas(events, offer)) as deltas:
                async for _ in chat_log.async_add_delta_content_stream(
                    self.entity_id, deltas
                ):
                    pass
        except HearthdError as err:
            coordinator.async_report(err)
            raise

    async def _deltas(
        self, events: AsyncGenerator[dict[str, Any]], offer: Offer
    ) -> AsyncGenerator[conversation.AssistantContentDeltaDict]:
        """Convert the service's events to Home Assistant's."""
        yield {"role": "assistant"}
        asked, called = False, 0
        async for event in events:
            match event["type"]:
                case "token":
                    yield {"content": event["text"]}
                case "reasoning":
                    yield {"thinking_content": event["text"]}
                case "tool_call" if not asked:
                    if (said := offer.said(event)) is not None:
                        yield {"content": said}
                        continue
                    meant = offer.meant(event)
                    if asked := isinstance(meant, Doubt):
                        yield {"content": which(offer.language, meant.labels)}
                        continue
                    self._said.note(event["id"], event["name"], event["arguments"])
                    yield {"tool_calls": meant}
                    called += 1
                    if called == offer.calls:
                        # Closing the stream cancels the answer.
                        return
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
        # The service disappeared during the answer.
        raise RequestFailed(
            "Cancelled", "The service stopped while it answered; ask again."
        )


class NoPicture(HearthdError):
    """An attachment is no picture."""

    key = "no_picture"


def _pictures(chat_log: conversation.ChatLog) -> list[Path]:
    """Return the files attached to what the user said last."""
    for content in reversed(chat_log.content):
        if isinstance(content, conversation.UserContent):
            files = content.attachments or []
            for file in files:
                if not file.mime_type.startswith("image/"):
                    raise NoPicture(kind=file.mime_type)
            return [file.path for file in files]
    return []


def _last_calls(
    chat_log: conversation.ChatLog,
) -> tuple[list[Any], list[conversation.ToolResultContent]]:
    """Return the last call and its result."""
    results: list[conversation.ToolResultContent] = []
    for content in reversed(chat_log.content):
        if isinstance(content, conversation.ToolResultContent):
            results.insert(0, content)
        elif isinstance(content, conversation.AssistantContent):
            calls = [[one.tool_name, one.tool_args] for one in content.tool_calls or ()]
            return calls, results
    return [], results


def _error_text(content: conversation.ToolResultContent) -> str:
    data = content.result.data
    return str(data.get("error_text") or data.get("error") or "")
