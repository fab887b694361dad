"""Homes as Home Assistant describes them to a model, and what is said in them.

Prompt lines and tools are Home Assistant's own (2026.11; tools in `home-tools.json`, as it
sent them from its demo home and from one with a to-do list). The homes are drawn: names, domains, areas, and which
tools there are. Many conversations share a home, as they do in a real one; so a home is
drawn first, and then turns in it.
"""

import json
import random
import zlib
from pathlib import Path

import data

HERE = Path(__file__).parent

INSTRUCTIONS = ("You are a voice assistant for Home Assistant.\nAnswer questions about the world truthfully.\n"
                "Respond simply and to the point in plain text.\n")
LIVE = """\
You ARE equipped to answer questions about the current state of
the home by retrieving live context. This is a primary function. Do not state you lack the
functionality if the question requires live data.
If the user asks about device existence/type (e.g., "Do I have lights in the bedroom?"): Answer
from the static context below.
If the user asks about the CURRENT state, value, or mode (e.g., "Is the lock locked?",
"Is the fan on?", "What mode is the thermostat in?", "What is the temperature outside?"):
    1.  Recognize this requires live data.
    2.  You MUST use the provided tool to retrieve live context. This tool will provide the needed \
real-time information (like temperature from the local weather, lock status, etc.).
    3.  Use the tool's response to answer the user accurately, stating the actual value or state it returned.
For general knowledge questions not about the home: Answer truthfully from internal knowledge.

"""
OVERVIEW = "Static Context: An overview of the areas and the devices in this smart home:\n"
CONTROL = ("When controlling Home Assistant always call the intent tools. Use {on} to lock and {off} to unlock a lock. "
           "When controlling a device, prefer passing just name and domain. When controlling an area, prefer passing "
           "just area name and domain.")
ANYWHERE = ("When a user asks to turn on all devices of a specific type, ask the user to specify an area, "
            "unless there is only one device of that type.")
IN_AREA = "You are in area {area} and all generic commands like 'turn on the lights' should target this area."
NO_TIMERS = "This device is not able to start timers."

TOOLS = json.loads((HERE / "home-tools.json").read_text())
ON, OFF = "intent__HassTurnOn", "intent__HassTurnOff"

# Lists end with what is held out: never trained on.
TURN = {
    True: [*data.COMMANDS["turn_on"][0][:-1], "Could you please turn on the {d}?", "Turn the {d} on, please.",
           "I want the {d} on.", "Start the {d}.", "Activate the {d}.", "Would you turn the {d} on?",
           # held out:
           "Could you turn on the {d}?", "Can you switch on the {d}?", "Would you switch the {d} on, please?"],
    False: [*data.COMMANDS["turn_off"][0][:-1], "Could you please turn off the {d}?", "Turn the {d} off, please.",
            "I want the {d} off.", "Stop the {d}.", "Deactivate the {d}.", "Would you turn the {d} off?",
            # held out:
            "Could you turn off the {d}?", "Can you switch off the {d}?", "Would you switch the {d} off, please?"],
}
MOVE = {
    True: ["Open the {d}.", "Please open the {d}.", "Can you open the {d}?", "I want the {d} open.",
           "Could you open the {d}?"],
    False: ["Close the {d}.", "Please close the {d}.", "Can you close the {d}?", "Shut the {d}.",
            "Could you close the {d}?"],
}
STATE = ["Is the {d} on?", "Is the {d} off?", "Did I leave the {d} on?", "What is the state of the {d}?"]
HELD_OUT = {"turn": 3, "move": 1}

PLACES = ["hall", "attic", "cellar", "porch", "dining room", "guest room", "balcony", "terrace"]
WHICH = ["ceiling", "floor", "desk", "bed", "reading", "corner", "decorative", "main", "old", "red", "Office RGBW"]
KINDS = {
    "light": ["light", "lamp", "lights", "lamps"],
    "switch": ["heater", "radio", "plug", "pump", "AC", "coffee machine"],
    "fan": ["fan"],
    "media_player": ["TV", "speaker"],
    "cover": ["blinds", "curtains", "window", "door"],
}
TURNED = ["light", "switch", "fan", "media_player", "input_boolean"]
# Things that nobody turns on.
OTHERS = [("Backup Manager state", "sensor"), ("Last attempted automatic backup", "sensor"), ("Forecast Home", "weather"),
          ("Last successful automatic backup", "sensor"), ("Next scheduled automatic backup", "sensor"), ("Sun", "sun"),
          ("Hearthd Temperature", "sensor"), ("Basement Floor Wet", "binary_sensor"), ("Ecobee", "climate"),
          ("HeatPump", "climate"), ("Hvac", "climate"), ("Front Door", "lock"), ("Demo Weather South", "weather"),
          ("Outside Temperature", "sensor"), ("Shopping list", "todo"), ("Shopping list", "todo"),
          ("Thermostat", "climate"), ("Movement Backyard", "binary_sensor")]


