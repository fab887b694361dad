"""Prewarms the prefixes of conversations."""

from typing import Any

from homeassistant.components import conversation
from homeassistant.components.homeassistant.exposed_entities import (
    async_listen_entity_updates,
)
from homeassistant.config_entries import ConfigSubentry
from homeassistant.const import (
    CONF_LLM_HASS_API,
    CONF_MODEL,
    CONF_PROMPT,
    EVENT_STATE_CHANGED,
    STATE_UNAVAILABLE,
)
from homeassistant.core import EventStateChangedData, HomeAssistant, callback
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

from .beginning import async_offer, timer_device
from .const import DOMAIN, LOGGER, SUBENTRY_CONVERSATION
from .coordinator import HearthdConfigEntry, HearthdCoordinator
from .prompt import Parts

# Entities are usually exposed several at a time.
_SETTLE_S = 10.0
_EVENTS = (
    ar.EVENT_AREA_REGISTRY_UPDATED,
    dr.EVENT_DEVICE_REGISTRY_UPDATED,
    er.EVENT_ENTITY_REGISTRY_UPDATED,
    fr.EVENT_FLOOR_REGISTRY_UPDATED,
)


@callback
def async_keep_warm(hass: HomeAssistant, entry: HearthdConfigEntry) -> None:
    """Compute the prefixes now, and again whenever they change."""
    coordinator = entry.runtime_data
    sent: dict[tuple[str, bool], object] = {}
    reachable = True

    async def warm_all() -> None:
        for subentry in entry.subentries.values():
            if subentry.subentry_type != SUBENTRY_CONVERSATION:
                continue
            # Those with timers have the same prefix, and some more tools.
            for device_id in dict.fromkeys((None, timer_device(hass))):
                await warm(subentry, device_id)

    async def warm(subentry: ConfigSubentry, device_id: str | None) -> None:
        key = (subentry.subentry_id, device_id is None)
        try:
            begin = await _begin(hass, coordinator, subentry, device_id)
            if begin == sent.get(key):
                return
            parts, tools, model = begin
            await coordinator.service.prewarm(
                parts.stable, parts.examples, tools, model
            )
        except HomeAssistantError as err:
            # A conversation reports the same error to the user.
            LOGGER.debug("%s was not prewarmed: %s", subentry.title, err)
        else:
            sent[key] = begin

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
    entry.async_on_unload(
        hass.bus.async_listen(EVENT_STATE_CHANGED, again, event_filter=_satellite_came)
    )
    # Before that, most of the home is not set up yet.
    entry.async_on_unload(async_at_started(hass, started))


@callback
def _satellite_came(data: EventStateChangedData) -> bool:
    """Return whether a device that may have timers has just appeared."""
    old, new = data["old_state"], data["new_state"]
    return (
        data["entity_id"].startswith("assist_satellite.")
        and new is not None
        and new.state != STATE_UNAVAILABLE
        and (old is None or old.state == STATE_UNAVAILABLE)
    )


async def _begin(
    hass: HomeAssistant,
    coordinator: HearthdCoordinator,
    subentry: ConfigSubentry,
    device_id: str | None,
) -> tuple[Parts, list[dict[str, Any]], str | None]:
    """Return system prompt, tools and model, as a conversation will have them."""
    options = subentry.data
    context = llm.LLMContext(
        platform=DOMAIN,
        context=None,
        language=hass.config.language,
        assistant=conversation.DOMAIN,
        device_id=device_id,
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
    api = None
    if apis := options.get(CONF_LLM_HASS_API):
        api = await llm.async_get_api(hass, apis, context)
        system = f"{system}\n{api.api_prompt}"
    parts, offer = await async_offer(
        hass, coordinator, subentry, context, api, (system, None)
    )
    return parts, offer.tools, options.get(CONF_MODEL) or None
