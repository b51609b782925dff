// The second wall: whatever HTML was made of a model's text goes through DOMPurify with these lists, and nothing else in this
// page turns text into elements.  (The first wall is markdown.js, which lets no HTML of the model's through; the third is the
// Content-Security-Policy.)
//
// Elements are taken as DOMPurify leaves them and never written out and parsed again, which is where its known holes of nesting lie.
import DOMPurify from "./lib/purify.es.js";

// Debian 12's 2.4.1+deb12u1 reads a variable of this name that it forgot to declare, and throws without it.
globalThis.shadowNode ??= Object.freeze({ __depth: 0 });

const TAGS = "p br hr strong em del code pre ul ol li blockquote h1 h2 h3 h4 h5 h6 table thead tbody tr th td a span".split(" ");
const CLASSES = /^(?:math|math block|address|language-[\w+#.-]{1,40}|hljs-[\w-]{1,40})$/;
const TEXT = { ALLOWED_TAGS: TAGS, ALLOWED_ATTR: ["href", "class", "start", "align"], ADD_URI_SAFE_ATTR: ["start", "align"], ALLOWED_URI_REGEXP: /^https?:\/\//i };
const COLOURS = { ALLOWED_TAGS: ["span"], ALLOWED_ATTR: ["class"] };
const ALWAYS = { ALLOW_DATA_ATTR: false, ALLOW_ARIA_ATTR: false, ALLOW_UNKNOWN_PROTOCOLS: false, ALLOW_SELF_CLOSE_IN_ATTR: false, RETURN_DOM_FRAGMENT: true };

DOMPurify.addHook("uponSanitizeAttribute", (node, data) => {
  if (data.attrName === "class" && !CLASSES.test(data.attrValue)) data.keepAttr = false;
  if (data.attrName === "start" && !/^\d{1,9}$/.test(data.attrValue)) data.keepAttr = false;
  if (data.attrName === "align" && !/^(?:left|center|right)$/.test(data.attrValue)) data.keepAttr = false;
});
DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.nodeName !== "A") return;
  node.setAttribute("rel", "noopener noreferrer nofollow");
  node.setAttribute("target", "_blank");
});

export const sanitizeText = (html) => DOMPurify.sanitize(html, { ...TEXT, ...ALWAYS });
export const sanitizeColours = (html) => DOMPurify.sanitize(html, { ...COLOURS, ...ALWAYS });
