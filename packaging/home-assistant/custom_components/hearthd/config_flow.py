"""Setting up and changing settings."""

import getpass
import os
from typing import Any, override

import probatio

from homeassistant.config_entries import (
    SOURCE_USER,
    ConfigEntry,
    ConfigEntryState,
    ConfigFlow,
    ConfigFlowResult,
    ConfigSubentryFlow,
    SubentryFlowResult,
)
from homeassistant.const import (
    CONF_LLM_HASS_API,
    CONF_MODEL,
    CONF_NAME,
    CONF_PROMPT,
)
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import llm
from homeassistant.helpers.selector import (
    BooleanSelector,
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    TemplateSelector,
    TextSelector,
)

from .bus import Hearthd, HearthdError
from .const import (
    CONF_BUS_ADDRESS,
    CONF_CONFIRMATION,
    CONF_MAX_HISTORY,
    CONF_MAX_TOKENS,
    CONF_PRIORITY,
    CONF_TEMPERATURE,
    CONF_TOOLS,
    DEFAULT_MAX_HISTORY,
    DEFAULT_PRIORITY,
    DOMAIN,
    PRIORITIES,
    SUBENTRY_AI_TASK,
    SUBENTRY_CONVERSATION,
    TOOLS_HOME,
    TOOLS_OWN,
)

_NAMES = {
    SUBENTRY_CONVERSATION: "Hearthd conversation",
    SUBENTRY_AI_TASK: "Hearthd AI task",
}
_BUS = probatio.Schema({probatio.Optional(CONF_BUS_ADDRESS): TextSelector()})


def _user() -> str:
    """Return the user that Home Assistant runs as; in a container it may have no name."""
    try:
        return getpass.getuser()
    except OSError:
        return f"#{os.getuid()}"


async def _problem(address: str | None) -> tuple[dict[str, str], dict[str, str]]:
    """Query the service, and return errors and the placeholders of their texts."""
    placeholders = {"user": _user(), "reason": ""}
    try:
        service = await Hearthd.connect(address)
        try:
            await service.properties()
        finally:
            service.disconnect()
    except HearthdError as err:
        placeholders |= err.translation_placeholders or {}
        return {"base": err.key}, placeholders
    return {}, placeholders


