// Light or dark, before anything is drawn.  Loaded first and not as a module, which would come too late.
"use strict";
const systemIsDark = matchMedia("(prefers-color-scheme: dark)");

// "light", "dark" or "auto": as the system has it
function themeChosen() {
  try {
    const t = localStorage.getItem("aha.theme");
    return t === "light" || t === "dark" ? t : "auto";
  } catch {
    return "auto"; // storage may be forbidden
  }
}

function themeApply(chosen) {
  document.documentElement.dataset.theme = chosen !== "auto" ? chosen : systemIsDark.matches ? "dark" : "light";
}

systemIsDark.addEventListener("change", () => themeApply(themeChosen()));
themeApply(themeChosen());