class Home:
    """What is in a home, and what Home Assistant says of it. Sizes: `tiny` has cut-down
    tools and a short prompt (to learn from cheaply), `small` what a small home has, and
    `whole` all tools and entities of Home Assistant's demo. One name in ten is held out:
    a home has either only such names or none of them."""

    def __init__(self, rng, size, held_out=False):
        self.rng, self.size, self.held_out = rng, size, held_out
        self.prefix = "" if rng.random() < 0.15 else "intent__"
        self.entities = self.draw_entities()
        self.tools = self.draw_tools()
        self.room = None if rng.random() < 0.85 else data.cap(rng.choice(PLACES))
        self.room_in_prompt = rng.random() < 0.5
        self.system = self.prompt()

    @classmethod
    def real(cls, entities, tools):
        """A home that is, as Hearthd's integration describes it."""
        self = cls(random.Random(0), "small")
        self.prefix, self.room, self.entities, self.tools = "intent__", None, entities, tools
        self.system = self.prompt()
        return self

    def name(self, domain):
        while True:
            name = self.draw_name(domain)
            if (zlib.crc32(name.lower().encode()) % 10 == 0) == self.held_out:
                return name

    def draw_name(self, domain):
        rng = self.rng
        kind = rng.choice(KINDS[domain])
        r = rng.random()
        if r < 0.7:
            words = f"{rng.choice(data.ROOMS if rng.random() < 0.6 else PLACES)} {kind}"
        elif r < 0.85:
            words = f"{rng.choice(WHICH)} {kind}"
        elif r < 0.95:
            words = f"{rng.choice(data.ROOMS + PLACES)} {rng.choice(WHICH)} {kind}"
        else:
            words = kind
        return data.cap(words) if rng.random() < 0.6 else " ".join(data.cap(w) for w in words.split(" "))

    def draw_entities(self):
        rng = self.rng
        boolean = rng.random() < 0.4
        domains = list(KINDS)
        count = {"tiny": rng.randint(1, 5), "small": rng.randint(1, 9), "whole": rng.randint(4, 10)}[self.size]
        if rng.random() < 0.3:
            count = min(count, 2)
        out = []
        for _ in range(count):
            domain = rng.choices(domains, [8, 4, 2, 1, 2])[0]
            out.append((self.name(domain), "input_boolean" if boolean and domain != "cover" else domain))
        if self.size == "whole":
            out += [e[:2] for e in DEMO_HOME if rng.random() < 0.9] + [e for e in OTHERS if rng.random() < 0.2]
        elif rng.random() < 0.5:
            out += rng.sample(OTHERS, rng.randint(1, 2 if self.size == "tiny" else 4))
        unique = {name.lower(): (name, domain) for name, domain in out}
        areas = [data.cap(p) if rng.random() < 0.5 else p.title() for p in rng.sample(data.ROOMS + PLACES, 5)]
        share = rng.choice([0, 0.5, 0.9])
        return [(*e, rng.choice(areas) if rng.random() < share else None) for e in sorted(unique.values())]

    def draw_tools(self):
        rng = self.rng
        chosen = [t for t in TOOLS if t["name"] in (ON, OFF)]
        others = [t for t in TOOLS if t["name"] not in (ON, OFF)]
        if self.size == "whole":
            chosen = [t for t in TOOLS if not t["name"].startswith("todo")]
        elif self.size == "small":
            # What is there in every home, and what comes with some of its things.
            usual = ["assist_satellite__HassBroadcast", "homeassistant__GetLiveContext",
                     "intent__HassCancelAllTimers", "llm__GetDateTime"]
            chosen += [t for t in others if t["name"] in usual and rng.random() < 0.8]
            if rng.random() < 0.5:
                chosen += [t for t in others if t["name"].startswith("todo")]
            chosen += rng.sample(others, rng.choice([0, 0, 1, 2]))
            chosen = [t for t in TOOLS if t in chosen]
        if rng.random() < 0.2:
            chosen = rng.sample(chosen, len(chosen))
        bare = rng.random() < 0.5
        out = []
        for t in chosen:
            parameters = dict(t["parameters"])
            if self.size == "tiny":  # without what makes them long
                parameters["properties"] = {k: v for k, v in parameters["properties"].items()
                                            if k == "name" or k != "device_class" and rng.random() < 0.3}
            if bare:
                parameters.pop("additionalProperties", None)
            name = t["name"] if self.prefix else t["name"].split("__")[1]
            # Clients order the keys as they like.
            if bare:
                function = {"name": name, "description": t["description"], "parameters": parameters}
            else:
                function = {"name": name, "parameters": parameters, "description": t["description"]}
            out.append({"type": "function", "function": function})
        return out

    def prompt(self):
        rng = self.rng
        out = INSTRUCTIONS
        if self.size != "tiny":
            out += LIVE
        out += OVERVIEW
        for name, domain, area in self.entities:
            out += f"- names: {name}\n  domain: {domain}\n" + (f"  areas: {area}\n" if area else "")
        control = CONTROL.format(on=self.prefix + "HassTurnOn", off=self.prefix + "HassTurnOff")
        lines = [control] if self.size != "tiny" or rng.random() < 0.2 else []
        if not self.room:
            lines.append(ANYWHERE)
        elif self.room_in_prompt:
            lines.append(IN_AREA.format(area=self.room))
        lines.append(NO_TIMERS)
        return out + "\n" + "\n".join(lines)

    def notes(self):
        """What Hearthd's integration puts before a question: what is true of it alone."""
        out = []
        if self.room and not self.room_in_prompt:
            out.append(IN_AREA.format(area=self.room))
        if self.rng.random() < 0.05:
            r = self.rng.randint
            out.append(f"Current time is {r(0, 23):02}:{r(0, 59):02}:{r(0, 59):02}. "
                       f"Today's date is 2026-{r(1, 12):02}-{r(1, 28):02}.")
        return "\n".join(out) + "\n\n" if out else ""


