// What a conversation is: plain data, as it is stored and exported.
//
//   {id, title, named, created, changed, settings: {system, temperature, top_p, max_tokens, budget, seed},
//    messages: [{role: "user", content} | {role: "assistant", versions: [Version], at}]}
//   Version: {thinking, answer, model, seed, started, thinkMs, ms, thinkTokens, tokens, exact, finish, error}
//
// Times are milliseconds since 1970, settings are null where the server decides.  A version without `finish` is under way, or
// was when the page was closed.
export const NO_SETTINGS = { system: "", temperature: null, top_p: null, max_tokens: null, budget: null, seed: null };

export function newId() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((b) => b.toString(16).padStart(2, "0")).join("");
}

export function newConversation(settings) {
  const now = Date.now();
  return { id: newId(), title: "", named: false, created: now, changed: now, settings: { ...NO_SETTINGS, ...settings }, messages: [] };
}

export function newVersion(model, seed) {
  return { thinking: "", answer: "", model, seed, started: Date.now(), thinkMs: null, ms: null, thinkTokens: 0, tokens: 0, exact: false, finish: null, error: null };
}

export const versionOf = (message) => message.versions[message.at];

export function titleOf(conversation) {
  return conversation.title || "New conversation";
}

// The first question gives the title, until somebody gives another.
export function titleFrom(conversation) {
  if (conversation.named) return;
  const first = conversation.messages.find((m) => m.role === "user")?.content.trim().split("\n")[0] ?? "";
  conversation.title = first.length > 60 ? first.slice(0, 59) + "…" : first;
}

// aha-tiny was trained on single questions: it is asked the last one alone.
export const standsAlone = (model) => model === "aha-tiny";

// What is sent: the system text, then everything before the answer at `index`.  Thinking of earlier answers is not.
export function requestMessages(conversation, index, model) {
  const sent = [];
  if (conversation.settings.system.trim()) sent.push({ role: "system", content: conversation.settings.system });
  const before = conversation.messages.slice(0, index);
  for (const m of standsAlone(model) ? before.slice(-1) : before)
    sent.push(m.role === "user" ? { role: "user", content: m.content } : { role: "assistant", content: versionOf(m).answer });
  return sent;
}

// ---- settings as typed ----
// name: [smallest, largest, whole numbers only]
export const LIMITS = { temperature: [0, 2, false], top_p: [0, 1, false], max_tokens: [1, 10000000, true], budget: [0, 10000000, true], seed: [0, 9007199254740991, true] };

// {value}, or {wrong: words}; "" is null
export function readSetting(name, typed) {
  const [low, high, whole] = LIMITS[name], text = typed.trim().replace(",", ".");
  if (text === "") return { value: null };
  const n = /^\d*\.?\d+$|^\d+\.$/.test(text) ? Number(text) : NaN;
  if (!(n >= low && n <= high) || (whole && !Number.isInteger(n)))
    return { wrong: `“${typed.trim().slice(0, 40)}” is not a ${whole ? "whole number" : "number"} from ${low} to ${high}.` };
  return { value: n };
}
