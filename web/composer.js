// The field in which people write, and its button: send, or stop.
import { $, iconSet } from "./dom.js";

// hooks: send(text), stop(), busy(), editLast()
export function initComposer(hooks) {
  const text = $("text"), send = $("send");
  const fit = () => {
    text.style.height = "auto";
    text.style.height = text.scrollHeight + "px";
  };
  const go = () => {
    if (hooks.busy()) return;
    if (!text.value.trim()) return text.focus();
    const said = text.value;
    text.value = "";
    fit();
    hooks.send(said);
  };
  text.addEventListener("input", fit);
  text.addEventListener("keydown", (e) => {
    if (e.isComposing) return; // Enter ends a composition of Chinese or Japanese
    if (e.key === "Enter" && !e.shiftKey) {
      e.preventDefault();
      go();
    } else if (e.key === "ArrowUp" && !text.value) {
      e.preventDefault();
      hooks.editLast();
    }
  });
  send.addEventListener("click", () => (hooks.busy() ? hooks.stop() : go()));
  return {
    busy(on) {
      send.setAttribute("aria-label", on ? "Stop" : "Send");
      send.title = on ? "Stop (Esc)" : "Send (Enter)";
      iconSet(send.querySelector("svg"), on ? "stop" : "send");
    },
    fill(said) {
      text.value = said;
      fit();
      text.focus();
    },
  };
}
