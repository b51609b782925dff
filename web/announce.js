// What a screen reader says while an answer grows: that it thinks, for how long it thought, then the answer by whole sentences.
// Token by token would be unbearable, so the messages themselves are no live region.
import { $ } from "./dom.js";

const PAUSE_MS = 1500;
let waiting = [], timer = 0;

function say() {
  timer = 0;
  if (!waiting.length) return;
  $("announce").textContent = waiting.join(" ");
  waiting = [];
  timer = setTimeout(say, PAUSE_MS);
}

export function announce(text) {
  waiting.push(text);
  if (!timer) timer = setTimeout(say, 50);
}

// Follows one answer.
export class Reader {
  said = 0;

  // `text`: the answer so far
  follow(text, final) {
    const rest = text.slice(this.said);
    const end = final ? rest.length : Math.max(...[...rest.matchAll(/[.!?:;。！？]["')\]]?\s|\n/g)].map((m) => m.index + m[0].length), 0);
    if (end <= 0) return;
    const part = rest.slice(0, end).trim();
    this.said += end;
    if (part) announce(part);
  }
}