class HearthdConfigFlow(ConfigFlow, domain=DOMAIN):
    """Finds the service on the bus."""

    VERSION = 1

    @override
    async def async_step_user(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Set up Hearthd, with an agent and an entity for tasks."""
        errors: dict[str, str] = {}
        placeholders: dict[str, str] = {}
        if user_input is not None:
            errors, placeholders = await _problem(user_input.get(CONF_BUS_ADDRESS))
            if not errors:
                return self.async_create_entry(
                    title="Hearthd",
                    data=user_input,
                    subentries=[
                        {
                            "subentry_type": kind,
                            "data": _defaults(kind),
                            "title": _NAMES[kind],
                            "unique_id": None,
                        }
                        for kind in (SUBENTRY_CONVERSATION, SUBENTRY_AI_TASK)
                    ],
                )
        return self.async_show_form(
            step_id="user",
            data_schema=self.add_suggested_values_to_schema(_BUS, user_input),
            errors=errors,
            description_placeholders=placeholders,
        )

    async def async_step_reconfigure(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Use another bus."""
        entry = self._get_reconfigure_entry()
        errors: dict[str, str] = {}
        placeholders: dict[str, str] = {}
        if user_input is not None:
            errors, placeholders = await _problem(user_input.get(CONF_BUS_ADDRESS))
            if not errors:
                # The update listener reloads the entry.
                return self.async_update_and_abort(entry, data=user_input)
        return self.async_show_form(
            step_id="reconfigure",
            data_schema=self.add_suggested_values_to_schema(
                _BUS, user_input or entry.data
            ),
            errors=errors,
            description_placeholders=placeholders,
        )

    @classmethod
    @callback
    @override
    def async_get_supported_subentry_types(
        cls, config_entry: ConfigEntry
    ) -> dict[str, type[ConfigSubentryFlow]]:
        """Return what can be added: agents, and entities for tasks."""
        return {kind: HearthdSubentryFlow for kind in _NAMES}


class HearthdSubentryFlow(ConfigSubentryFlow):
    """Adds and changes agents and entities for tasks."""

    async def async_step_user(
        self, user_input: dict[str, Any] | None = None
    ) -> SubentryFlowResult:
        """Add one."""
        return await self._async_step("user", user_input)

    async def async_step_reconfigure(
        self, user_input: dict[str, Any] | None = None
    ) -> SubentryFlowResult:
        """Change one."""
        return await self._async_step("reconfigure", user_input)

    async def _async_step(
        self, step: str, user_input: dict[str, Any] | None
    ) -> SubentryFlowResult:
        entry = self._get_entry()
        if entry.state is not ConfigEntryState.LOADED:
            return self.async_abort(reason="entry_not_loaded")
        new = self.source == SOURCE_USER
        if user_input is not None:
            data = {k: v for k, v in user_input.items() if v not in ("", [], None)}
            if new:
                return self.async_create_entry(title=data.pop(CONF_NAME), data=data)
            return self.async_update_and_abort(
                entry, self._get_reconfigure_subentry(), data=data
            )
        try:
            models = await entry.runtime_data.service.models()
        except HearthdError as err:
            return self.async_abort(
                reason=err.key,
                description_placeholders={
                    "user": _user(),
                    **(err.translation_placeholders or {}),
                },
            )
        kind = self._subentry_type
        known = _defaults(kind) if new else self._get_reconfigure_subentry().data
        return self.async_show_form(
            step_id=step,
            data_schema=self.add_suggested_values_to_schema(
                _options(self.hass, kind, new, models), known
            ),
        )


def _defaults(kind: str) -> dict[str, Any]:
    """Return the default settings."""
    settings: dict[str, Any] = {CONF_PRIORITY: DEFAULT_PRIORITY[kind]}
    if kind == SUBENTRY_CONVERSATION:
        settings[CONF_PROMPT] = llm.DEFAULT_INSTRUCTIONS_PROMPT
        settings[CONF_LLM_HASS_API] = [llm.LLM_API_ASSIST]
        settings[CONF_MAX_HISTORY] = DEFAULT_MAX_HISTORY
        settings[CONF_CONFIRMATION] = True
    return settings


def _options(
    hass: HomeAssistant, kind: str, new: bool, models: list[dict[str, Any]]
) -> probatio.Schema:
    """Return the form of an agent or of an entity for tasks."""

    def number(low: float, high: float, step: float) -> NumberSelector:
        return NumberSelector(
            NumberSelectorConfig(
                min=low, max=high, step=step, mode=NumberSelectorMode.BOX
            )
        )

    fields: dict[probatio.Marker, Any] = {}
    if new:
        fields[probatio.Required(CONF_NAME, default=_NAMES[kind])] = TextSelector()
    if kind == SUBENTRY_CONVERSATION:
        apis = [
            SelectOptionDict(label=api.name, value=api.id)
            for api in llm.async_get_apis(hass)
        ]
        fields[probatio.Optional(CONF_PROMPT)] = TemplateSelector()
        fields[probatio.Optional(CONF_LLM_HASS_API)] = SelectSelector(
            SelectSelectorConfig(options=apis, multiple=True)
        )
    fields[probatio.Optional(CONF_MODEL)] = SelectSelector(
        SelectSelectorConfig(
            options=[model["name"] for model in models if not model["problem"]],
            mode=SelectSelectorMode.DROPDOWN,
        )
    )
    if kind == SUBENTRY_CONVERSATION:
        fields[probatio.Optional(CONF_TOOLS)] = SelectSelector(
            SelectSelectorConfig(
                options=[TOOLS_HOME, TOOLS_OWN], translation_key=CONF_TOOLS
            )
        )
        fields[probatio.Optional(CONF_CONFIRMATION)] = BooleanSelector()
        fields[probatio.Optional(CONF_MAX_HISTORY)] = number(0, 200, 1)
    fields[probatio.Optional(CONF_TEMPERATURE)] = number(0, 2, 0.05)
    fields[probatio.Optional(CONF_MAX_TOKENS)] = number(1, 32768, 1)
    fields[probatio.Required(CONF_PRIORITY)] = SelectSelector(
        SelectSelectorConfig(options=PRIORITIES, translation_key=CONF_PRIORITY)
    )
    return probatio.Schema(fields)
