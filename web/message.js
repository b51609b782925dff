// One message on the screen.
import { versionOf } from "./conversation.js";
import { copyButton, el, icon, iconButton } from "./dom.js";
import { Growing } from "./markdown.js";

const seconds = (ms) => (ms < 50 ? "under 0.1 s" : (ms < 9950 ? (ms / 1000).toFixed(1) : Math.round(ms / 1000)) + " s");
const tokens = (n, exact) => `${exact ? "" : "about "}${n.toLocaleString("en")} token${n === 1 ? "" : "s"}`;

// ---- what was asked ----

// actions: edit(message)
export function userMessage(message, actions) {
  const box = el("article", { class: "message user" });
  const show = () =>
    box.replaceChildren(
      el("h2", { class: "unseen" }, "You asked"),
      el("div", { class: "bubble" }, message.content),
      el("div", { class: "actions" }, copyButton("Copy the question", () => message.content), iconButton("edit", "Edit the question", edit)),
    );
  function edit() {
    if (!actions.mayEdit()) return;
    const text = el("textarea", { rows: Math.min(12, message.content.split("\n").length + 1), "aria-label": "Your message, to be changed", value: message.content });
    const leave = () => {
      show();
      box.querySelector("[aria-label='Edit the question']").focus();
    };
    const send = () => text.value.trim() && actions.edit(message, text.value);
    text.addEventListener("keydown", (e) => {
      if (e.isComposing) return;
      if (e.key === "Enter" && !e.shiftKey) {
        e.preventDefault();
        send();
      } else if (e.key === "Escape") {
        e.stopPropagation();
        leave();
      }
    });
    const later = actions.isLast(message) ? null : el("p", { class: "hint" }, "What comes after this message will be removed.");
    box.replaceChildren(
      el("div", { class: "editor" }, text, later, el("div", { class: "bar end" }, el("button", { onclick: leave }, "Cancel"), el("button", { class: "strong", onclick: send }, "Send"))),
    );
    text.focus();
    text.setSelectionRange(text.value.length, text.value.length);
  }
  box.edit = edit;
  show();
  return box;
}

// ---- thinking and answer ----

