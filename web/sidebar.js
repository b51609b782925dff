// The list of conversations; on a narrow screen it slides over the conversation.
import { titleOf } from "./conversation.js";
import { $, el, iconButton } from "./dom.js";

const narrow = matchMedia("(max-width: 760px)");

export function drawList(conversations, openId, busy, actions) {
  const before = document.activeElement?.closest("#chats li")?.dataset.id;
  const items = conversations.map((c) =>
    el("li", { "data-id": c.id },
      el("button", { class: "chat" + (busy.has(c.id) ? " busy" : ""), "aria-current": c.id === openId ? "true" : undefined, title: titleOf(c), onclick: () => actions.open(c.id) },
        el("span", {}, titleOf(c)), busy.has(c.id) ? el("span", { class: "unseen" }, "is being answered") : null),
      Object.assign(iconButton("delete", `Delete “${titleOf(c)}”`, () => actions.remove(c)), { className: "icon delete" })),
  );
  $("chats").replaceChildren(...(items.length ? items : [el("li", { class: "none" }, "What you ask is kept here, in this browser.")]));
  if (before) $("chats").querySelector(`li[data-id="${before}"] .chat`)?.focus();
}

function show(open) {
  const over = open && narrow.matches;
  $("side").classList.toggle("open", over);
  $("shade").hidden = !over;
  $("side-open").setAttribute("aria-expanded", String(over));
  document.querySelector("main").inert = over;
}

export function closeList() {
  if (!$("side").classList.contains("open")) return false;
  show(false);
  $("side-open").focus();
  return true;
}

export function initList() {
  $("side-open").addEventListener("click", () => {
    show(true);
    $("side-close").focus();
  });
  $("side-close").addEventListener("click", closeList);
  $("shade").addEventListener("click", closeList);
  narrow.addEventListener("change", () => show(false));
}
