// Formulas.  In Markdown they become <span class="math"> with their source as text; KaTeX then draws them from that text, as
// elements and never through HTML.  It is loaded with the first formula.
//
// KaTeX sets some styles with setAttribute("style", ...), which the page's Content-Security-Policy forbids; the same text set as
// a property is allowed.  So setAttribute is led there for as long as a formula is drawn.
const LONGEST = 5000; // characters; the time to draw grows with them
// The packaged KaTeX (0.16.4) can be made to run for ever by macros that a formula defines (CVE-2024-28243, -28244): such formulas stay text.
const DEFINES = /\\(?:[egx]?def|let|futurelet|(?:re)?newcommand|providecommand|global|long)(?![a-zA-Z])/;

const escapeHtml = (s) => s.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
const html = (token) => `<span class="math${token.block ? " block" : ""}">${escapeHtml(token.source)}</span>`;

// A block between $$ or \[ \], inside which Markdown means nothing.
const mathBlock = {
  name: "mathBlock", level: "block",
  start(src) {
    const at = src.search(/\n {0,3}(?:\$\$|\\\[)/); // at the beginning of a line only
    return at < 0 ? undefined : at + 1;
  },
  tokenizer(src) {
    const m = /^ {0,3}(?:\$\$((?:[^$\\]|\\[\s\S])+?)\$\$|\\\[((?:(?!\\\[)[\s\S])+?)\\\])[ \t]*(?:\n+|$)/.exec(src);
    return m ? { type: "mathBlock", raw: m[0], source: (m[1] ?? m[2]).trim(), block: true } : undefined;
  },
  renderer: html,
};
// Inside a line: \( \), $$ $$, \[ \] and $ $; the last only where it is no amount of money: no blank inside its ends, no digit
// or letter behind or before it.
const mathInline = {
  name: "mathInline", level: "inline",
  start: (src) => src.match(/\$\$?(?![\s$])|\\[([]/)?.index,
  tokenizer(src) {
    let m = /^\\\(((?:(?!\\\()[\s\S])+?)\\\)/.exec(src) ?? /^\$(?![\s$])((?:[^$\\\n]|\\.)+?)(?<!\s)\$(?![\p{L}\p{N}$])/u.exec(src);
    if (m) return { type: "mathInline", raw: m[0], source: m[1].trim(), block: false };
    m = /^\$\$((?:[^$\\]|\\[\s\S])+?)\$\$/.exec(src) ?? /^\\\[((?:(?!\\\[)[\s\S])+?)\\\]/.exec(src);
    return m ? { type: "mathInline", raw: m[0], source: m[1].trim(), block: true } : undefined;
  },
  renderer: html,
};
// None looks for its end beyond the next beginning: a thousand beginnings without an end cost no more than their length.
export const mathExtensions = [mathBlock, mathInline];

let katex = null, loading = null;

function load() {
  loading ??= (async () => {
    const sheet = document.createElement("link");
    sheet.rel = "stylesheet";
    sheet.href = "page/lib/katex.min.css";
    const styled = new Promise((resolve) => (sheet.onload = sheet.onerror = resolve));
    document.head.append(sheet);
    await import("./lib/katex.min.js");
    await styled;
    katex = window.katex;
  })();
  return loading;
}

function withStyleAsProperty(draw) {
  const usual = Element.prototype.setAttribute;
  Element.prototype.setAttribute = function (name, value) {
    if (name === "style") this.style.cssText = value;
    else usual.call(this, name, value);
  };
  try {
    draw();
  } finally {
    Element.prototype.setAttribute = usual;
  }
}

function draw(span) {
  const source = span.textContent;
  const block = span.classList.contains("block");
  const plain = () => {
    span.textContent = block ? `\\[ ${source} \\]` : `\\( ${source} \\)`;
    span.classList.add("source");
  };
  if (source.length > LONGEST || DEFINES.test(source)) return plain();
  try {
    withStyleAsProperty(() => katex.render(source, span, { displayMode: block, throwOnError: true, trust: false, strict: "ignore", maxSize: 20, maxExpand: 200 }));
  } catch {
    plain();
  }
}

// Draws the formulas in `root`; before KaTeX is there their source is shown.
export function drawMath(root) {
  const spans = [...root.querySelectorAll("span.math")];
  if (!spans.length) return;
  if (katex) spans.forEach(draw);
  else load().then(() => spans.forEach(draw), () => (loading = null));
}
