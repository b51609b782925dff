// The settings of a conversation, in a dialog.  What is typed holds at once, where it is sound.
import { keyForget, keyIsSet } from "./api.js";
import { LIMITS, readSetting, standsAlone } from "./conversation.js";
import { $, el } from "./dom.js";

const LABEL = { temperature: "Temperature", top_p: "Top-p", max_tokens: "Max tokens", budget: "Thinking budget", seed: "Seed" };
const field = (name) => $("s-" + name);

// hooks: conversation(), changed(), models() -> ids, model(), chooseModel(id)
export function initSettings(hooks) {
  const wrong = new Map();
  const tell = () => {
    const words = [...wrong].map(([name, w]) => `${LABEL[name]}: ${w}`).join(" ");
    $("s-wrong").textContent = words;
    $("s-wrong").hidden = !words;
  };
  for (const name of Object.keys(LIMITS))
    field(name).addEventListener("input", () => {
      const read = readSetting(name, field(name).value);
      if (read.wrong) wrong.set(name, read.wrong);
      else {
        wrong.delete(name);
        hooks.conversation().settings[name] = read.value;
        hooks.changed();
      }
      field(name).setAttribute("aria-invalid", String(Boolean(read.wrong)));
      tell();
    });
  $("s-system").addEventListener("input", () => {
    hooks.conversation().settings.system = $("s-system").value;
    hooks.changed();
  });
  $("s-title").addEventListener("input", () => {
    const c = hooks.conversation();
    c.title = $("s-title").value.trim();
    c.named = c.title !== "";
    hooks.changed();
  });
  $("s-model").addEventListener("change", () => hooks.chooseModel($("s-model").value));
  $("s-forget").addEventListener("click", () => {
    keyForget();
    $("s-forget").hidden = true;
  });
  $("settings-open").addEventListener("click", () => {
    const c = hooks.conversation();
    wrong.clear();
    tell();
    for (const name of Object.keys(LIMITS)) {
      field(name).value = c.settings[name] ?? "";
      field(name).removeAttribute("aria-invalid");
    }
    $("s-system").value = c.settings.system;
    $("s-title").value = c.title;
    const ids = hooks.models();
    $("s-model-row").hidden = ids.length < 2;
    $("s-model").replaceChildren(...ids.map((id) => el("option", { value: id }, id)));
    $("s-model").value = hooks.model();
    $("s-system-note").hidden = !standsAlone(hooks.model());
    $("s-system-note").textContent = "aha-tiny has never seen a system prompt: with one, its answers get worse.";
    $("s-forget").hidden = !keyIsSet();
    $("settings").showModal();
  });
}
