"use strict";
const $ = (id) => document.getElementById(id);
const SAMPLES = 300; // one a second
const KEY = "hearthd-token";

// --- requests ---------------------------------------------------------------
const token = () => sessionStorage.getItem(KEY);
function ask(path, options = {}) {
  const headers = { "Content-Type": "application/json" };
  if (token()) headers.Authorization = "Bearer " + token();
  return fetch(path, { ...options, headers, cache: "no-store" });
}
function wantToken(wanted) {
  if (wanted && $("pass").hidden) { $("pass").hidden = false; $("token").focus(); }
  if (!wanted) $("pass").hidden = true;
}
$("pass").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, $("token").value.trim());
  $("token").value = "";
  wantToken(false);
  look();
  listModels();
});

// --- plots --------------------------------------------------------------------
const SVG = "http://www.w3.org/2000/svg";
function element(parent, name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return parent.appendChild(made);
}
class Plot {
  constructor(id, least, most) {
    this.figure = $(id);
    this.least = least;
    this.most = most;
    this.values = [];
    this.svg = element(this.figure, "svg", { viewBox: "0 0 300 60", preserveAspectRatio: "none", role: "img" });
    this.area = element(this.svg, "path", { class: "area" });
    this.path = element(this.svg, "path", {});
    this.line = element(this.svg, "line", { x1: 0, x2: 300, visibility: "hidden" });
  }
  add(value, text, limit) {
    this.values.push(value);
    if (this.values.length > SAMPLES) this.values.shift();
    const known = this.values.filter((v) => v !== null);
    const least = Math.min(this.least, ...known);
    const most = Math.max(this.most, limit ?? 0, ...known);
    const y = (v) => (56 - (v - least) / (most - least || 1) * 50).toFixed(1);
    const from = SAMPLES - this.values.length;
    let drawn = "", areas = "", begun = null, last = 0;
    this.values.forEach((v, i) => {
      if (v === null) { if (begun !== null) areas += `V60H${begun}Z`; begun = null; return; }
      const point = `${from + i} ${y(v)}`;
      drawn += (begun === null ? "M" : "L") + point;
      areas += begun === null ? `M${from + i} 60L${point}` : `L${point}`;
      if (begun === null) begun = from + i;
      last = from + i;
    });
    if (begun !== null) areas += `L${last} 60Z`;
    this.path.setAttribute("d", drawn);
    this.area.setAttribute("d", areas);
    this.line.setAttribute("visibility", limit ? "visible" : "hidden");
    if (limit) for (const end of ["y1", "y2"]) this.line.setAttribute(end, y(limit));
    this.figure.querySelector("output").textContent = text;
    const what = this.figure.querySelector("figcaption").textContent;
    const range = known.length ? `, between ${Math.min(...known).toFixed(1)} and ${Math.max(...known).toFixed(1)}` : "";
    this.svg.setAttribute("aria-label", `${what} in the last five minutes: now ${text}${range}`);
  }
}
const plots = {
  temperature: new Plot("temperature", 30, 60),
  speed: new Plot("speed", 0, 1),
  threads: new Plot("threads", 0, 100),
  queue: new Plot("queue", 0, 2),
};

// --- the board ------------------------------------------------------------------
const mib = (bytes) => bytes >= 1 << 30 ? (bytes / (1 << 30)).toFixed(1) + " GiB" : Math.round(bytes / (1 << 20)) + " MiB";
function ago(seconds) {
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  return `${Math.floor(seconds / 3600)} h ago`;
}
const time = (ms) => ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
function cell(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}
let before = null;
function show({ service, board }) {
  const now = performance.now();
  const tokens = board.tokens_generated;
  const elapsed = before ? (now - before.now) / 1000 : 0;
  const speed = before && tokens >= before.tokens ? (tokens - before.tokens) / elapsed : 0;
  before = { now, tokens };
  const celsius = board.temperature_celsius ?? null;
  const limit = board.temperature_limit_celsius ?? null;
  const power = board.threads_max && service.state !== "unloaded" ? 100 * board.threads / board.threads_max * board.duty : 0;
  const requests = service.active_jobs + service.queue_length;
  const warmth = celsius === null ? "no sensor" : `${celsius.toFixed(1)} °C` + (limit ? ` of ${limit.toFixed(0)}` : "");
  $("temperature").hidden = celsius === null;
  plots.temperature.add(celsius, warmth, limit);
  plots.speed.add(speed, `${speed.toFixed(1)} tokens/s`);
  plots.threads.add(power, `${board.threads} of ${board.threads_max} threads` + (board.duty < 1 ? `, ${Math.round(board.duty * 100)} %` : ""));
  plots.queue.add(requests, `${service.active_jobs} running, ${service.queue_length} waiting`);
  const facts = [["Model", service.model || "none"], ["Context", service.context_size ? `${service.context_size} tokens` : "–"]];
  if (board.memory_total_bytes) facts.push(["Memory available", `${mib(board.memory_available_bytes)} of ${mib(board.memory_total_bytes)}`]);
  if (board.engine_bytes) facts.push(["Engine", mib(board.engine_bytes)]);
  // `zen4 (AVX2, …)`: the list is in `hearthctl status`.
  if (service.cpu) facts.push(["CPU kernels", service.cpu.split(" (")[0]]);
  if (board.firmware.length) facts.push(["Firmware", board.firmware.join(", ")]);
  $("facts").replaceChildren(...facts.flatMap(([name, text]) => [cell("dt", name), cell("dd", text)]));
  const decided = board.decisions.slice(0, 8).map(([age, text]) => {
    const item = document.createElement("li");
    item.append(cell("span", text), cell("time", ago(age)));
    return item;
  });
  $("log").replaceChildren(...(decided.length ? decided : [cell("li", "none yet")]));
  $("limits").textContent = service.limit_reason;
  $("state").textContent = service.state;
  $("state").dataset.state = service.state;
  $("brief").textContent = [celsius === null ? "" : `${celsius.toFixed(0)} °C`, `${speed.toFixed(1)} tokens/s`,
    `${board.threads} of ${board.threads_max} threads`].filter(Boolean).join(" · ");
}
let failures = 0;
async function look() {
  try {
    const response = await ask("/health", { signal: AbortSignal.timeout(8000) });
    const health = await response.json();
    if (failures > 0) listModels();
    failures = 0;
    $("lost").textContent = "";
    if (health.service) { wantToken(false); show(health); }
    else { $("state").textContent = "token required"; $("state").dataset.state = "lost"; wantToken(true); }
  } catch {
    failures += 1;
    before = null;
    for (const plot of Object.values(plots)) plot.add(null, "–");
    $("lost").textContent = "No connection to hearthd, retrying …";
    $("state").textContent = "no connection";
    $("state").dataset.state = "lost";
  }
}
async function watch() {
  for (;;) {
    if (!document.hidden) await look();
    await new Promise((wake) => setTimeout(wake, Math.min(1000 * (failures + 1), 5000)));
  }
}
async function listModels() {
  try {
    const { data } = await (await ask("/v1/models")).json();
    const chosen = $("model").value;
    $("model").replaceChildren(...data.map(({ id }) => new Option(id, id)));
    const loaded = data.find(({ meta }) => meta?.loaded)?.id;
    const wanted = chosen || loaded;
    if (data.some(({ id }) => id === wanted)) $("model").value = wanted;
  } catch { /* `look` shows the lost connection. */ }
}

