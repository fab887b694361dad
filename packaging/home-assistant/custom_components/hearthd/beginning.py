"""The prefix of conversations: the same for all speakers, so that it is computed once."""

from dataclasses import replace

from homeassistant.components.intent import async_device_supports_timers
from homeassistant.config_entries import ConfigSubentry
from homeassistant.const import CONF_LLM_HASS_API, CONF_MODEL
from homeassistant.core import HomeAssistant
from homeassistant.helpers import (
    area_registry as ar,
    device_registry as dr,
    llm,
)

from .const import CONF_TOOLS, DEMO_MODEL, TOOLS_HOME, TOOLS_OWN
from .coordinator import HearthdCoordinator
from .exposed import async_home
from .offer import HomeOffer, Offer
from .prompt import Parts, Shared, shared_lines, split


async def async_offer(
    hass: HomeAssistant,
    coordinator: HearthdCoordinator,
    subentry: ConfigSubentry,
    context: llm.LLMContext,
    api: llm.APIInstance | None,
    system: tuple[str, str | None],
) -> tuple[Parts, Offer]:
    """Return a conversation's prefix, and the tools that the model is offered.

    `system` is Home Assistant's system prompt and what was added for this talk alone.
    """
    prompt, extra = system
    apis = subentry.data.get(CONF_LLM_HASS_API)
    if not apis or api is None:
        return split(prompt, "", None, extra), Offer(api, None)
    shared = await async_shared(hass, apis, context, api)
    if not wants_home(coordinator, subentry, apis):
        return split(prompt, api.api_prompt, shared, extra), Offer(api, shared)
    language = context.language or hass.config.language
    names = [tool.name for tool in api.tools]
    home = await async_home(hass, context.assistant, language, names)
    offer = HomeOffer(api, shared, home, language)
    # The integration describes the home itself; other APIs describe the use of their tools.
    parts = split(prompt.replace(api.api_prompt, "", 1), "", None, extra)
    others = [one for one in _listed(apis) if one != llm.LLM_API_ASSIST]
    texts = [
        (await llm.async_get_api(hass, one, context)).api_prompt for one in others
    ]
    parts = offer.begin(parts, "\n".join(texts))
    notes = [*filter(None, [parts.notes]), *_room(hass, context.device_id)]
    return replace(parts, notes="\n".join(notes)), offer


def wants_home(
    coordinator: HearthdCoordinator, subentry: ConfigSubentry, apis: str | list[str]
) -> bool:
    """Return whether verbs for this home are offered instead of Home Assistant's tools."""
    if llm.LLM_API_ASSIST not in _listed(apis):
        return False
    loaded = (coordinator.data or {}).get("Model") or coordinator.default_model
    model = subentry.data.get(CONF_MODEL) or loaded
    default = TOOLS_OWN if model.startswith(DEMO_MODEL) else TOOLS_HOME
    return subentry.data.get(CONF_TOOLS, default) == TOOLS_HOME


def _listed(apis: str | list[str]) -> list[str]:
    return [apis] if isinstance(apis, str) else apis


def _room(hass: HomeAssistant, device_id: str | None) -> list[str]:
    """Return a sentence with the speaker's location."""
    device = dr.async_get(hass).async_get(device_id) if device_id else None
    area_id = dr.async_get_effective_area_id(hass, device) if device else None
    area = ar.async_get(hass).async_get_area(area_id) if area_id else None
    return [f"You are in: {area.name}."] if area else []


async def async_shared(
    hass: HomeAssistant,
    apis: str | list[str],
    context: llm.LLMContext,
    api: llm.APIInstance,
) -> Shared:
    """Return the part that does not depend on speaker and location.

    Told by comparing it with what others would get: somebody without a room, in
    one, and with a device that has timers, which come with tools of their own.
    """
    others = [
        await llm.async_get_api(hass, apis, replace(context, device_id=device_id))
        for device_id in _kinds(hass)
        if device_id != context.device_id
    ]
    names = [{tool.name for tool in other.tools} for other in others]
    return Shared(
        shared_lines(api.api_prompt, *(other.api_prompt for other in others)),
        {tool.name for tool in api.tools}.intersection(*names),
    )


def _kinds(hass: HomeAssistant) -> list[str | None]:
    """Return devices, one for each prompt that differs in more than a room's name."""
    rooms = (
        device.id
        for device in dr.async_get(hass).devices
        if dr.async_get_effective_area_id(hass, device)
    )
    return list(dict.fromkeys((None, next(rooms, None), timer_device(hass))))


def timer_device(hass: HomeAssistant) -> str | None:
    """Return any device that has timers, as voice satellites do."""
    ids = (device.id for device in dr.async_get(hass).devices)
    return next((id_ for id_ in ids if async_device_supports_timers(hass, id_)), None)
