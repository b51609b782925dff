// Which model this is, what it is for, and what to expect of it.
import { standsAlone } from "./conversation.js";
import { $, el } from "./dom.js";

const PUZZLES = ["Using 8, 13 and 2, make 29.", "Using 4, 6 and 1, make 24.", "Using 5, 7 and 9, make 44."];
const QUESTIONS = ["How many prime numbers lie between 50 and 100?", "Show that the square root of 2 is irrational.", "Write a function in C that reverses a list."];

export function words(model) {
  if (standsAlone(model))
    return {
      short: "number puzzles", heading: "Make a number from three others",
      text: ["aha-tiny is a very small model of DeepSeek-R1’s architecture, taught by reinforcement learning to think before it answers, and built into aha. " +
        "It does one thing: it makes a number below 100 from three numbers between 1 and 20, and shows how it searched.",
        "It knows nothing else, and it takes each question alone. Most puzzles come out right, some do not."],
      honest: "An experiment’s model: its answers can be wrong.", placeholder: PUZZLES[0], examples: PUZZLES,
    };
  return {
    short: "thinks before it answers", heading: `Ask ${model || "the model"}`,
    text: [`${model || "This model"} runs on this server, in aha. A reasoning model writes down its thinking first; you can read it, and stop it.`,
      "It can be wrong in its thinking and in its answers, and it knows nothing of what happened after its training."],
    honest: "The model can be wrong: check what matters.", placeholder: "Ask something", examples: QUESTIONS,
  };
}

// choose(text): an example was clicked
export function drawAbout(model, choose) {
  const w = words(model);
  $("model").replaceChildren(model || "aha", el("small", {}, w.short));
  document.title = model ? `${model} · aha` : "aha";
  $("welcome").replaceChildren(el("h2", {}, w.heading), ...w.text.map((t) => el("p", {}, t)),
    el("div", { class: "examples" }, ...w.examples.map((t) => el("button", { onclick: () => choose(t) }, t))));
  $("about-model").replaceChildren(el("h3", {}, model || "The model"), ...w.text.map((t) => el("p", {}, t)));
  $("honest").textContent = w.honest;
  $("text").placeholder = w.placeholder;
}
