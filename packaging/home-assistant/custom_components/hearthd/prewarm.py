"""Has the beginnings of conversations computed before anyone speaks."""

from dataclasses import replace

from homeassistant.components import conversation
from homeassistant.components.homeassistant.exposed_entities import (
    async_listen_entity_updates,
)
from homeassistant.config_entries import ConfigSubentry
from homeassistant.const import CONF_LLM_HASS_API, CONF_MODEL, CONF_PROMPT
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import (
    area_registry as ar,
    device_registry as dr,
    entity_registry as er,
    floor_registry as fr,
    llm,
)
from homeassistant.helpers.debounce import Debouncer
from homeassistant.helpers.start import async_at_started
from homeassistant.helpers.template import Template

from .const import DOMAIN, LOGGER, SUBENTRY_CONVERSATION
from .coordinator import HearthdConfigEntry
from .prompt import shared_lines, split, tool

# Someone who exposes entities exposes several.
_SETTLE_S = 10.0
_EVENTS = (
    ar.EVENT_AREA_REGISTRY_UPDATED,
    dr.EVENT_DEVICE_REGISTRY_UPDATED,
    er.EVENT_ENTITY_REGISTRY_UPDATED,
    fr.EVENT_FLOOR_REGISTRY_UPDATED,
)


async def async_shared_lines(
    hass: HomeAssistant, apis: str | list[str], context: llm.LLMContext, prompt: str
) -> list[str]:
    """Return the lines of an API's prompt that do not depend on who speaks where.

    Told by comparing it with what somebody without a room and somebody in one would get.
    """
    prompts = [prompt]
    for device_id in {None, _device_in_a_room(hass)}:
        if device_id != context.device_id:
            other = await llm.async_get_api(
                hass, apis, replace(context, device_id=device_id)
            )
            prompts.append(other.api_prompt)
    return shared_lines(*prompts)


def _device_in_a_room(hass: HomeAssistant) -> str | None:
    """Return any device that has an area."""
    registry = dr.async_get(hass)
    with_area = (
        d.id for d in registry.devices if dr.async_get_effective_area_id(hass, d)
    )
    return next(with_area, None)


@callback
def async_keep_warm(hass: HomeAssistant, entry: HearthdConfigEntry) -> None:
    """Compute the beginnings now, and anew whenever they change."""
    coordinator = entry.runtime_data
    sent: dict[str, object] = {}
    reachable = True

    async def warm_all() -> None:
        for subentry in entry.subentries.values():
            if subentry.subentry_type != SUBENTRY_CONVERSATION:
                continue
            try:
                begin = await _begin(hass, subentry)
                if begin == sent.get(subentry.subentry_id):
                    continue
                await coordinator.service.prewarm(*begin)
            except HomeAssistantError as err:
                # A conversation says the same to who can do something about it.
                LOGGER.debug("%s was not prewarmed: %s", subentry.title, err)
            else:
                sent[subentry.subentry_id] = begin

    settled = Debouncer(
        hass,
        LOGGER,
        cooldown=_SETTLE_S,
        immediate=False,
        function=warm_all,
        background=True,
    )

    @callback
    def again(*_: object) -> None:
        settled.async_schedule_call()

    @callback
    def back() -> None:
        nonlocal reachable
        if coordinator.last_update_success and not reachable:
            sent.clear()
            again()
        reachable = coordinator.last_update_success

    @callback
    def started(_: HomeAssistant) -> None:
        entry.async_create_background_task(hass, warm_all(), f"{DOMAIN} prewarm")

    entry.async_on_unload(settled.async_shutdown)
    entry.async_on_unload(coordinator.async_add_listener(back))
    entry.async_on_unload(
        async_listen_entity_updates(hass, conversation.DOMAIN, again)
    )
    for event in _EVENTS:
        entry.async_on_unload(hass.bus.async_listen(event, again))
    # Before, most of the home is not there yet.
    entry.async_on_unload(async_at_started(hass, started))


async def _begin(
    hass: HomeAssistant, subentry: ConfigSubentry
) -> tuple[str, list[dict[str, object]], str | None]:
    """Return system prompt, tools and model, as a conversation will have them."""
    options = subentry.data
    context = llm.LLMContext(
        platform=DOMAIN,
        context=None,
        language=hass.config.language,
        assistant=conversation.DOMAIN,
        device_id=None,
    )
    prompt = options.get(CONF_PROMPT) or llm.DEFAULT_INSTRUCTIONS_PROMPT
    system = Template(prompt, hass).async_render(
        {
            "ha_name": hass.config.location_name,
            "user_name": None,
            "llm_context": context,
        },
        parse_result=False,
    )
    tools: list[dict[str, object]] = []
    api_prompt, shared = "", None
    if apis := options.get(CONF_LLM_HASS_API):
        api = await llm.async_get_api(hass, apis, context)
        tools = [tool(offered, api.custom_serializer) for offered in api.tools]
        api_prompt = api.api_prompt
        shared = await async_shared_lines(hass, apis, context, api_prompt)
        system = f"{system}\n{api_prompt}"
    stable = split(system, api_prompt, shared, None).stable
    return stable, tools, options.get(CONF_MODEL) or None
