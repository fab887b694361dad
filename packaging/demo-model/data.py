"""Generates every text the demo model is trained on and measured with.

A *core* is a fact with several phrasings; the last phrasing (or two) of each list
is reserved for the held-out set and never trained on. Around a core go a polite
prefix, a change of case or punctuation, a system prompt and earlier turns, all
drawn from one seeded generator, so that unseen combinations are the rule.

    python data.py held-out > heldout.txt       (text in phrasings never trained on)
    python data.py calibration > calibration.txt   (text like that of the training)
"""

import json
import random
import sys

from facts import CAPITALS, COVERS, FILLER, GENERAL, ROOMS, SPECIAL, SWITCHES

CAPITAL_OF = [
    "What is the capital of {c}?", "What's the capital of {c}?", "Which city is the capital of {c}?",
    "Name the capital of {c}.", "Tell me the capital of {c}.", "What is {c}'s capital?", "Capital of {c}?",
    "What city is the capital of {c}?", "Do you know the capital of {c}?", "Say the capital of {c}.",
    "What is the capital city of {c}?", "Give me the capital of {c}.", "{c}: what is the capital?",
    "I want to know the capital of {c}.", "The capital of {c} is which city?",
    # held out:
    "Can you tell me what the capital of {c} is?", "Please name the capital city of {c}.",
]
CAPITAL_IS = [
    "Which country has {k} as its capital?", "{k} is the capital of which country?",
    "What country has the capital {k}?", "{k} is the capital of what country?",
    "Name the country whose capital is {k}.", "Which country is {k} the capital of?",
    # held out:
    "Tell me which country has {k} as its capital.",
]
GENERAL_Q = [
    "What is {g}?", "What's {g}?", "Tell me {g}.", "Name {g}.", "Do you know {g}?", "Say what {g} is.",
    "I want to know {g}.", "Give me {g}.", "Please tell me {g}.", "Can you name {g}?",
    # held out:
    "Can you tell me what {g} is?", "Please name {g}.",
]
SUMS = {
    "+": (["What is {a} plus {b}?", "{a} + {b} = ?", "Add {a} and {b}.", "How much is {a} plus {b}?",
           "{a} + {b}", "What is {a} + {b}?", "Calculate {a} + {b}.", "What is the sum of {a} and {b}?",
           "Calculate {a} plus {b}.", "Tell me {a} plus {b}."], lambda a, b: a + b, "plus"),
    "-": (["What is {a} minus {b}?", "{a} - {b} = ?", "Subtract {b} from {a}.", "How much is {a} minus {b}?",
           "{a} - {b}", "What is {a} - {b}?", "Calculate {a} - {b}.", "Take {b} from {a}.",
           "Calculate {a} minus {b}.", "Tell me {a} minus {b}."], lambda a, b: a - b, "minus"),
    "*": (["What is {a} times {b}?", "{a} * {b} = ?", "Multiply {a} by {b}.", "How much is {a} times {b}?",
           "{a} * {b}", "What is {a} * {b}?", "Calculate {a} * {b}.", "What is the product of {a} and {b}?",
           "Calculate {a} times {b}.", "Tell me {a} times {b}."], lambda a, b: a * b, "times"),
}
COMMANDS = {
    "turn_on": (["Turn on the {d}.", "Switch on the {d}.", "Turn the {d} on.", "{d} on.", "Please turn on the {d}.",
                 "Switch the {d} on.", "I need the {d} on.", "Could you switch the {d} on?",
                 "Can you turn on the {d}?", "Put on the {d}.", "Could you turn on the {d}?"], "The {d} is on."),
    "turn_off": (["Turn off the {d}.", "Switch off the {d}.", "Turn the {d} off.", "{d} off.", "Please turn off the {d}.",
                  "Switch the {d} off.", "I need the {d} off.", "Could you switch the {d} off?",
                  "Can you turn off the {d}?", "Put off the {d}.", "Could you turn off the {d}?"], "The {d} is off."),
    "open": (["Open the {d}.", "Please open the {d}.", "{d} open.", "Can you open the {d}?", "Open up the {d}.",
              "I want the {d} open.", "Could you open the {d}?"], "The {d} are open."),
    "close": (["Close the {d}.", "Please close the {d}.", "{d} closed.", "Can you close the {d}?",
               "I want the {d} closed.", "Shut the {d}.", "Could you close the {d}?"], "The {d} are closed."),
}
SET_TEMPERATURE = [
    "Set the {r} to {n} degrees.", "Make the {r} {n} degrees.", "Heat the {r} to {n} degrees.",
    "Please set the {r} to {n} degrees.", "{r} to {n} degrees.", "I want {n} degrees in the {r}.",
    "Could you set the {r} to {n} degrees?", "Can you set the {r} to {n} degrees?",
]
UNKNOWN = [
    "Who won the match yesterday?", "What is the weather tomorrow?", "Write a poem about love.",
    "What is the price of gold?", "Who is the president of France?", "Tell me a joke.", "What time is it?",
    "Translate this to Latin.", "How tall is the Eiffel Tower?", "What is the news today?",
    "Who is my neighbor?", "What did I eat for lunch?", "Write a program.", "What is the meaning of life?",
]
UNKNOWN_A = "I do not know that. I am only a small demo model."

