// A model's Markdown as elements.  HTML in it is text, images are text, links lead to http and https only and show where.
import { frameCode } from "./code.js";
import { el } from "./dom.js";
import { marked, Tokenizer } from "./lib/marked.esm.js";
import { drawMath, mathExtensions } from "./math.js";
import { sanitizeText } from "./sanitize.js";

const escapeHtml = (s) => s.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
const unescapeHtml = (s) => s.replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&quot;/g, '"').replace(/&#39;/g, "'").replace(/&amp;/g, "&");

// The address that a link leads to, or null: none that is shown as a link.
function address(href) {
  try {
    const u = new URL(unescapeHtml(href ?? "")); // no base: only whole addresses
    return (u.protocol === "http:" || u.protocol === "https:") && !u.username && !u.password ? u.href : null;
  } catch {
    return null;
  }
}

const STRESSED_MAX = 2000; // characters

marked.use({
  gfm: true, breaks: true, headerIds: false, mangle: false, langPrefix: "language-",
  extensions: mathExtensions,
  tokenizer: {
    html: () => undefined, // a `<` is a `<`
    tag: () => undefined,
    del: (src) => (src.startsWith("~~") ? false : undefined), // "~5" is about five
    // 2*3*4 is a product, not a stressed 3.  The end is looked for nearby: without a bound, 3,000 stars took 9 seconds.
    emStrong(src, masked, before) {
      if (src[0] === "*" && (src[1] === "*" ? /[0-9)\]]/ : /[0-9A-Za-z)\]]/).test(before)) return undefined;
      return Tokenizer.prototype.emStrong.call(this, src.slice(0, STRESSED_MAX), masked.slice(-src.length).slice(0, STRESSED_MAX), before);
    },
  },
  renderer: {
    html: (raw) => escapeHtml(raw),
    image: (href, title, text) => escapeHtml(`![${unescapeHtml(text)}](${href})`),
    link(href, title, text) {
      const to = address(href);
      if (!to) return href && unescapeHtml(text) !== unescapeHtml(href) ? `[${text}](${escapeHtml(unescapeHtml(href))})` : text;
      const shown = unescapeHtml(text);
      const known = shown === to || shown + "/" === to || shown === href;
      return `<a href="${escapeHtml(to)}">${text}</a>${known ? "" : ` <span class="address">(${escapeHtml(to)})</span>`}`;
    },
    checkbox: (checked) => (checked ? "☑ " : "☐ "),
  },
});

// The elements of a few of its blocks.
function render(tokens, open) {
  const fragment = sanitizeText(marked.parser(tokens));
  frameCode(fragment, open);
  drawMath(fragment);
  return [...fragment.childNodes];
}

// Text that grows, shown in `box`: only blocks that changed are made again, so that a long answer does not slow down and what a
// person selected stays.
export class Growing {
  constructor(box) {
    this.box = box;
    this.blocks = []; // {raw, open, nodes}
  }

  update(text, final) {
    try {
      if (!this.plain) return this.draw(text, final);
    } catch (e) {
      this.plain = el("p", { class: "plain" }); // five thousand quotes in each other are more than marked's stack holds
      this.box.replaceChildren(this.plain);
      if (!(e instanceof RangeError)) console.error(e);
    }
    this.plain.textContent = text;
  }

  draw(text, final) {
    const tokens = marked.lexer(text);
    const fresh = final && Object.keys(tokens.links).length > 0; // a late [1]: https://... changes what stands before it
    let same = 0;
    const isOpen = (i) => !final && i === tokens.length - 1;
    while (!fresh && same < tokens.length && same < this.blocks.length && this.blocks[same].raw === tokens[same].raw && this.blocks[same].open === isOpen(same)) same++;
    for (const b of this.blocks.splice(same)) b.nodes.forEach((n) => n.remove());
    for (let i = same; i < tokens.length; i++) {
      const nodes = render([tokens[i]], isOpen(i));
      this.box.append(...nodes);
      this.blocks.push({ raw: tokens[i].raw, open: isOpen(i), nodes });
    }
  }
}
