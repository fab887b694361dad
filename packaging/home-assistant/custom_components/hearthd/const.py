"""Names and limits of the Hearthd integration."""

import logging

DOMAIN = "hearthd"
LOGGER = logging.getLogger(__package__)

# The contract of docs/api/dbus.md.
BUS_NAME = "org.hearthd.Inference1"
BUS_PATH = "/org/hearthd/Inference1"

CONF_BUS_ADDRESS = "bus_address"
CONF_MAX_HISTORY = "max_history"
CONF_MAX_TOKENS = "max_tokens"
CONF_PRIORITY = "priority"
CONF_TEMPERATURE = "temperature"
CONF_TOOLS = "tools"
CONF_CONFIRMATION = "confirmation"
# Verbs for this home, for small models, or Home Assistant's own tools.
TOOLS_HOME = "home"
TOOLS_OWN = "own"
# It was trained on Home Assistant's own tools.
DEMO_MODEL = "hearth-demo"

SUBENTRY_CONVERSATION = "conversation"
SUBENTRY_AI_TASK = "ai_task_data"

PRIORITIES = ["interactive", "normal", "background"]
# A speaker waits for the answer; an AI task is started by an automation.
DEFAULT_PRIORITY = {
    SUBENTRY_CONVERSATION: "interactive",
    SUBENTRY_AI_TASK: "background",
}
DEFAULT_MAX_HISTORY = 20

# Rounds of tool calls and their results, for one sentence.
MAX_TOOL_ROUNDS = 10
# Rounds where the home's verbs are offered: a command needs one, a question two.
MAX_HOME_ROUNDS = 3
