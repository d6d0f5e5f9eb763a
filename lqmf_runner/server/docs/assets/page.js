// Sends the examples of the page, and writes them as curl commands.
"use strict";

const model = document.getElementById("model");
const key = document.getElementById("key");
let keysAreWanted = false;

/** One "try it" panel. */
class Panel {
  constructor(element) {
    this.find = (selector) => element.querySelector(selector);
    this.method = element.dataset.method;
    this.path = element.dataset.path;
    this.inputs = [...element.querySelectorAll("input")];
    this.body = this.find("textarea");
    this.example = this.find("select.example");
    this.example?.addEventListener("change", () => this.choose());
    element.addEventListener("input", () => this.write());
    this.find(".send").addEventListener("click", () => this.send());
    this.find(".stop").addEventListener("click", () => this.running.abort());
    this.find(".copy").addEventListener("click", () => this.copy());
    this.fit();
    this.write();
  }

  choose() {
    this.body.value = this.example.value;
    this.name(model.value);
    this.fit();
  }

  /** Put a model's name where the request has one. */
  name(chosen) {
    for (const input of this.inputs) if (input.name === "name") input.value = chosen;
    try {
      const body = JSON.parse(this.body.value);
      if ("model" in body) this.body.value = JSON.stringify({ ...body, model: chosen }, null, 2);
    } catch {} // no body, or one that is being edited
    this.write();
  }

  fit() {
    if (this.body) this.body.rows = Math.min(24, this.body.value.split("\n").length + 1);
  }

  url() {
    const query = new URLSearchParams();
    let path = this.path;
    for (const { name, value, dataset } of this.inputs) {
      if (dataset.in === "path") path = path.replace(`{${name}}`, encodeURIComponent(value));
      else if (value) query.set(name, value);
    }
    return location.origin + path + (query.size ? `?${query}` : "");
  }

  curl(shownKey) {
    const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
    const parts = [`curl ${this.streams() ? "-N " : ""}${quote(this.url())}`];
    const body = this.body?.value.trim();
    if (this.method !== (body ? "POST" : "GET")) parts.push(`-X ${this.method}`);
    if (shownKey) parts.push(`-H ${quote(`Authorization: Bearer ${shownKey}`)}`);
    if (body) parts.push("-H 'Content-Type: application/json'", `-d ${quote(body)}`);
    return parts.join(" \\\n  ");
  }

  streams() {
    return /"stream":\s*true/.test(this.body?.value ?? "");
  }

  write() {
    const hidden = key.value ? "•".repeat(8) : "";
    this.find(".curl").textContent = this.curl(hidden || (keysAreWanted ? "YOUR_KEY" : ""));
  }

  async copy() {
    const button = this.find(".copy");
    const text = this.curl(key.value || (keysAreWanted ? "YOUR_KEY" : ""));
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch { // only pages of this machine, or over HTTPS, may use the clipboard
      getSelection().selectAllChildren(this.find(".curl"));
      button.textContent = "Select and copy";
    }
  }

  async send() {
    this.running?.abort();
    const running = (this.running = new AbortController());
    this.show("sent …", "", "");
    this.find(".stop").hidden = false;
    const began = performance.now();
    const took = () => `${Math.round(performance.now() - began)} ms`;
    try {
      const response = await fetch(this.url(), this.request(running.signal));
      const head = `${response.status} ${response.statusText} · first byte after ${took()}`;
      await this.read(response, (text, raw) => this.show(`${head} · ${took()}`, text, raw));
    } catch (error) {
      if (running.signal.aborted) this.find(".status").textContent += " · stopped";
      else this.show(`no answer: ${error.message}`, "", "");
    }
    if (this.running === running) this.find(".stop").hidden = true;
  }

  request(signal) {
    const headers = {};
    if (key.value) headers.Authorization = `Bearer ${key.value}`;
    const body = this.body?.value.trim() || undefined;
    if (body) headers["Content-Type"] = "application/json";
    return { method: this.method, headers, body, signal };
  }

  /** Hand on what has come so far: the text of a stream, and everything as it came. */
  async read(response, show) {
    const events = (response.headers.get("content-type") ?? "").startsWith("text/event-stream");
    const decoder = new TextDecoder();
    let raw = "";
    for (const reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      raw += decoder.decode(value, { stream: !done });
      if (done) break;
      if (events) show(streamedText(raw), raw);
    }
    show(events ? streamedText(raw) : "", events ? raw : pretty(raw));
  }

  show(status, text, raw) {
    this.find(".result").hidden = false;
    this.find(".status").textContent = status;
    this.find(".status").dataset.kind = status[0];
    this.find(".text").textContent = text;
    this.find(".text").hidden = !text;
    this.find(".raw").textContent = raw;
  }
}

/** What the events of a stream say together, in OpenAI's shapes and ours. */
function streamedText(raw) {
  let text = "";
  for (const [, data] of raw.matchAll(/^data: (\{.*\})$/gm)) {
    const event = JSON.parse(data);
    const choice = event.choices?.[0];
    if (!choice?.index) text += choice?.delta?.content ?? choice?.text ?? event.response ?? "";
  }
  return text;
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

const panels = [...document.querySelectorAll(".try")].map((element) => new Panel(element));
const writeAll = () => panels.forEach((panel) => panel.write());
const open = () => {
  const chosen = document.getElementById(location.hash.slice(1));
  if (chosen instanceof HTMLDetailsElement) {
    chosen.open = true;
    chosen.scrollIntoView();
  }
};

model.addEventListener("change", () => panels.forEach((panel) => panel.name(model.value)));
key.addEventListener("input", writeAll);
addEventListener("hashchange", open);
if (matchMedia("(max-width: 60rem)").matches) document.querySelector("nav details").open = false;
open();
// A browser that has been let in sends its key by itself; whether a command needs one, only an answer without it tells.
fetch(`${location.origin}/`, { credentials: "omit" }).then((response) => {
  keysAreWanted = response.status === 401;
  if (keysAreWanted) key.placeholder = "as you came in";
  writeAll();
});