// --- the conversation -----------------------------------------------------------
let messages = [];
let running = null;
const greeting = $("said").firstElementChild;
function turn(role, text) {
  greeting.remove();
  const made = document.createElement("div");
  made.className = "turn " + role;
  const body = cell("div", text);
  body.className = "text";
  made.append(cell("span", role === "user" ? "You: " : "Answer: "), body);
  made.firstChild.className = "visually-hidden";
  $("said").append(made);
  $("said").scrollTop = $("said").scrollHeight;
  return made;
}
function think(made, text) {
  let details = made.querySelector("details");
  if (!details) {
    details = document.createElement("details");
    details.append(cell("summary", "Thinking"), cell("div", ""));
    made.insertBefore(details, made.querySelector(".text"));
  }
  details.lastChild.textContent += text;
}
// Keeps the end in sight, unless one has scrolled up to read.
function follow() {
  const box = $("said");
  if (box.scrollHeight - box.scrollTop - box.clientHeight < 120) box.scrollTop = box.scrollHeight;
}
// Server-sent events: the data of each, as JSON.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data: ") && line !== "data: [DONE]") yield JSON.parse(line.slice(6));
    }
  }
}
async function answer() {
  const made = turn("assistant", "");
  const text = made.querySelector(".text");
  made.classList.add("running");
  running = new AbortController();
  $("send").hidden = true;
  $("stop").hidden = false;
  const began = performance.now();
  let first = null, usage = null, said = "", note = "";
  try {
    const body = { model: $("model").value || undefined, messages, stream: true, stream_options: { include_usage: true } };
    const response = await ask("/v1/chat/completions", { method: "POST", body: JSON.stringify(body), signal: running.signal });
    if (response.status === 401) wantToken(true);
    if (!response.ok) throw new Error((await response.json()).error.message);
    for await (const event of events(response.body)) {
      if (event.error) throw new Error(event.error.message);
      usage = event.usage ?? usage;
      const delta = event.choices[0]?.delta ?? {};
      if (delta.reasoning_content) think(made, delta.reasoning_content);
      if (!delta.content) continue;
      first ??= performance.now();
      said += delta.content;
      text.append(delta.content);
      follow();
    }
  } catch (error) {
    if (running.signal.aborted) note = "stopped";
    else if (said) note = error.message;
    else { made.classList.add("failed"); text.textContent = error.message; }
  }
  made.classList.remove("running");
  if (usage && first) {
    const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
    const rate = usage.completion_tokens > 1 ? ` at ${((usage.completion_tokens - 1) / (performance.now() - first) * 1000).toFixed(1)} tokens/s` : "";
    note = `${usage.completion_tokens} tokens${rate}, first token after ${time(first - began)}` +
      (cached ? `; ${cached} of ${usage.prompt_tokens} prompt tokens from the prefix cache` : "");
  }
  if (note) made.append(cell("small", note));
  follow();
  if (said) messages.push({ role: "assistant", content: said }); else messages.pop();
  running = null;
  $("stop").hidden = true;
  $("send").hidden = false;
  $("text").focus();
}
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text || running) return;
  $("text").value = "";
  messages.push({ role: "user", content: text });
  turn("user", text);
  answer();
});
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); $("ask").requestSubmit(); }
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") running?.abort(); });
$("stop").addEventListener("click", () => running?.abort());
$("fresh").addEventListener("click", () => {
  running?.abort();
  messages = [];
  $("said").replaceChildren(greeting);
  $("text").focus();
});
if (matchMedia("(max-width: 820px)").matches) $("board").open = false;
listModels();
watch();
