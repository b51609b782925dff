// Conversations to and from a JSON file.  A file may come from anywhere: nothing of it is taken but what is checked here.
import { LIMITS, NO_SETTINGS, newId, titleFrom } from "./conversation.js";

const FORMAT = "aha conversations", FILE_BYTES_MAX = 64 << 20, TEXT_MAX = 4 << 20, MANY_MAX = 10000;

export function exportText(conversations) {
  return JSON.stringify({ format: FORMAT, version: 1, exported: new Date().toISOString(), conversations }, null, 1);
}

export function exportFile(conversations, name) {
  const url = URL.createObjectURL(new Blob([exportText(conversations)], { type: "application/json" }));
  const a = document.createElement("a");
  a.href = url;
  a.download = name.replace(/[^\p{L}\p{N} ._-]+/gu, "").trim().slice(0, 80) + ".json";
  a.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

const text = (x, max = TEXT_MAX) => (typeof x === "string" ? x.slice(0, max) : "");
const count = (x) => (typeof x === "number" && Number.isFinite(x) && x >= 0 ? x : null);
const list = (x) => (Array.isArray(x) ? x.slice(0, MANY_MAX) : []);

function takeVersion(v) {
  return {
    thinking: text(v?.thinking), answer: text(v?.answer), model: text(v?.model, 200), seed: count(v?.seed), started: count(v?.started) ?? 0,
    thinkMs: count(v?.thinkMs), ms: count(v?.ms), thinkTokens: count(v?.thinkTokens) ?? 0, tokens: count(v?.tokens) ?? 0,
    exact: v?.exact === true, finish: text(v?.finish, 40) || "stopped", error: v?.error ? text(v.error, 2000) : null,
  };
}

function takeMessage(m) {
  if (m?.role === "user") return { role: "user", content: text(m.content) };
  if (m?.role !== "assistant") return null;
  const versions = list(m.versions).map(takeVersion);
  if (!versions.length) return null;
  return { role: "assistant", versions, at: Number.isInteger(m.at) && m.at >= 0 && m.at < versions.length ? m.at : versions.length - 1 };
}

function takeConversation(c) {
  const settings = { ...NO_SETTINGS, system: text(c?.settings?.system) };
  for (const [name, [low, high, whole]] of Object.entries(LIMITS)) {
    const n = count(c?.settings?.[name]);
    if (n !== null && n >= low && n <= high && (!whole || Number.isInteger(n))) settings[name] = n;
  }
  const messages = list(c?.messages).map(takeMessage).filter(Boolean);
  const now = Date.now();
  const taken = { id: newId(), title: text(c?.title, 200), named: c?.named === true, created: count(c?.created) ?? now, changed: count(c?.changed) ?? now, settings, messages };
  if (!taken.title) titleFrom(taken);
  return taken;
}

// New conversations with new ids; throws an Error with words.
export function importText(json) {
  if (json.length > FILE_BYTES_MAX) throw new Error(`The file has more than ${FILE_BYTES_MAX >> 20} MiB.`);
  let file;
  try {
    file = JSON.parse(json);
  } catch {
    throw new Error("The file is not JSON.");
  }
  if (file?.format !== FORMAT || !Array.isArray(file.conversations)) throw new Error("The file does not hold conversations that this page exported.");
  return list(file.conversations).map(takeConversation).filter((c) => c.messages.length > 0);
}
