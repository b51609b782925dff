// Puts the page together: the open conversation, the list, the field, the keys.
import { drawAbout } from "./about.js";
import { keySet, models } from "./api.js";
import { exportFile, importText } from "./archive.js";
import { Chat } from "./chat.js";
import { initComposer } from "./composer.js";
import { newConversation, titleOf } from "./conversation.js";
import { $, confirmWith, iconSet, notice } from "./dom.js";
import { initSettings } from "./settings.js";
import { closeList, drawList, initList } from "./sidebar.js";
import { Store } from "./store.js";

const FULL = "This browser keeps no more: export your conversations, then delete some.";
const store = new Store();
const others = typeof BroadcastChannel === "function" ? new BroadcastChannel("aha") : null; // the same page in other tabs
let list = [], modelIds = [], model = "";

function remember(name, value) {
  try {
    if (value === undefined) return sessionStorage.getItem(name);
    sessionStorage.setItem(name, value);
  } catch {
    // forbidden: forgotten
  }
  return null;
}

// ---- conversations ----
const chat = new Chat({ save, runsChanged, model: () => model, modelFound, askKey });
const composer = initComposer({ send: (text) => chat.send(text), stop: () => chat.stop(), busy: () => chat.run !== null, editLast: () => chat.editLast() });

async function save(c) {
  if (!c.messages.length && !list.some((x) => x.id === c.id)) return; // nothing was said yet
  const at = list.findIndex((x) => x.id === c.id);
  if (at >= 0) list.splice(at, 1);
  list.push(c);
  list.sort((a, b) => b.changed - a.changed);
  showList();
  try {
    await store.put(c);
    others?.postMessage("changed");
  } catch (e) {
    notice(e?.name === "QuotaExceededError" ? FULL : "This browser did not keep the conversation: " + (e?.message ?? e));
  }
}

function showList() {
  drawList(list, chat.conversation?.id, chat.runs, { open, remove });
}

function runsChanged() {
  composer.busy(chat.run !== null);
  showList();
}

function show(c) {
  chat.show(c);
  remember("aha.open", c.id);
  runsChanged();
}

async function open(id) {
  const c = chat.runs.get(id)?.conversation ?? (await store.get(id));
  if (c) show(c);
  if (!closeList()) $("text").focus();
}

function begin() {
  if (chat.conversation && !chat.conversation.messages.length) $("text").focus();
  else show(newConversation(chat.conversation?.settings));
  closeList();
  $("text").focus();
}

async function remove(c) {
  if (!(await confirmWith("Delete this conversation?", `“${titleOf(c)}” will be gone for good.`, "Delete"))) return;
  chat.runs.get(c.id)?.stop();
  forget(c.id);
  await store.remove(c.id);
  others?.postMessage("changed");
  if (chat.conversation.id === c.id) show(newConversation(c.settings));
  showList();
}

// A stopped run still saves: what was deleted must stay deleted.
function forget(id) {
  const run = chat.runs.get(id);
  if (run) run.hooks.save = async () => {};
  list = list.filter((x) => x.id !== id);
}

async function removeAll() {
  if (!list.length || !(await confirmWith("Delete all conversations?", `${list.length} of them will be gone for good.`, "Delete all"))) return;
  for (const c of [...list]) {
    chat.runs.get(c.id)?.stop();
    forget(c.id);
  }
  await store.clear();
  others?.postMessage("changed");
  show(newConversation());
}

async function reload() {
  list = (await store.all()).map((c) => chat.runs.get(c.id)?.conversation ?? c);
  const same = list.find((c) => c.id === chat.conversation?.id);
  const writing = document.activeElement?.closest("#log"); // somebody edits there
  if (same && !chat.run && !writing && same.changed > chat.conversation.changed) chat.show(same);
  showList();
}

// ---- files ----
async function importFiles(files) {
  let n = 0;
  for (const file of files) {
    try {
      for (const c of importText(await file.text())) {
        await store.put(c);
        n++;
      }
    } catch (e) {
      return notice(`${file.name}: ${e?.name === "QuotaExceededError" ? FULL : e.message}`);
    }
  }
  others?.postMessage("changed");
  await reload();
  notice(`${n} conversation${n === 1 ? "" : "s"} imported.`);
}

const today = () => new Date().toISOString().slice(0, 10);