def result(name, domain, whole):
    """What Home Assistant says after a call: as Hearthd's integration passes it on, or
    (`whole`) as core's do."""
    entity = {"name": name, "type": "entity", "id": f"{domain}.{name.lower().replace(' ', '_')}"}
    said = {"speech": {}, "response_type": "action_done", "data": {"success": [entity], "failed": []}}
    return json.dumps({"data": said, "error": False} if whole else said, separators=(",", ":"))


# The homes that are measured: that of packaging/home-assistant/real.py, with its commands,
# and Home Assistant's demo, with the areas it had in tests/daemon/fixtures.
SMALL = [("Bedroom lamp", "input_boolean", None), ("Hearthd Temperature", "sensor", None),
         ("Kitchen light", "input_boolean", None), ("Shopping list", "todo", None)]
DEMO_HOME = [
    ("AC", "switch", "Garage"), ("Backup Manager state", "sensor", "Kitchen"),
    ("Last attempted automatic backup", "sensor", "Living Room"),
    ("Last successful automatic backup", "sensor", "Garage"),
    ("Next scheduled automatic backup", "sensor", "Bedroom"), ("Basement Floor Wet", "binary_sensor", "Kitchen"),
    ("Bed Light", "light", "Living Room"), ("Bedroom", "media_player", None), ("Ceiling Fan", "fan", "Living Room"),
    ("Ceiling Lights", "light", "Kitchen"), ("Decorative Lights", "switch", "Bedroom"),
    ("Demo Weather South", "weather", "Living Room"), ("Demo vacuum 0 ground floor", "vacuum", "Garage"),
    ("Ecobee", "climate", "Bedroom"), ("Entrance Color + White Lights", "light", "Kitchen"),
    ("Front Door", "lock", None), ("Garage Door", "cover", "Bedroom"), ("Hall Window", "cover", "Living Room"),
    ("HeatPump", "climate", "Living Room"), ("Hvac", "climate", "Kitchen"), ("Kitchen Lights", "light", "Bedroom"),
    ("Kitchen Window", "cover", "Garage"), ("Living Room", "media_player", None),
    ("Living Room Fan", "fan", "Garage"), ("Living Room RGBWW Lights", "light", "Living Room"),
    ("Living Room Window", "cover", "Kitchen"), ("Office RGBW Lights", "light", "Garage"),
    ("Percentage Full Fan", "fan", "Kitchen"), ("Walkman", "media_player", None),
]
COMMANDS = [("Turn on the kitchen light.", True, "Kitchen light"), ("Switch on the kitchen light.", True, "Kitchen light"),
            ("Turn the kitchen light off.", False, "Kitchen light"),
            ("Please turn off the kitchen light.", False, "Kitchen light"),
            ("Turn on the bedroom lamp.", True, "Bedroom lamp"), ("Switch the bedroom lamp off.", False, "Bedroom lamp"),
            ("Could you turn on the bedroom lamp?", True, "Bedroom lamp"),
            ("I need the kitchen light on.", True, "Kitchen light")]


