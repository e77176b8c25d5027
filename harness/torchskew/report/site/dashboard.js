const data = JSON.parse($("data").textContent);
const FAIL = data.verdicts.indexOf("FAIL"), MOST = 25;
const seconds = value => value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(1)} s`;
const percent = value => `${(100 * value).toFixed(1)} %`;
const day = text => text.slice(0, 16).replace("T", " ");
const runName = number => `${data.runs[number].id} (${day(data.runs[number].at)})`;
const latest = cell => cell.past.at(-1);
const cellLink = cell => el("button", {type: "button", class: "link mono", onclick: () => openCell(cell)}, cell.id);
function strip(cell, most = 40) {
  const past = cell.past.slice(-most), words = past.map(each => data.verdicts[each[1]]);
  return el("span", {class: "strip", role: "img", "aria-label": `oldest first: ${words.join(", ")}`}, past.map((each, at) =>
    el("i", {class: `${words[at]} ${at && past[at - 1][4] !== each[4] ? "new" : ""}`, title: `${runName(each[0])}: ${words[at]}, ${seconds(each[2])}`})));
}
function list(id, title, columns, cells, row, none) {
  if (!cells.length) { $(id).replaceChildren(el("div", {class: "card empty"}, none)); return; }
  const shown = cells.slice(0, MOST);
  $(id).replaceChildren(el("div", {class: "card list"}, el("table", {class: "plain rows"}, el("caption", {class: "visually-hidden"}, title), el("thead", {}, el("tr", {}, columns.map(name => el("th", {scope: "col"}, name)))),
    el("tbody", {}, shown.map(cell => el("tr", {}, row(cell)))))), cells.length > shown.length ? el("p", {class: "small soft"}, `and ${cells.length - shown.length} more`) : "");
}
const td = (kind, ...children) => el("td", {class: kind}, ...children);
function drawHead() {
  const unstable = data.cells.filter(cell => cell.unstable).length, turns = data.cells.filter(cell => cell.turn).length;
  const results = data.cells.reduce((sum, cell) => sum + cell.past.length, 0), days = data.runs.map(run => run.at.slice(0, 10));
  $("summary").textContent = data.runs.length ? `${plural(data.runs.length, "run")} from ${days[0]} to ${days.at(-1)}, out of ${plural(data.folders.length, "record")}.` : "No run is recorded.";
  const tile = (number, words, bad) => el("div", {class: `card tile ${bad && number ? "bad" : ""}`}, el("b", {}, number.toLocaleString("en")), el("span", {}, words));
  $("tiles").replaceChildren(tile(data.cells.length, "cells really ran"), tile(results, "results"), tile(turns, turns === 1 ? "regression" : "regressions", true), tile(unstable, unstable === 1 ? "unstable cell" : "unstable cells", true),
    tile(data.cells.filter(cell => cell.drift >= 1.5).length, "became slower"));
  $("made").textContent = `Built by torchskew flakes --html from ${data.folders.join(", ")}.`;
}
function drawRuns() {
  const most = Math.max(1, ...data.runs.map(run => run.counts.reduce((a, b) => a + b, 0)));
  $("chart").replaceChildren(el("div", {class: "runs", role: "group", "aria-label": "Runs, oldest first"}, data.runs.map((run, number) => {
    const words = data.verdicts.map((name, at) => run.counts[at] ? `${run.counts[at]} ${name.toLowerCase()}` : "").filter(Boolean).join(", ") || "every result was reused";
    return el("button", {type: "button", "aria-pressed": "false", title: `${runName(number)}: ${words}`, "aria-label": `${run.kind} ${runName(number)}: ${words}`, onclick: event => openRun(number, words, event.currentTarget)},
      data.verdicts.map((name, at) => run.counts[at] ? el("i", {class: name, style: `height:${100 * run.counts[at] / most}%`}) : null));
  })), el("div", {class: "keys"}, data.verdicts.map(name => el("span", {}, el("i", {class: name}), name.toLowerCase()))));
}
function openRun(number, words, button) {
  for (const each of document.querySelectorAll(".runs button")) each.setAttribute("aria-pressed", String(each === button));
  const run = data.runs[number];
  $("run").replaceChildren(el("div", {class: "card"}, el("b", {}, `${run.kind} ${run.id}`), el("span", {class: "soft small"}, `${day(run.at)} · ${run.runtime} · torchskew ${run.torchskew}`), el("span", {}, words), command(run.command)));
  say(`${run.kind} ${runName(number)}: ${words}`);
}
function rate(cell) {
  const share = cell.judged ? cell.fails / cell.judged : 0;
  return el("span", {class: "interval", role: "img", "aria-label": `${percent(share)}, from ${percent(cell.low)} to ${percent(cell.high)}`, title: `${percent(cell.low)} to ${percent(cell.high)}`},
    el("i", {style: `left:${100 * cell.low}%;right:${100 - 100 * cell.high}%`}), el("b", {style: `left:calc(${100 * share}% - 1px)`}));
}
function drawLists() {
  const turns = data.cells.filter(cell => cell.turn).sort((a, b) => b.turn.first - a.turn.first);
  list("turns-list", "Regressions", ["cell", "ends as", "last good run", "first bad run", "content", "history"], turns, cell => [td("name", cellLink(cell)), td("", cell.turn.how),
    td("", runName(cell.turn.before)), td("", el("b", {}, runName(cell.turn.first))), td("", el("span", {class: `pill ${cell.turn.changed ? "warn" : ""}`}, cell.turn.changed ? "changed" : "the same")), td("", strip(cell, 20))], "No cell passed once and has failed since.");
  const unstable = data.cells.filter(cell => cell.unstable).sort((a, b) => b.low - a.low);
  list("unstable-list", "Least stable cells", ["cell", "fails", "rate", "95 % interval", "history"], unstable, cell => [td("name", cellLink(cell)), td("number", `${cell.fails} of ${cell.judged}`),
    td("number", percent(cell.fails / cell.judged)), td("", rate(cell), el("small", {class: "soft"}, `${percent(cell.low)} to ${percent(cell.high)}`)), td("", strip(cell, 30))], "No cell has shown both a pass and a failure of the same content.");
  const slow = [...data.cells].filter(cell => cell.past.some(each => data.verdicts[each[1]] === "PASS")).sort((a, b) => b.seconds - a.seconds);
  list("slow-list", "Slowest passes", ["slowest passes", "median"], slow.slice(0, MOST), cell => [td("name", cellLink(cell)), td("number", seconds(cell.seconds))], "No cell passed.");
  const drift = data.cells.filter(cell => cell.drift).sort((a, b) => b.drift - a.drift);
  list("drift-list", "Cells that became slower", ["drift", "median", "times"], drift.slice(0, MOST), cell => [td("name", cellLink(cell)), td("number", seconds(cell.seconds)), td("number", `x ${cell.drift.toFixed(2)}`)], "No cell passed six times, which a drift needs.");
}
function drawCells() {
  const wanted = $("filter").value.trim().toLowerCase();
  const found = data.cells.filter(cell => cell.id.toLowerCase().includes(wanted));
  list("cells-list", "Every cell", ["cell", "newest", "results", "fails", "median", "history"], found, cell => [td("name", cellLink(cell)), td("", data.verdicts[latest(cell)[1]]), td("number", cell.past.length),
    td("number", `${cell.fails} of ${cell.judged}`), td("number", seconds(cell.seconds)), td("", strip(cell, 20))], "No cell has this in its id.");
}
function durations(cell) {
  const past = cell.past, most = Math.max(...past.map(each => each[2]), 1e-9), x = at => past.length > 1 ? 600 * at / (past.length - 1) : 300, y = each => 84 - 78 * each[2] / most;
  const make = (tag, attributes) => { const node = document.createElementNS("http://www.w3.org/2000/svg", tag); for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value); return node; };
  const svg = make("svg", {class: "line", viewBox: "0 0 600 90", preserveAspectRatio: "none", role: "img", "aria-label": `Seconds of each result, oldest first: ${past.map(each => each[2]).join(", ")}`});
  svg.append(make("path", {d: past.map((each, at) => `${at ? "L" : "M"}${x(at)} ${y(each)}`).join(""), "vector-effect": "non-scaling-stroke"}));
  past.forEach((each, at) => svg.append(make("circle", {cx: x(at), cy: y(each), r: 3, class: data.verdicts[each[1]]})));
  return svg;
}
let openedFrom = null;
function openCell(cell) {
  openedFrom = document.activeElement;
  const run = data.runs[latest(cell)[0]];
  $("cell").replaceChildren(el("div", {class: "entry"}, el("button", {type: "button", class: "tool close", onclick: closeCell}, "Close"), el("h3", {id: "cell-title", class: "mono"}, cell.id),
    el("p", {}, `${cell.fails} of ${cell.judged} results of the newest content failed: between ${percent(cell.low)} and ${percent(cell.high)} with 95 % confidence.`), rate(cell),
    cell.turn ? el("p", {}, el("span", {class: "pill bad"}, "regression"), ` First bad run ${runName(cell.turn.first)}, last good run ${runName(cell.turn.before)}; the content ${cell.turn.changed ? "changed between them" : "is the same"}.`) : null,
    el("h4", {}, "Seconds"), durations(cell), el("p", {class: "small soft"}, `Median ${seconds(cell.seconds)}${cell.drift ? `, drift x ${cell.drift.toFixed(2)}` : ""}.`),
    el("h4", {}, "Every result, newest first"), el("table", {class: "plain"}, el("caption", {class: "visually-hidden"}, `Every result of ${cell.id}`), el("thead", {}, el("tr", {}, ["run", "verdict", "ranks", "took", "content"].map(name => el("th", {scope: "col"}, name)))),
      el("tbody", {}, [...cell.past].reverse().map(each => el("tr", {}, el("td", {}, runName(each[0])), el("td", {}, el("i", {class: `box ${data.verdicts[each[1]]}`}), data.verdicts[each[1]]),
        el("td", {}, each[3].map(outcome => data.outcomes[outcome]).join("/")), el("td", {}, seconds(each[2])), el("td", {}, `#${each[4] + 1}`))))),
    el("h4", {}, "Run it again"), command(run.rerun.replace(" --no-cache", "") + ` --only '${cell.id}' --no-cache`)));
  $("cell").hidden = false; $("cell").focus();
  history.replaceState(null, "", `#cell=${encodeURIComponent(cell.id)}`);
}
function closeCell() {
  $("cell").hidden = true;
  history.replaceState(null, "", "#");
  if (openedFrom) openedFrom.focus();
}
function start() {
  startTheme(() => {});
  drawHead(); drawRuns(); drawLists(); drawCells();
  $("filter").addEventListener("input", drawCells);
  addEventListener("keydown", event => { if (event.key === "Escape" && !$("cell").hidden) closeCell(); });
  for (const link of document.querySelectorAll("nav a, .skip")) link.addEventListener("click", event => {
    event.preventDefault();
    const target = document.querySelector(link.getAttribute("href"));
    target.scrollIntoView(); target.focus({preventScroll: true});
  });
  const wanted = new URLSearchParams(location.hash.slice(1)).get("cell"), cell = data.cells.find(each => each.id === wanted);
  if (cell) openCell(cell);
}
