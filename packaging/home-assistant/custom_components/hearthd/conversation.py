"""An agent for Assist."""

from typing import Literal, override

from homeassistant.components import conversation
from homeassistant.config_entries import ConfigSubentry
from homeassistant.const import CONF_LLM_HASS_API, CONF_PROMPT, MATCH_ALL
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .const import DOMAIN, SUBENTRY_CONVERSATION
from .coordinator import HearthdConfigEntry
from .entity import HearthdModelEntity
from .beginning import async_offer

# The service has its own queue.
PARALLEL_UPDATES = 0


async def async_setup_entry(
    hass: HomeAssistant,
    entry: HearthdConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Set up the agents."""
    for subentry in entry.subentries.values():
        if subentry.subentry_type == SUBENTRY_CONVERSATION:
            async_add_entities(
                [HearthdConversation(entry, subentry)],
                config_subentry_id=subentry.subentry_id,
            )


class HearthdConversation(
    HearthdModelEntity,
    conversation.ConversationEntity,
    conversation.AbstractConversationAgent,
):
    """Answers, and controls the home where it is allowed to."""

    _attr_supports_streaming = True

    def __init__(self, entry: HearthdConfigEntry, subentry: ConfigSubentry) -> None:
        """Initialize an agent."""
        super().__init__(entry, subentry)
        if subentry.data.get(CONF_LLM_HASS_API):
            self._attr_supported_features = (
                conversation.ConversationEntityFeature.CONTROL
            )

    @property
    @override
    def supported_languages(self) -> list[str] | Literal["*"]:
        """Return all languages: which ones are supported depends on the model."""
        return MATCH_ALL

    @override
    async def async_added_to_hass(self) -> None:
        """Register as an agent."""
        await super().async_added_to_hass()
        conversation.async_set_agent(self.hass, self.entry, self)

    @override
    async def async_will_remove_from_hass(self) -> None:
        """Unregister as an agent."""
        conversation.async_unset_agent(self.hass, self.entry)
        await super().async_will_remove_from_hass()

    @override
    async def _async_handle_message(
        self,
        user_input: conversation.ConversationInput,
        chat_log: conversation.ChatLog,
    ) -> conversation.ConversationResult:
        """Answer the user's sentence."""
        apis = self.subentry.data.get(CONF_LLM_HASS_API)
        context = user_input.as_llm_context(DOMAIN)
        try:
            await chat_log.async_provide_llm_data(
                context,
                apis,
                self.subentry.data.get(CONF_PROMPT),
                user_input.extra_system_prompt,
            )
        except conversation.ConverseError as err:
            return err.as_conversation_result()

        system = chat_log.content[0].content or ""
        parts, offer = await async_offer(
            self.hass,
            self.entry.runtime_data,
            self.subentry,
            context,
            chat_log.llm_api,
            (system, chat_log.extra_system_prompt),
        )
        await self._answer(chat_log, parts, offer)
        return conversation.async_get_result_from_chat_log(user_input, chat_log)