def tools_of(names):
    return [{"type": "function", "function": t} for t in TOOLS if t["name"] in names]


def held_out(seed=8):
    """What is measured: (kind, home, question, call). `real` has the commands of real.py,
    `new` names and phrasings that were never trained on, `demo` such phrasings in Home
    Assistant's demo home."""
    rng = random.Random(seed)

    def ask(kind, home, names):
        for n, name in enumerate(names):
            on = n % 2 == 0
            form = rng.choice(TURN[on][-HELD_OUT["turn"]:])
            said = name.lower() if rng.random() < 0.65 else name
            tool = home.prefix + ("HassTurnOn" if on else "HassTurnOff")
            yield kind, home, form.format(d=said), {"name": tool, "arguments": {"name": name}}

    usual = ["assist_satellite__HassBroadcast", "homeassistant__GetLiveContext", ON, OFF, "intent__HassCancelAllTimers",
             "llm__GetDateTime", *(t["name"] for t in TOOLS if t["name"].startswith("todo"))]
    small = Home.real(SMALL, tools_of(usual))
    for question, on, name in COMMANDS:
        yield "real", small, question, {"name": ON if on else OFF, "arguments": {"name": name}}
    for _ in range(16):
        drawn = Home(rng, "small", held_out=True)
        names = [name for name, domain, _ in drawn.entities if domain in TURNED]
        yield from ask("new", drawn, rng.sample(names, min(3, len(names))))
    demo = Home.real(DEMO_HOME, tools_of([t["name"] for t in TOOLS if not t["name"].startswith("todo")]))
    yield from ask("demo", demo, ["Kitchen Lights", "Bed Light", "Ceiling Lights", "Decorative Lights", "AC", "Ceiling Fan",
                                  "Living Room Fan", "Office RGBW Lights", "Walkman", "Living Room RGBWW Lights",
                                  "Entrance Color + White Lights", "Percentage Full Fan"])


class Talk:
    """Turns in a home: commands for what is in it, and the questions of `data.py`."""

    def __init__(self, sampler, results):
        self.sampler = sampler
        self.results = results
        self.rng = sampler.rng

    def turn(self, home):
        """A question and its answers as messages."""
        rng = self.rng
        things = [e for e in home.entities if e[1] in TURNED or e[1] == "cover"]
        r = rng.random()
        if r < 0.2 or not things:
            return self.with_notes(home, self.sampler.turn(None, commands=False))
        name, domain, _ = rng.choice(things)
        # Things have other names than those that are listed (Home Assistant's aliases), and
        # names are taken in any case: what is called is what was said.
        if rng.random() < 0.4 and domain in KINDS:
            name = home.name(domain)
        said = name.lower() if rng.random() < 0.65 else name
        if r < 0.25:
            question = self.sampler.vary(rng.choice(STATE).format(d=said))
            return self.with_notes(home, [{"role": "user", "content": question},
                                          {"role": "assistant", "content": data.UNKNOWN_A}])
        on = rng.random() < 0.5
        forms = MOVE[on][:-HELD_OUT["move"]] if domain == "cover" else TURN[on][:-HELD_OUT["turn"]]
        question = self.sampler.vary(data.cap(rng.choice(forms).format(d=said)))
        call = data.call_text(home.prefix + ("HassTurnOn" if on else "HassTurnOff"), {"name": said})
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": call}]
        if rng.random() < self.results:
            state = {True: "open", False: "closed"}[on] if domain == "cover" else {True: "on", False: "off"}[on]
            verb = "are" if name.endswith("s") else "is"
            messages.append({"role": "tool", "content": result(name, domain, rng.random() < 0.4)})
            messages.append({"role": "assistant", "content": f"The {said} {verb} {state}."})
        return self.with_notes(home, messages)

    @staticmethod
    def with_notes(home, messages):
        messages[0]["content"] = home.notes() + messages[0]["content"]
        return messages
