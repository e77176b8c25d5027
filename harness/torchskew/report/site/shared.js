"use strict";
const $ = id => document.getElementById(id);
/** An element with attributes and children; texts are never markup. */
function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat(9).filter(child => child !== null && child !== undefined && child !== false));
  return node;
}
/** A command with a button that copies it. */
function command(text) {
  const button = el("button", {type: "button", class: "tool", onclick: async () => {
    try { await navigator.clipboard.writeText(text); } catch {
      const area = el("textarea", {}, text); document.body.append(area); area.select();
      document.execCommand("copy"); area.remove();
    }
    const name = (words, label) => { button.textContent = words; button.setAttribute("aria-label", label); };
    name("copied", "copied"); setTimeout(() => name("copy", `copy ${text}`), 1500);
  }, "aria-label": `copy ${text}`}, "copy");
  return el("div", {class: "copy"}, el("pre", {}, text), button);
}
/** One sentence for those who hear the page. What changes is long; it stays silent until they go there. */
const say = words => { if ($("heard").textContent !== words) $("heard").textContent = words; };
/** Dark or light: what the address says, else what was chosen here, else what the system prefers. */
function startTheme(changed) {
  const root = document.documentElement, system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = new URLSearchParams(location.search).get("theme");
  try { chosen = chosen || localStorage.getItem("torchskew-theme"); } catch { /* private windows keep nothing */ }
  const apply = () => {
    root.dataset.theme = chosen || (system.matches ? "dark" : "light");
    $("theme").textContent = root.dataset.theme === "dark" ? "Light" : "Dark";
    $("theme").setAttribute("aria-label", `Switch to ${root.dataset.theme === "dark" ? "light" : "dark"} colours`);
    changed();
  };
  system.addEventListener("change", apply);
  $("theme").addEventListener("click", () => {
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("torchskew-theme", chosen); } catch { /* the choice lasts as long as the page */ }
    apply();
  });
  apply();
}
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
