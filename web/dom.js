// Elements without innerHTML: el("p", {class: "small", onclick: f}, "text", another).
export const $ = (id) => document.getElementById(id);

export function el(name, props = {}, ...children) {
  const e = document.createElement(name);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === false) continue;
    if (key.startsWith("on")) e.addEventListener(key.slice(2), value);
    else if (key === "value") e.value = value;
    else e.setAttribute(key, value === true ? "" : value);
  }
  e.append(...children.filter((c) => c !== null && c !== undefined));
  return e;
}

// One of the symbols at the top of index.html.
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS("http://www.w3.org/2000/svg", "use"));
  iconSet(svg, name);
  return svg;
}

export function iconSet(svg, name) {
  svg.querySelector("use").setAttribute("href", "#i-" + name);
}

// A button that shows an icon, with its name for those who do not see it.
export function iconButton(name, label, onclick) {
  return el("button", { class: "icon", "aria-label": label, title: label, onclick }, icon(name));
}

// To the clipboard.  Pages over plain http from another machine have no navigator.clipboard: there the old way.
export async function copyText(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // refused: the old way
    }
  }
  const area = el("textarea", { class: "unseen", value: text, "aria-hidden": "true" });
  const before = document.activeElement;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  before?.focus();
  return done;
}

// A button that copies what `text()` returns and says so for a moment.
export function copyButton(label, text, words) {
  const mark = icon("copy");
  const said = words ? el("span", {}, words) : null;
  const b = el("button", { class: words ? undefined : "icon", "aria-label": label, title: label }, mark, said);
  b.addEventListener("click", async () => {
    const done = await copyText(text());
    iconSet(mark, done ? "done" : "close");
    b.setAttribute("aria-label", done ? "Copied" : "The browser does not let this page copy");
    if (said) said.textContent = done ? "Copied" : "Not copied";
    setTimeout(() => {
      iconSet(mark, "copy");
      b.setAttribute("aria-label", label);
      if (said) said.textContent = words;
    }, 1500);
  });
  return b;
}

// Resolves to true when the person says yes.
export function confirmWith(title, text, yes) {
  const d = $("confirm");
  $("confirm-title").textContent = title;
  $("confirm-text").textContent = text;
  $("confirm-yes").textContent = yes;
  return new Promise((resolve) => {
    let said = false;
    $("confirm-yes").onclick = () => {
      said = true;
      d.close();
    };
    d.addEventListener("close", () => resolve(said), { once: true });
    d.showModal();
    $("confirm-no").focus();
  });
}

let noticeTimer = 0;
// A line above the field; stays for a while.  "": takes it away.
export function notice(text) {
  const n = $("notice");
  clearTimeout(noticeTimer);
  n.textContent = text;
  n.hidden = !text;
  if (text) noticeTimer = setTimeout(() => (n.hidden = true), 12000);
}
