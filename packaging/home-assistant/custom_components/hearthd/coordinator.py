"""The service's state, updated as the service announces it."""

import asyncio
from itertools import count
from typing import Any, override

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.debounce import Debouncer
from homeassistant.helpers.update_coordinator import DataUpdateCoordinator

from .bus import Hearthd, HearthdError, NoBus, NotRunning, RequestFailed
from .const import CONF_BUS_ADDRESS, DOMAIN, LOGGER

type HearthdConfigEntry = ConfigEntry[HearthdCoordinator]

# The service announces changes ten times a second; every state is a row in a database
# on an SD card.
_WRITE_EVERY_S = 1.0
_RECONNECT_S = (1, 2, 5, 10, 30, 60)

ISSUE_ENGINE = "engine_failed"
ISSUE_MODEL = "model_missing"


class HearthdCoordinator(DataUpdateCoordinator[dict[str, Any]]):
    """Keeps the connection and the properties."""

    config_entry: HearthdConfigEntry
    service: Hearthd
    default_model = ""
    """The name of the model that answers where none is loaded or requested."""

    def __init__(self, hass: HomeAssistant, entry: HearthdConfigEntry) -> None:
        """Initialize without a connection."""
        super().__init__(hass, LOGGER, config_entry=entry, name=DOMAIN)
        self._properties: dict[str, Any] = {}
        self._writing = Debouncer(
            hass,
            LOGGER,
            cooldown=_WRITE_EVERY_S,
            immediate=True,
            function=self._write,
        )

    async def async_start(self) -> None:
        """Connect, and stay connected until the entry is unloaded."""
        await self._connect()
        self.config_entry.async_create_background_task(
            self.hass, self._stay_connected(), f"{DOMAIN} connection"
        )

    async def async_stop(self) -> None:
        """Disconnect from the bus."""
        self._writing.async_shutdown()
        self.service.disconnect()

    @callback
    def async_report(self, failure: HearthdError) -> None:
        """Create an issue for problems that only a user can solve."""
        if isinstance(failure, RequestFailed):
            if failure.kind == "EngineCrashed":
                self._raise(ISSUE_ENGINE, str(failure))
            elif failure.kind == "ModelNotFound":
                self._raise(ISSUE_MODEL, str(failure))

    @override
    async def _async_update_data(self) -> dict[str, Any]:
        """Answer homeassistant.update_entity."""
        self._properties = await self.service.properties()
        return dict(self._properties)

    async def _connect(self) -> None:
        """Connect to the bus and read everything once."""
        service = await Hearthd.connect(self.config_entry.data.get(CONF_BUS_ADDRESS))
        try:
            await service.listen(self._changed, self._owned)
            self._properties = await service.properties()
            models = await service.models()
            defaults = (model["name"] for model in models if model["is_default"])
            self.default_model = next(defaults, "")
        except BaseException:
            service.disconnect()
            raise
        self.service = service
        self._write()

    async def _stay_connected(self) -> None:
        """Reconnect to the bus whenever the connection is lost."""
        while True:
            await self.service.wait_closed()
            self._lost(NoBus(reason="the connection was closed"))
            for tries in count():
                await asyncio.sleep(_RECONNECT_S[min(tries, len(_RECONNECT_S) - 1)])
                try:
                    await self._connect()
                except HearthdError as err:
                    LOGGER.debug("Not connected yet: %s", err)
                else:
                    break

    @callback
    def _changed(self, values: dict[str, Any]) -> None:
        """Handle changes that the service announces."""
        self._properties |= values
        self._writing.async_schedule_call()

    @callback
    def _owned(self, owned: bool) -> None:
        """Handle that the service appeared or disappeared."""
        if owned:
            self.config_entry.async_create_background_task(
                self.hass, self._read_again(), f"{DOMAIN} after a restart"
            )
        else:
            self._lost(NotRunning(reason="it was stopped"))

    async def _read_again(self) -> None:
        """Read everything of a service that has just started."""
        try:
            self._properties = await self.service.properties()
        except HearthdError as err:
            self._lost(err)
        else:
            self._write()

    @callback
    def _lost(self, err: HearthdError) -> None:
        """Make all entities unavailable."""
        self._writing.async_cancel()
        self.async_set_update_error(err)

    @callback
    def _write(self) -> None:
        """Update the entities, and create or delete issues."""
        properties = dict(self._properties)
        state = properties.get("State")
        if state == "failed":
            self._raise(ISSUE_ENGINE, properties.get("LimitReason", ""))
        elif state in ("ready", "busy", "limited"):
            for issue in (ISSUE_ENGINE, ISSUE_MODEL):
                ir.async_delete_issue(self.hass, DOMAIN, issue)
        self.async_set_updated_data(properties)

    @callback
    def _raise(self, issue: str, reason: str) -> None:
        """Create an issue for the administrator of this home."""
        ir.async_create_issue(
            self.hass,
            DOMAIN,
            issue,
            is_fixable=False,
            severity=ir.IssueSeverity.ERROR,
            translation_key=issue,
            translation_placeholders={"reason": reason},
            learn_more_url="https://github.com/hearthd/hearthd/blob/main/docs/home-assistant.md#when-something-is-wrong",
        )
