// The conversation on the screen, and the runs of all conversations, which go on when another one is looked at.
import { announce, Reader } from "./announce.js";
import { newVersion, titleFrom, versionOf } from "./conversation.js";
import { $ } from "./dom.js";
import { AnswerView, userMessage } from "./message.js";
import { Run } from "./run.js";

const DRAW_MS = 60; // at least, between two pictures of a growing answer

export class Chat {
  // hooks: save(conversation), runsChanged(), model(), askKey(error)
  constructor(hooks) {
    this.hooks = hooks;
    this.runs = new Map(); // conversation's id -> Run
    this.conversation = null;
    this.scroll = $("scroll");
    this.stick = true; // to the end, as long as nobody scrolls up
    this.scroll.addEventListener("scroll", () => this.scrolled());
    $("to-end").addEventListener("click", () => {
      this.stick = true;
      this.toEnd();
    });
  }

  get run() {
    return this.conversation ? (this.runs.get(this.conversation.id) ?? null) : null;
  }

  show(conversation) {
    this.conversation = this.runs.get(conversation.id)?.conversation ?? conversation; // the one that is being written
    this.stick = true;
    this.draw();
  }

  draw() {
    const c = this.conversation;
    this.views = new Map();
    $("log").replaceChildren(...c.messages.map((m) => this.view(m)));
    $("welcome").hidden = c.messages.length > 0;
    if (this.run) this.drawRun();
    this.toEnd();
  }

  view(m) {
    const actions = {
      isLast: (x) => this.conversation.messages.at(-1) === x || (x.role === "user" && this.conversation.messages.at(-2) === x),
      mayEdit: () => !this.run, edit: (x, text) => this.edit(x, text), again: (x) => this.again(x), turn: (x, by) => this.turn(x, by),
    };
    const v = m.role === "user" ? { box: userMessage(m, actions) } : new AnswerView(m, actions);
    this.views.set(m, v);
    return v.box;
  }

  // ---- asking ----
  send(text) {
    const c = this.conversation;
    c.messages.push({ role: "user", content: text });
    titleFrom(c);
    this.answer();
  }

  edit(message, text) {
    const c = this.conversation;
    if (this.run) return;
    c.messages.splice(c.messages.indexOf(message));
    this.send(text);
  }

  again(message) {
    if (this.run) return;
    this.start(message);
  }

  turn(message, by) {
    message.at += by;
    this.hooks.save(this.conversation);
    const view = this.views.get(message);
    view.build();
    view.box.querySelector(".versions button:not(:disabled)")?.focus();
  }

  editLast() {
    const m = this.conversation.messages.findLast((x) => x.role === "user");
    if (m && !this.run) this.views.get(m).box.edit();
  }

  answer() {
    const message = { role: "assistant", versions: [], at: -1 };
    this.conversation.messages.push(message);
    this.start(message);
  }

  start(message) {
    const c = this.conversation, fixed = c.settings.seed;
    const version = newVersion(this.hooks.model(), fixed ?? crypto.getRandomValues(new Uint32Array(1))[0] >>> 1);
    message.versions.push(version);
    message.at = message.versions.length - 1;
    c.changed = Date.now();
    const reader = new Reader();
    const run = new Run(c, message, version, { changed: () => this.news(run), save: () => this.hooks.save(c), askKey: this.hooks.askKey, modelFound: this.hooks.modelFound });
    run.reader = reader;
    this.runs.set(c.id, run);
    this.stick = true;
    this.draw();
    this.hooks.save(c);
    this.hooks.runsChanged();
    announce("Waiting for the answer.");
    run.go().then(() => this.ended(run));
  }

  stop() {
    this.run?.stop();
    return this.run !== null;
  }

  ended(run) {
    const v = run.version, c = run.conversation;
    this.runs.delete(c.id);
    this.hooks.runsChanged();
    if (this.conversation !== c) return;
    clearTimeout(this.timer);
    this.timer = 0;
    const view = this.views.get(run.message);
    const focused = view.box.contains(document.activeElement);
    view.update(null);
    if (focused && !view.box.contains(document.activeElement)) $("text").focus();
    run.reader.follow(v.answer, true);
    announce(v.finish === "error" ? "" : v.finish === "stopped" ? "Stopped." : `End of the answer, ${v.tokens} tokens.`);
    if (this.stick) this.toEnd();
  }

  // ---- drawing what grows ----
  news(run) {
    if (this.conversation !== run.conversation || this.timer) return;
    const t0 = performance.now();
    this.timer = setTimeout(() => {
      this.timer = 0;
      if (this.run) this.drawRun();
    }, Math.max(0, Math.min(1000, this.nextDraw - t0)) || 0);
  }

  nextDraw = 0;

  drawRun() {
    const run = this.run, t0 = performance.now(), view = this.views.get(run.message);
    view.update(run);
    if (run.thinking !== run.wasThinking) {
      if (run.thinking && run.version.thinking) announce("Thinking.");
      else if (run.version.thinkMs !== null && run.answerAt) announce(`Thought for ${Math.round(run.version.thinkMs / 1000)} seconds.`);
      run.wasThinking = run.thinking;
    }
    if (run.waitUntil && run.saidTry !== run.tries) {
      run.saidTry = run.tries;
      announce(run.waitWhy + " It will be asked again.");
    }
    run.reader.follow(run.version.answer, false);
    if (this.stick) this.toEnd();
    const took = performance.now() - t0;
    this.nextDraw = t0 + Math.max(DRAW_MS, 4 * took); // at most a fifth of the time goes into drawing
  }

  toEnd() {
    this.scroll.scrollTop = this.scroll.scrollHeight;
    this.scrolled();
  }

  scrolled() {
    const left = this.scroll.scrollHeight - this.scroll.scrollTop - this.scroll.clientHeight;
    this.stick = left < 60;
    $("to-end").hidden = left < 200;
  }

  toggleThinking() {
    const all = [...$("log").querySelectorAll(".thinking:not([hidden]) summary")];
    all.at(-1)?.click();
  }
}