// actions: again(message), turn(message, by), isLast(message), isBusy()
export class AnswerView {
  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
    this.box = el("article", { class: "message assistant" });
    this.build();
  }

  build() {
    const v = versionOf(this.message);
    this.version = v;
    this.summary = el("span", {});
    this.thinkBox = el("div", { class: "text", tabindex: "0", role: "region", "aria-label": "Thinking" });
    this.details = el("details", { class: "thinking", hidden: true }, el("summary", {}, icon("next"), this.summary, el("span", { class: "dot" })), this.thinkBox);
    this.details.querySelector("summary").addEventListener("click", () => (this.touched = true));
    this.details.addEventListener("toggle", () => this.details.open && this.drawThinking(this.run));
    this.touched = false;
    this.waiting = el("div", { class: "waiting", hidden: true });
    this.answerBox = el("div", { class: "text" });
    this.failed = el("div", { class: "failed", hidden: true });
    this.foot = el("div", { class: "actions" });
    this.thinkText = new Growing(this.thinkBox);
    this.answerText = new Growing(this.answerBox);
    this.box.replaceChildren(el("h2", { class: "unseen" }, `${v.model || "The model"} answered`), this.details, this.waiting, this.answerBox, this.failed, this.foot);
    this.update(null);
  }

  // run: what is under way, or null
  update(run) {
    const v = this.version;
    this.run = run;
    this.box.classList.toggle("live", run !== null);
    this.box.setAttribute("aria-busy", String(run !== null));
    this.drawSummary(run);
    if (!this.touched) this.details.open = Boolean(run?.thinking);
    this.drawThinking(run);
    this.answerText.update(v.answer, run === null);
    this.drawWaiting(run);
    if (run === null) this.drawEnd();
    else this.foot.replaceChildren(this.stats(run));
  }

  drawSummary(run) {
    const v = this.version;
    this.details.hidden = !v.thinking;
    this.details.classList.toggle("now", Boolean(run?.thinking));
    const exact = v.exact || !v.thinkTokens;
    const much = [v.thinkMs !== null ? seconds(v.thinkMs) : "", v.thinkTokens ? tokens(v.thinkTokens, exact || run !== null) : ""].filter(Boolean).join(" · ");
    this.summary.textContent = `${run?.thinking ? "Thinking" : v.answer ? "Thought" : "Thought, and gave no answer"}${much ? " · " + much : ""}`;
  }

  // folded thinking costs nothing
  drawThinking(run) {
    if (!this.details.open) return;
    const t = this.thinkBox, atEnd = t.scrollHeight - t.scrollTop - t.clientHeight < 40;
    this.thinkText.update(this.version.thinking, !run?.thinking);
    if (run?.thinking && atEnd) t.scrollTop = t.scrollHeight;
  }

  drawWaiting(run) {
    const wait = run && run.waitUntil !== null, quiet = run && !wait && run.firstAt === null;
    this.waiting.hidden = !wait && !quiet;
    this.waiting.classList.toggle("long", Boolean(wait));
    if (wait) {
      const left = Math.max(0, Math.ceil((run.waitUntil - Date.now()) / 1000));
      this.waiting.textContent = `${run.waitWhy} Asking again in ${left} s (try ${run.tries + 1}). Esc stops.`;
    } else if (quiet) this.waiting.replaceChildren(el("span", { class: "dot" }), "Waiting for the first token");
  }

  stats(run) {
    const v = this.version, parts = [];
    if (v.tokens) parts.push(tokens(v.tokens, v.exact || run !== null));
    if (v.tokens > 1 && v.ms > 20) parts.push(`${((v.tokens - 1) / (v.ms / 1000)).toLocaleString("en", { maximumSignificantDigits: 3 })} tokens/s`);
    if (!run && v.ms !== null) parts.push(seconds(v.ms));
    if (!run && v.seed !== null) parts.push(`seed ${v.seed}`);
    return el("span", { class: "stats" }, parts.join(" · "));
  }

  drawEnd() {
    const v = this.version, m = this.message, a = this.actions;
    const again = () => a.again(m);
    const words = {
      error: v.error, length: "Cut off: it came to the largest number of tokens. Max tokens in the settings says how many there may be.",
      stopped: "Stopped.",
    }[v.finish] ?? (v.finish === null ? "Not finished: the page was closed, or another tab is still at it." : v.answer || v.thinking ? "" : "The model ended without a word.");
    this.failed.hidden = !words;
    const wrong = v.finish === "error";
    this.failed.replaceChildren(el("p", { class: wrong ? "wrong" : "hint", role: wrong ? "alert" : undefined }, words));
    if (wrong && a.isLast(m)) this.failed.append(el("button", { onclick: again }, icon("again"), "Try again"));
    const foot = [copyButton("Copy the answer", () => v.answer)];
    if (a.isLast(m)) foot.push(iconButton("again", "Answer again", again));
    if (m.versions.length > 1 && a.isLast(m)) foot.push(this.versions());
    this.foot.replaceChildren(...foot, this.stats(null));
    this.foot.title = v.model ? `${v.model}, ${new Date(v.started).toLocaleString()}` : "";
  }

  versions() {
    const m = this.message;
    const step = (name, label, by) => {
      const b = iconButton(name, label, () => this.actions.turn(m, by));
      b.disabled = m.at + by < 0 || m.at + by >= m.versions.length;
      return b;
    };
    return el("span", { class: "versions", role: "group", "aria-label": "Answers to this question" },
      step("prev", "The answer before", -1), `${m.at + 1} of ${m.versions.length}`, step("next", "The next answer", 1));
  }
}