// ---- the key ----
let asking = null;
function askKey(error) {
  asking ??= new Promise((resolve) => {
    const d = $("ask-key");
    let given = false;
    $("ask-key-why").textContent = error.message;
    $("key").value = "";
    const use = () => {
      const value = $("key").value.trim();
      if (!/^[\x21-\x7e]{1,512}$/.test(value)) return $("key").focus();
      keySet(value, $("key-keep").checked);
      given = true;
      d.close();
    };
    $("key-use").onclick = use;
    $("key").onkeydown = (e) => e.key === "Enter" && use();
    d.addEventListener("close", () => resolve(given), { once: true });
    d.showModal();
    $("key").focus();
  }).finally(() => (asking = null));
  return asking;
}

async function findModels() {
  for (let wait = 2; ; wait = Math.min(60, 2 * wait)) {
    try {
      modelIds = (await models()).map((m) => m.id);
      break;
    } catch (e) {
      if (e.status === 401) {
        if (await askKey(e)) continue;
        notice("Without a key this server answers nothing. Reload the page to be asked again.");
        return;
      }
      notice(`${e.message} Looking again in ${e.retryS ?? wait} s.`);
      await new Promise((resolve) => setTimeout(resolve, 1000 * (e.retryS ?? wait)));
    }
  }
  notice("");
  chooseModel(modelIds.includes(remember("aha.model")) ? remember("aha.model") : (modelIds[0] ?? ""));
}

// The model's name; "" when nobody gave the key that it takes.
let finding = null;
async function modelFound() {
  if (!model) await (finding ??= findModels().finally(() => (finding = null)));
  return model;
}

function chooseModel(id) {
  model = id;
  remember("aha.model", id);
  drawAbout(model, (text) => composer.fill(text));
}

// ---- colours ----
const THEMES = ["auto", "light", "dark"], THEME_WORDS = { auto: "as the system has it", light: "light", dark: "dark" };
function showTheme(chosen) {
  iconSet($("theme").querySelector("svg"), chosen);
  $("theme").title = `Colours: ${THEME_WORDS[chosen]}`;
  $("theme").setAttribute("aria-label", $("theme").title);
}
function nextTheme() {
  const chosen = THEMES[(THEMES.indexOf(window.themeChosen()) + 1) % THEMES.length];
  try {
    localStorage.setItem("aha.theme", chosen);
  } catch {
    // forbidden: as the system has it
  }
  window.themeApply(chosen);
  showTheme(chosen);
}

// ---- keys and buttons ----
function keys(e) {
  if (e.isComposing || document.querySelector("dialog[open]")) return;
  if (e.key === "Escape" && (closeList() || chat.stop())) e.preventDefault();
  else if (e.altKey && !e.ctrlKey && !e.metaKey && e.code === "KeyN") begin();
  else if (e.altKey && !e.ctrlKey && !e.metaKey && e.code === "KeyT") chat.toggleThinking();
  else return;
  e.preventDefault();
}

function buttons() {
  document.addEventListener("keydown", keys);
  for (const b of document.querySelectorAll("[data-close]")) b.addEventListener("click", () => b.closest("dialog").close());
  for (const d of document.querySelectorAll("dialog")) d.addEventListener("click", (e) => e.target === d && d.close()); // beside it
  $("new").addEventListener("click", begin);
  $("theme").addEventListener("click", nextTheme);
  $("about-open").addEventListener("click", () => $("about").showModal());
  $("delete-all").addEventListener("click", removeAll);
  $("export").addEventListener("click", () => (list.length ? exportFile(list, `aha conversations ${today()}`) : notice("There is no conversation to export.")));
  $("s-export").addEventListener("click", () => exportFile([chat.conversation], titleOf(chat.conversation)));
  $("import").addEventListener("click", () => $("import-file").click());
  $("import-file").addEventListener("change", async () => {
    await importFiles([...$("import-file").files]);
    $("import-file").value = "";
  });
}

async function main() {
  buttons();
  initList();
  initSettings({ conversation: () => chat.conversation, changed: () => save(chat.conversation), models: () => modelIds, model: () => model, chooseModel });
  showTheme(window.themeChosen());
  drawAbout("", (text) => composer.fill(text));
  await store.open();
  list = await store.all();
  show(list.find((c) => c.id === remember("aha.open")) ?? newConversation());
  others?.addEventListener("message", reload);
  if (!store.lasting) notice("This browser lets the page keep nothing: conversations are gone when it is closed.");
  $("text").focus();
  await modelFound();
}

main();
