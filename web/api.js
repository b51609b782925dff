// The server's API, with DeepSeek's fields.  Addresses are relative, so that the page works behind a path of a proxy too.
import { events } from "./sse.js";

// What went wrong, in words for a person.  retryS: seconds after which the server wants to be asked again, or null.
export class ApiError extends Error {
  constructor(status, message, retryS = null) {
    super(message);
    this.status = status;
    this.retryS = retryS;
  }
}

const base = new URL(".", document.baseURI);

// ---- the key: kept for the session, and longer only if somebody wished so ----
const KEY = "aha.key";
function kept(storage) {
  try {
    return storage().getItem(KEY);
  } catch {
    return null;
  }
}
let key = kept(() => sessionStorage) ?? kept(() => localStorage);

export const keyIsSet = () => key !== null;
export function keySet(value, keep) {
  key = value;
  try {
    sessionStorage.setItem(KEY, value);
    if (keep) localStorage.setItem(KEY, value);
    else localStorage.removeItem(KEY);
  } catch {
    // storage is forbidden: it lives as long as the page
  }
}
export function keyForget() {
  key = null;
  try {
    sessionStorage.removeItem(KEY);
    localStorage.removeItem(KEY);
  } catch {
    // nothing was kept
  }
}

// ---- requests ----
const WORDS = {
  401: "The server wants an API key, or does not know the one that was given.",
  403: "The server does not answer a page under this address.",
  404: "The server does not have this model or this path.",
  413: "The conversation is too long for the server. Begin a new one, or shorten the message.",
  429: "This key has used up what it may use for now.",
  503: "The server is busy.",
};

async function failure(response) {
  let said = "";
  try {
    said = (await response.json()).error?.message ?? "";
  } catch {
    // no JSON: the status has to do
  }
  const after = response.headers.get("Retry-After");
  let retryS = null;
  if (after !== null) {
    retryS = /^\d+$/.test(after) ? Number(after) : (Date.parse(after) - Date.now()) / 1000;
    retryS = Number.isFinite(retryS) ? Math.max(1, Math.ceil(retryS)) : null;
  }
  const words = WORDS[response.status] ?? `The server answered with status ${response.status}.`;
  return new ApiError(response.status, typeof said === "string" && said ? `${words} It says: ${said.slice(0, 600)}` : words, retryS);
}

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (key !== null) headers.Authorization = "Bearer " + key;
  let response;
  try {
    response = await fetch(new URL(path, base), { ...options, headers, cache: "no-store", credentials: "omit", redirect: "error" });
  } catch (e) {
    if (e.name === "AbortError") throw e;
    throw new ApiError(0, `The server at ${base.host} cannot be reached. Is it still running?`);
  }
  if (!response.ok) throw await failure(response);
  return response;
}

// The names of the models that may be asked, the first being the usual one.
export async function models(signal) {
  const list = await (await ask("v1/models", { signal })).json();
  return Array.isArray(list.data) ? list.data.filter((m) => typeof m?.id === "string") : [];
}

// Asks for a completion and yields what comes: {thinking}, {answer}, {finish}, {usage}.  Throws ApiError; AbortError when stopped.
export async function* complete(body, signal) {
  const response = await ask("v1/chat/completions", {
    method: "POST", signal, body: JSON.stringify(body), headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
  });
  let finished = false;
  try {
    for await (const data of events(response.body)) {
      if (data === "[DONE]") return;
      const part = JSON.parse(data);
      if (part.error) throw new ApiError(0, `The server broke off: ${String(part.error.message ?? "no reason given").slice(0, 600)}`);
      const choice = part.choices?.[0];
      if (choice?.delta?.reasoning_content) yield { thinking: String(choice.delta.reasoning_content) };
      if (choice?.delta?.content) yield { answer: String(choice.delta.content) };
      if (choice?.finish_reason) {
        finished = true;
        yield { finish: String(choice.finish_reason) };
      }
      if (part.usage) yield { usage: part.usage };
    }
  } catch (e) {
    if (e instanceof ApiError || e.name === "AbortError") throw e;
    throw new ApiError(0, e instanceof SyntaxError ? "The server sent something that is no answer." : "The connection broke while the answer came.");
  }
  if (!finished) throw new ApiError(0, "The connection broke while the answer came.");
}
