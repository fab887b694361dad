"""Tasks of automations: text, or data in a given structure."""

import json
from typing import override

from homeassistant.components import ai_task, conversation
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .bus import HearthdError
from .const import SUBENTRY_AI_TASK
from .coordinator import HearthdConfigEntry
from .entity import HearthdModelEntity
from .offer import Offer
from .prompt import split

# The service has its own queue.
PARALLEL_UPDATES = 0


class CutOff(HearthdError):
    """The answer ended before its structure did."""

    key = "cut_off"


async def async_setup_entry(
    hass: HomeAssistant,
    entry: HearthdConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Set up the entities for tasks."""
    for subentry in entry.subentries.values():
        if subentry.subentry_type == SUBENTRY_AI_TASK:
            async_add_entities(
                [HearthdTask(entry, subentry)],
                config_subentry_id=subentry.subentry_id,
            )


class HearthdTask(HearthdModelEntity, ai_task.AITaskEntity):
    """Generates data."""

    _attr_supported_features = (
        ai_task.AITaskEntityFeature.GENERATE_DATA
        | ai_task.AITaskEntityFeature.SUPPORT_ATTACHMENTS
    )

    @override
    async def _async_generate_data(
        self, task: ai_task.GenDataTask, chat_log: conversation.ChatLog
    ) -> ai_task.GenDataTaskResult:
        """Answer a task; with a structure, the answer is always valid against it."""
        parts = split(chat_log.content[0].content or "", "", None, None)
        await self._answer(
            chat_log, parts, Offer(chat_log.llm_api, None), task.structure
        )
        last = chat_log.content[-1]
        text = last.content if isinstance(last, conversation.AssistantContent) else None
        data = text or ""
        if task.structure is not None:
            try:
                data = json.loads(data)
            except ValueError as err:
                raise CutOff from err
        return ai_task.GenDataTaskResult(
            conversation_id=chat_log.conversation_id, data=data
        )
