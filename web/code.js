// Code blocks: their language, a button that copies, colours.
//
// highlight.js works in a worker, started with the first block that names a language: some of its patterns need time that grows
// steeply with the text, and a worker can be stopped.
import { copyButton, el } from "./dom.js";
import { sanitizeColours } from "./sanitize.js";

const LONGEST = 30000; // characters
const PATIENCE_MS = 3000;
const WORKER = "page/code_worker.js";

// the policy that the page's Trusted Types know besides DOMPurify's: it makes this one address and no other
const policy = globalThis.trustedTypes?.createPolicy("aha-worker", { createScriptURL: () => WORKER });
const queue = []; // {text, language, resolve}
let worker = null, ready = false, current = null, timer = 0;

function next() {
  current = ready ? (queue.shift() ?? null) : null;
  if (!current) return;
  worker.postMessage({ text: current.text, language: current.language });
  timer = setTimeout(restart, PATIENCE_MS);
}

function finish(html) {
  clearTimeout(timer);
  current?.resolve(html);
  next();
}

function start() {
  ready = false;
  worker = new Worker(policy ? policy.createScriptURL("") : WORKER, { type: "module" });
  worker.onmessage = ({ data }) => {
    ready = true;
    finish(data.html ?? null);
  };
  worker.onerror = () => {
    worker = null;
    ready = false;
    for (const q of queue.splice(0)) q.resolve(null);
    finish(null);
  };
}

// The block that took too long stays as it is; those behind it get a new worker.
function restart() {
  worker.terminate();
  current.resolve(null);
  current = null;
  start();
}

// HTML with classes, or null: it stays as it is
function coloured(text, language) {
  return new Promise((resolve) => {
    queue.push({ text, language, resolve });
    if (!worker) start();
    else if (ready && !current) next();
  });
}

// `open`: the block is still being written, and colours would only flicker.
export function frameCode(root, open) {
  for (const code of root.querySelectorAll("pre > code")) {
    const pre = code.parentElement;
    const language = /^language-(.+)$/.exec(code.className)?.[1] ?? "";
    const text = code.textContent.replace(/\n$/, "");
    const frame = el("div", { class: "code" });
    code.textContent = text;
    pre.replaceWith(frame);
    pre.tabIndex = 0; // it scrolls sideways: reachable by keyboard
    pre.setAttribute("role", "region");
    pre.setAttribute("aria-label", language ? `Code, ${language}` : "Code");
    frame.append(el("div", { class: "head" }, el("span", {}, language || "code"), copyButton("Copy this code", () => text, "Copy")), pre);
    if (open || !language || text.length > LONGEST) continue;
    coloured(text, language).then((html) => html && code.replaceChildren(sanitizeColours(html)));
  }
}