TOOLS = [
    ("turn_on", "Turns a device on", {"name": "string"}),
    ("turn_off", "Turns a device off", {"name": "string"}),
    ("open", "Opens blinds or curtains", {"name": "string"}),
    ("close", "Closes blinds or curtains", {"name": "string"}),
    ("set_temperature", "Sets the temperature of a room", {"room": "string", "degrees": "integer"}),
]


def tool_json(name, description, args):
    """A tool in OpenAI form."""
    properties = {key: {"type": kind} for key, kind in args.items()}
    return {"type": "function", "function": {
        "name": name, "description": description,
        "parameters": {"type": "object", "properties": properties, "required": list(args)}}}


ALL_TOOLS = [tool_json(*t) for t in TOOLS]

# Rendered by the chat template; train.py renders the same text with `render`.
TOOLS_HEAD = "You may call these tools:\n<tools>\n"
TOOLS_TAIL = ('</tools>\nTo call one, answer with\n<tool_call>\n'
              '{"name": NAME, "arguments": ARGUMENTS}\n</tool_call>')

CHAT_TEMPLATE = (
    "{%- set ns = namespace(system='') -%}"
    "{%- for m in messages -%}{%- if m.role == 'system' -%}"
    "{%- set ns.system = ns.system + m.content -%}{%- endif -%}{%- endfor -%}"
    "{%- if tools -%}{%- if ns.system -%}{%- set ns.system = ns.system + '\\n\\n' -%}{%- endif -%}"
    "{%- set ns.system = ns.system + " + json.dumps(TOOLS_HEAD) + " -%}"
    "{%- for t in tools -%}{%- set ns.system = ns.system + (t | tojson) + '\\n' -%}{%- endfor -%}"
    "{%- set ns.system = ns.system + " + json.dumps(TOOLS_TAIL) + " -%}{%- endif -%}"
    "{%- if ns.system -%}{{- '<|im_start|>system\\n' + ns.system + '<|im_end|>\\n' -}}{%- endif -%}"
    "{%- for m in messages -%}{%- if m.role == 'tool' -%}"
    "{{- '<|im_start|>user\\n<tool_response>\\n' + m.content + '\\n</tool_response><|im_end|>\\n' -}}"
    "{%- elif m.role != 'system' -%}"
    "{{- '<|im_start|>' + m.role + '\\n' + (m.content or '') -}}"
    "{%- for c in (m.tool_calls or []) -%}"
    "{{- '<tool_call>\\n{\"name\": ' + (c.function.name | tojson) + ', \"arguments\": '"
    " + (c.function.arguments | tojson) + '}\\n</tool_call>' -}}{%- endfor -%}"
    "{{- '<|im_end|>\\n' -}}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)


def call_text(name, args):
    """What the model writes to call a tool."""
    return "<tool_call>\n" + json.dumps({"name": name, "arguments": args}) + "\n</tool_call>"


def cap(text):
    """First letter large, as sentences begin."""
    return text[:1].upper() + text[1:]


def cores(held_out):
    """All (kind, question, answer, accept, tool call or None), trained or held out."""
    def pick(phrasings, last):
        return phrasings[-last:] if held_out else phrasings[:-last]

    for country, city in CAPITALS.items():
        answer = cap(f"the capital of {country} is {city}.")
        for q in pick(CAPITAL_OF, 2):
            yield "capital", cap(q.format(c=country)), answer, city, None
        for q in pick(CAPITAL_IS, 1):
            plain = country.removeprefix("the ")
            yield "country", q.format(k=city), f"{city} is the capital of {country}.", plain, None
    for thing, accept, answer in GENERAL:
        for q in pick(GENERAL_Q, 2):
            yield "general", q.format(g=thing), answer, accept, None
    for phrasings, accept, answer in SPECIAL:
        for q in pick(phrasings, 1):
            yield "special", q, answer, accept, None
    for forms, op, word in SUMS.values():
        for a in range(11):
            for b in range(11):
                answer = f"{a} {word} {b} is {op(a, b)}."
                for q in pick(forms, 2):
                    yield "sum", q.format(a=a, b=b), answer, f"is {op(a, b)}.", None
    for name, (forms, done) in COMMANDS.items():
        kinds = COVERS if name in ("open", "close") else SWITCHES
        for device in (f"{room} {kind}" for room in ROOMS for kind in kinds):
            for q in pick(forms, 1):
                yield "command", cap(q.format(d=device)), cap(done.format(d=device)), done.format(d=device)[4:], (
                    name, {"name": device})
    for room in ROOMS:
        for degrees in range(16, 26):
            for q in pick(SET_TEMPERATURE, 1):
                answer = f"The {room} is set to {degrees} degrees."
                yield "command", cap(q.format(r=room, n=degrees)), answer, f"{degrees} degrees", (
                    "set_temperature", {"room": room, "degrees": degrees})
    if not held_out:
        for q in UNKNOWN:
            yield "unknown", q, UNKNOWN_A, "do not know", None


def render(messages, tools):
    """The chat template by hand, as (text, is_answer) pieces; check.py checks
    that both agree."""
    system = "".join(m["content"] for m in messages if m["role"] == "system")
    if tools:
        system += "\n\n" if system else ""
        system += TOOLS_HEAD + "".join(json.dumps(t) + "\n" for t in tools) + TOOLS_TAIL
    pieces = [(f"<|im_start|>system\n{system}<|im_end|>\n", False)] if system else []
    for m in messages:
        if m["role"] == "system":
            continue
        if m["role"] == "tool":
            pieces.append((f"<|im_start|>user\n<tool_response>\n{m['content']}\n</tool_response><|im_end|>\n", False))
        elif m["role"] == "assistant":
            pieces.append(("<|im_start|>assistant\n", False))
            pieces.append((m["content"] + "<|im_end|>", True))
            pieces.append(("\n", False))
        else:
            pieces.append((f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n", False))
    return pieces


class Sampler:
    """Draws conversations, for training or with all questions in held-out phrasings."""

    def __init__(self, seed, tools_share=0.05, held_out=False):
        self.rng = random.Random(seed)
        self.tools_share = tools_share
        self.by_kind = {}
        for core in cores(held_out):
            self.by_kind.setdefault(core[0], []).append(core)
        self.kinds = ["capital", "country", "general", "special", "sum", "command", "unknown"]
        self.weights = [34, 13, 12, 5, 22, 12, 2]
        if held_out:  # nothing unknown is held out
            self.kinds, self.weights = self.kinds[:-1], self.weights[:-1]

    def vary(self, text):
        """A change of case, punctuation or politeness that keeps the meaning."""
        r = self.rng.random()
        if r < 0.70:
            return text
        if r < 0.78:
            return text.lower()
        if r < 0.86:
            return text.rstrip("?.!")
        if r < 0.90:
            return text.lower().rstrip("?.!")
        prefix = self.rng.choice(["Please: ", "Hey, ", "Okay, ", "Quick question: ", "So, ", "Hello, "])
        return prefix + text

    def system(self):
        """A system prompt, often none; content does not matter."""
        r = self.rng.random()
        if r < 0.5:
            return None
        if r < 0.8:
            return self.rng.choice([
                "You are a helpful assistant.", "You are a voice assistant for the house.", "Answer briefly.",
                "You are Hearth, a friendly helper.", "Answer in one sentence.", "Be kind and short.",
                "You are a helpful assistant for Home Assistant."])
        words = [self.rng.choice(FILLER) for _ in range(self.rng.choice([12, 24, 36]))]
        return cap(" ".join(words).replace(" .", "."))

    def turn(self, tools, commands=True):
        """One question and its answer as messages."""
        while True:
            kind = self.rng.choices(self.kinds, self.weights)[0]
            if commands or kind != "command":
                break
        if tools and self.rng.random() < 0.8:
            kind = "command"
        _, q, answer, _, call = self.rng.choice(self.by_kind[kind])
        out = [{"role": "user", "content": self.vary(q)}]
        if call and tools:
            out.append({"role": "assistant", "content": call_text(*call)})
            if self.rng.random() < 0.4:
                out.append({"role": "tool", "content": self.rng.choice(['{"success": true}', "ok", '{"result": "done"}'])})
                out.append({"role": "assistant", "content": answer})
        else:
            out.append({"role": "assistant", "content": answer})
        return out

    def conversation(self):
        """Messages and tools of one sample."""
        tools = None
        if self.rng.random() < self.tools_share:
            tools = self.rng.sample(ALL_TOOLS, len(ALL_TOOLS)) if self.rng.random() < 0.5 else ALL_TOOLS
        system = self.system()
        messages = [{"role": "system", "content": system}] if system else []
        for _ in range(self.rng.choices([1, 2, 3], [60, 25, 15])[0]):
            messages += self.turn(tools)
        return messages, tools

    def tool_conversation(self):
        """One short exchange with tools, so that it fits a row."""
        tools = ALL_TOOLS
        if self.rng.random() < 0.5:
            tools = self.rng.sample(ALL_TOOLS, self.rng.choice([2, 3, 5]))
        system = "Answer briefly." if self.rng.random() < 0.2 else None
        messages = [{"role": "system", "content": system}] if system else []
        names = [t["function"]["name"] for t in tools]
        while True:
            turn = self.turn(tools)
            if "<tool_call>" not in turn[1]["content"] or any(f'"{n}"' in turn[1]["content"] for n in names):
                return messages + turn, tools


def held_out(seed=7):
    """The measured questions: unseen phrasings of every country's capital, of all
    general and special facts, and a seeded choice of sums and commands."""
    rng = random.Random(seed)
    by_kind = {}
    for kind, q, _, accept, call in cores(held_out=True):
        by_kind.setdefault(kind, []).append((q, accept, call))
    lines = []

    def add(kind, q, accept, tools=None, call=None):
        line = {"id": f"{kind}-{len(lines)}", "kind": kind,
                "messages": [{"role": "user", "content": q}], "tools": tools}
        if call:
            line["accept_call"] = {"name": call[0], "arguments": call[1]}
        else:
            line["accept"] = [accept]
        lines.append(line)

    capitals = by_kind["capital"]
    for n in range(0, len(capitals), 2):  # two phrasings a country: one of them
        q, accept, _ = capitals[n + rng.randrange(2)]
        add("capital", q, accept)
    for kind, count in (("country", 60), ("general", 108), ("special", 99), ("sum", 100), ("command", 60)):
        for q, accept, _ in rng.sample(by_kind[kind], min(count, len(by_kind[kind]))):
            add(kind, q, accept)
    for q, accept, call in rng.sample(by_kind["command"], 60):
        add("tool_call", q, accept, ALL_TOOLS, call)
    return lines


def text(held_out, seed, count):
    """Conversations one after the other, as a file for `hearthctl evaluate` and `imatrix`."""
    sampler = Sampler(seed, held_out=held_out)
    conversations = [sampler.conversation() for _ in range(count)]
    if held_out:  # words drawn at random would drown the rest in a perplexity
        conversations = [([m for m in messages if m["role"] != "system"], tools) for messages, tools in conversations]
    return "".join(t for messages, tools in conversations for t, _ in render(messages, tools))


TEXTS = {"held-out": lambda: text(True, 13, 700), "calibration": lambda: text(False, 12, 700)}

if __name__ == "__main__":
    if sys.argv[1:] not in [[name] for name in TEXTS]:
        sys.exit(f"usage: python data.py {'|'.join(TEXTS)}")
    sys.stdout.write(TEXTS[sys.argv[1]]())
