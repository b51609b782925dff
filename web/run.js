// One answer on its way: asks, waits where the server says so, fills a version, tells who looks on.
import { ApiError, complete } from "./api.js";
import { requestMessages } from "./conversation.js";

const TRIES_MAX = 6, WAIT_S_MAX = 120, SAVE_MS = 2000;

export class Run {
  // hooks: changed(run), save(), askKey(error) -> true when there is another key, modelFound() -> its name, as soon as the server told it
  constructor(conversation, message, version, hooks) {
    Object.assign(this, { conversation, message, version, hooks });
    this.abort = new AbortController();
    this.waitUntil = null; // while the server wants to be left alone
    this.waitWhy = "";
    this.tries = 0;
    this.firstAt = null;
    this.answerAt = null;
    this.savedAt = Date.now();
  }

  get thinking() {
    return this.firstAt !== null && this.answerAt === null;
  }

  stop() {
    this.abort.abort();
  }

  body() {
    const s = this.conversation.settings;
    const body = {
      model: this.version.model, stream: true, stream_options: { include_usage: true }, seed: this.version.seed,
      messages: requestMessages(this.conversation, this.conversation.messages.indexOf(this.message), this.version.model),
    };
    if (s.temperature !== null) body.temperature = s.temperature;
    if (s.top_p !== null) body.top_p = s.top_p;
    if (s.max_tokens !== null) body.max_tokens = s.max_tokens;
    if (s.budget !== null) body.thinking_budget = s.budget;
    return body;
  }

  // Never throws: what went wrong is in version.error.
  async go() {
    const v = this.version;
    try {
      while (!(await this.attempt())); // again after a wait or with another key
    } catch (e) {
      if (e.name === "AbortError") v.finish = "stopped";
      else {
        v.finish = "error";
        v.error = e instanceof ApiError ? e.message : `This page made a mistake: ${e.message}`;
        if (!(e instanceof ApiError)) console.error(e);
      }
    }
    v.finish ??= "stop";
    this.clock();
    this.waitUntil = null;
    this.conversation.changed = Date.now();
    await this.hooks.save();
  }

  async attempt() {
    try {
      if (!this.version.model) this.version.model = await this.unlessStopped(this.hooks.modelFound());
      if (!this.version.model) throw new ApiError(401, "Without a key this server answers nothing.");
      for await (const part of complete(this.body(), this.abort.signal)) this.take(part);
      return true;
    } catch (e) {
      if (!(e instanceof ApiError) || this.firstAt !== null) throw e;
      if (e.status === 401 && (await this.hooks.askKey(e))) return false;
      if ((e.status !== 503 && e.status !== 429) || e.retryS === null || e.retryS > WAIT_S_MAX || ++this.tries >= TRIES_MAX) throw e;
      this.waitWhy = e.message;
      await this.wait(e.retryS);
      return false;
    }
  }

  unlessStopped(promise) {
    const s = this.abort.signal;
    return Promise.race([promise, new Promise((_, no) => s.addEventListener("abort", () => no(s.reason), { once: true }))]);
  }

  async wait(seconds) {
    this.waitUntil = Date.now() + seconds * 1000;
    while (Date.now() < this.waitUntil) {
      this.hooks.changed(this);
      await new Promise((resolve) => setTimeout(resolve, Math.min(1000, this.waitUntil - Date.now())));
      this.abort.signal.throwIfAborted();
    }
    this.waitUntil = null;
  }

  take(part) {
    const v = this.version, now = Date.now();
    if (part.thinking ?? part.answer) {
      this.firstAt ??= now;
      v.tokens++; // one piece is about one token; the server's count at the end is exact
    }
    if (part.thinking) {
      v.thinking += part.thinking;
      v.thinkTokens++;
    }
    if (part.answer) {
      v.answer += part.answer;
      this.answerAt ??= now;
    }
    if (part.finish) v.finish = part.finish;
    if (part.usage) this.takeUsage(part.usage);
    this.clock();
    this.hooks.changed(this);
    if (now - this.savedAt > SAVE_MS) {
      this.savedAt = now;
      this.hooks.save();
    }
  }

  takeUsage(usage) {
    const v = this.version, thought = usage.completion_tokens_details?.reasoning_tokens;
    if (!Number.isInteger(usage.completion_tokens)) return;
    v.tokens = usage.completion_tokens;
    if (Number.isInteger(thought)) v.thinkTokens = thought;
    v.exact = true;
  }

  // ms: from the first piece to the last, which is what a speed is made of
  clock() {
    const v = this.version;
    if (this.firstAt === null || this.stopped) return;
    const now = Date.now();
    v.ms = now - this.firstAt;
    if (v.thinking) v.thinkMs = (this.answerAt ?? now) - this.firstAt;
    if (v.finish) this.stopped = true;
  }
}
