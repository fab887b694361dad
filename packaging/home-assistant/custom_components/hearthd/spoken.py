"""Confirmations of actions: Home Assistant's own texts, in its languages."""

from functools import partial
import json
from typing import Any

from home_assistant_intents import get_intents

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import TemplateError
from homeassistant.helpers import intent, template

# Responses that are not called after a domain or "default".
_KEYS = {
    "HassListAddItem": "item_added",
    "HassListCompleteItem": "item_completed",
    "HassListRemoveItem": "item_deleted",
}
_SLOT_KEYS = ("brightness", "color", "temperature")
_CACHE = "hearthd_responses"


# Home Assistant has no texts for such questions.
_WHICH = {
    "de": ("Was ist gemeint: {}?", " oder ", "Ist das gemeint: {}?"),
    "en": ("Which one do you mean: {}?", " or ", "Do you mean {}?"),
}


def which(language: str, labels: tuple[str, ...]) -> str:
    """Return the question which target is meant."""
    question, either, whether = _WHICH.get(language.split("-")[0], _WHICH["en"])
    *first, last = labels
    if not first:
        return whether.format(last)
    return question.format(either.join((", ".join(first), last)))


async def async_confirmation(
    hass: HomeAssistant, language: str, response: intent.IntentResponse
) -> str:
    """Return Home Assistant's own text for the result of an intent.

    Empty where it has none.
    """
    if spoken := response.speech.get("plain", {}).get("speech"):
        return str(spoken)
    if response.intent is None or response.response_type is not (
        intent.IntentResponseType.ACTION_DONE
    ):
        return ""
    known = await _responses(hass, language)
    texts = known.get(response.intent.intent_type, {})
    state = next(iter(response.matched_states), None)
    slots = {
        name: slot.get("text", slot.get("value"))
        for name, slot in response.intent.slots.items()
    }
    if response.success_results:
        slots["name"] = response.success_results[0].name
    keys = [_KEYS.get(response.intent.intent_type, "")]
    keys += [key for key in _SLOT_KEYS if key in slots]
    keys += [state.domain] if state else []
    text = next((texts[key] for key in (*keys, "default") if key in texts), "")
    if not text:
        return ""
    try:
        made = template.Template(text, hass).async_render(
            {
                "slots": slots | response.speech_slots,
                "state": template.TemplateState(hass, state) if state else None,
                "query": {"matched": [], "unmatched": []},
            },
            parse_result=False,
        )
    except TemplateError:
        return ""
    return " ".join(made.split())


async def _responses(hass: HomeAssistant, language: str) -> dict[str, Any]:
    """Return a language's responses by intent; read once."""
    cache: dict[str, dict[str, Any]] = hass.data.setdefault(_CACHE, {})
    if language not in cache:
        read = partial(get_intents, language, json_load=json.load)
        known = await hass.async_add_executor_job(read)
        if known is None and (base := language.split("-")[0]) != language:
            read = partial(get_intents, base, json_load=json.load)
            known = await hass.async_add_executor_job(read)
        cache[language] = (known or {}).get("responses", {}).get("intents", {})
    return cache[language]
