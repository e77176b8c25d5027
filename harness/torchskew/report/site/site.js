const data = JSON.parse($("data").textContent);
const V = Object.fromEntries(data.verdicts.map((name, number) => [name, number]));
const WRONG = 1, MARK = ["", "≠", "C", "!", "T", "H", "X", "·", "–"];
const N = data.releases.length;
const view = {part: 0, surface: "", scenario: "", first: -1, second: -1, old: -1, new: -1};
const part = () => data.parts[view.part];
const text = number => data.texts[number] || "";
const stateOf = (index, first, second) => data.states[part().cells[index][first][second]];
const surfaceName = name => data.surfaces[name] || name;
const guessed = state => Boolean(state.s);

/** The scenarios that the picture shows, as numbers. */
function shown(surface = view.surface, scenario = view.scenario) {
  return part().scenarios.map((_, index) => index).filter(index => {
    const each = part().scenarios[index];
    return scenario ? each.name === scenario : !surface || each.surface === surface;
  });
}
/** Whether a scenario fails with the same release on every rank too, so that it is no matter of two releases. */
function failsAlone(index, first, second) {
  return [first, second].some(number => { const state = stateOf(index, number, number); return state && state.v === V.FAIL; });
}
const NOTHING = 0, PASSED = 1, FAILED = 2, OWN = 3, STOPPED = 4, LACKING = 5, OPEN = 6, GUESS = 8, SILENT = 16, coded = new Map();
/** Each cell of a part as one small number, so that the pictures of all surfaces are drawn in a moment. */
function codes() {
  if (coded.has(view.part)) return coded.get(view.part);
  const kinds = {[V.PASS]: PASSED, [V.FAIL]: FAILED, [V.BLOCKED]: STOPPED, [V.UNSUPPORTED]: LACKING, [V.UNKNOWN]: OPEN};
  const ofState = data.states.map(state => kinds[state.v] + (guessed(state) ? GUESS : 0) + (state.v === V.FAIL && (state.o || []).includes(WRONG) ? SILENT : 0));
  const all = part().cells.map(rows => {
    const out = new Uint8Array(N * N);
    for (let first = 0; first < N; first++) for (let second = 0; second < N; second++) {
      const number = rows[first][second];
      if (number >= 0) out[first * N + second] = ofState[number];
    }
    for (let first = 0; first < N; first++) for (let second = 0; second < N; second++) {
      const at = first * N + second, alone = [first, second].some(number => { const same = rows[number][number]; return same >= 0 && data.states[same].v === V.FAIL; });
      if ((out[at] & 7) === FAILED && alone) out[at] = OWN + (out[at] & GUESS);
    }
    return out;
  });
  coded.set(view.part, all);
  return all;
}
/** How all these scenarios ended for one pair. own: those that fail with one release as well. */
function tally(indexes, first, second) {
  const counts = [0, 0, 0, 0, 0, 0, 0], all = codes(), at = first * N + second;
  let guesses = 0, wrong = 0;
  for (let place = 0; place < indexes.length; place++) {
    const code = all[indexes[place]][at];
    counts[code & 7]++;
    if (code & GUESS) guesses++;
    if (code & SILENT) wrong++;
  }
  return {pass: counts[PASSED], fail: counts[FAILED], own: counts[OWN], blocked: counts[STOPPED], lacking: counts[LACKING], open: counts[OPEN],
    wrong, guesses, planned: indexes.length - counts[NOTHING]};
}
function level(sum) {
  if (!sum.planned) return "empty";
  if (sum.blocked) return "broken";
  if (sum.fail) return sum.pass ? "part" : "broken";
  return sum.pass || sum.own ? "works" : sum.open ? "open" : "none";
}
const LEVELS = {works: "works", part: "breaks in part", broken: "no group forms, or nothing works", none: "lacking in one of them", open: "not known", empty: "not tried"};
function sentence(sum) {
  const words = [];
  if (sum.fail) words.push(`${sum.fail} break${sum.fail === 1 ? "s" : ""}`);
  if (sum.wrong) words.push(`${sum.wrong} of them without an error`);
  if (sum.blocked) words.push(`${sum.blocked} blocked because no group forms`);
  if (sum.pass) words.push(`${sum.pass} work${sum.pass === 1 ? "s" : ""}`);
  if (sum.own) words.push(`${sum.own} fail${sum.own === 1 ? "s" : ""} with one release as well`);
  if (sum.lacking) words.push(`${sum.lacking} lacking`);
  if (sum.open) words.push(`${sum.open} not known`);
  return words.join(", ") || "nothing was tried";
}
const sourceOf = sum => !sum.guesses ? "measured" : sum.guesses === sum.planned ? "predicted, not measured" : "measured in part";

/* ---------- the address ---------- */
function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1)), at = name => data.releases.indexOf(given.get(name) || "");
  const runtime = data.parts.findIndex(each => each.runtime === given.get("runtime"));
  if (runtime >= 0) view.part = runtime;
  if (given.has("surface")) view.surface = given.get("surface");
  if (given.has("scenario")) view.scenario = given.get("scenario");
  if (at("host") >= 0 && at("joiner") >= 0) { view.first = at("host"); view.second = at("joiner"); }
  if (at("from") >= 0 && at("to") >= 0) { view.old = at("from"); view.new = at("to"); }
  return given.get("break");
}
function writeAddress() {
  const out = new URLSearchParams(), name = number => data.releases[number];
  if (view.old >= 0) { out.set("from", name(view.old)); out.set("to", name(view.new)); }
  if (view.first >= 0) { out.set("host", name(view.first)); out.set("joiner", name(view.second)); }
  if (view.surface) out.set("surface", view.surface);
  if (view.scenario) out.set("scenario", view.scenario);
  if (view.part) out.set("runtime", part().runtime);
  history.replaceState(null, "", "#" + out);
}

/* ---------- the picture ---------- */
function drawSurfaces() {
  const names = ["", ...Object.keys(data.surfaces).filter(name => part().scenarios.some(each => each.surface === name))];
  $("surfaces").replaceChildren(...names.map(name => {
    const indexes = shown(name, ""), canvas = el("canvas", {"aria-hidden": "true", width: 264, height: 264});
    let broken = 0;
    const numbers = visible(), pen = canvas.getContext("2d"), side = 264 / numbers.length;
    const colours = {works: colour("--ok"), part: colour("--part"), broken: colour("--broken"), none: colour("--none"), open: colour("--unknown"), empty: "transparent"};
    for (const [row, first] of numbers.entries()) for (const [column, second] of numbers.entries()) {
      const sum = tally(indexes, first, second), how = level(sum);
      if (how === "part" || how === "broken") broken++;
      pen.globalAlpha = sum.guesses && sum.guesses === sum.planned ? .45 : 1;
      pen.fillStyle = colours[how];
      pen.fillRect(column * side + .5, row * side + .5, side - 1, side - 1);
    }
    return el("button", {type: "button", class: "surface", "aria-pressed": String(view.surface === name),
      onclick: () => { view.surface = name; view.scenario = ""; draw(); sayPicture(); }},
      canvas, el("b", {}, name ? surfaceName(name) : "everything"),
      el("small", {}, `${plural(indexes.length, "scenario")} · ${plural(broken, "pair")} with a break`));
  }));
}
function drawScenarioList() {
  const names = shown(view.surface, "").map(index => part().scenarios[index].name).sort();
  if (view.scenario && !names.includes(view.scenario)) view.scenario = "";
  $("scenario").replaceChildren(el("option", {value: ""}, `all ${names.length} scenarios`),
    ...names.map(name => el("option", {value: name, selected: name === view.scenario}, name)));
}
function drawRuntimes() {
  $("runtimes").replaceChildren(...(data.parts.length > 1 ? data.parts.map((each, index) =>
    el("button", {type: "button", class: "tool small", "aria-pressed": String(index === view.part),
      onclick: () => { view.part = index; draw(); sayPicture(); }}, each.runtime === "venv" ? "wheels" : each.runtime)) : []));
}
const eraOf = number => data.eras.slice(0, 3).map(each => each.of[number]).join();
function face(sum, first, second) {
  if (view.scenario) {
    const state = stateOf(shown()[0], first, second);
    if (!state) return {class: "empty", inside: []};
    if (state.v === V.FAIL || state.v === V.PASS) {
      const outcomes = state.o || [];
      return {class: `${guessed(state) ? "guess" : ""}`, inside: outcomes.slice(0, 2).map(outcome => el("i", {class: `o${outcome}`}, MARK[outcome]))};
    }
    const marks = {[V.BLOCKED]: "–", [V.UNSUPPORTED]: "·", [V.UNKNOWN]: "?"};
    return {class: `${state.v === V.UNKNOWN ? "open" : "none"} ${guessed(state) ? "guess" : ""}`, inside: [marks[state.v]]};
  }
  const how = level(sum), guess = sum.guesses && sum.guesses === sum.planned ? "guess" : "";
  const inside = how === "part" ? String(sum.fail) : how === "broken" ? "✕" : how === "works" && sum.own ? el("small", {}, String(sum.own)) : how === "none" ? "·" : how === "open" ? "?" : "";
  return {class: `${how} ${guess} ${sum.wrong ? "silent" : ""}`, inside: [inside]};
}
const inWords = state => (state.o || []).map(outcome => data.outcomes[outcome].short).join("/");
function cellWords(sum, first, second) {
  if (!view.scenario) return `${LEVELS[level(sum)]}: ${sentence(sum)}; ${sourceOf(sum)}`;
  const state = stateOf(shown()[0], first, second);
  if (!state) return "not tried";
  const how = state.v === V.BLOCKED ? "blocked" + (state.k ? ` by ${state.k}` : "") : state.v === V.UNSUPPORTED ? "lacking in one of them" : state.v === V.UNKNOWN ? "not known" : inWords(state);
  return how + (guessed(state) ? `, ${state.s}, not measured` : ", measured");
}
function visible() { return data.releases.map((_, number) => number).filter(number => part().declared[number]); }
function drawMap() {
  const indexes = shown(), numbers = visible(), many = numbers.length > 22 ? "many crowd" : numbers.length > 13 ? "many" : "";
  const edge = (list, at) => at && eraOf(list[at]) !== eraOf(list[at - 1]);
  const head = el("tr", {}, el("th", {class: "corner", scope: "col"}, "hosts ↓ joins →"), numbers.map((number, at) =>
    el("th", {scope: "col", class: `${edge(numbers, at) ? "era-col" : ""} ${part().measured[number] ? "" : "unmeasured"}`}, el("span", {}, data.releases[number]))));
  const open = view.first >= 0 ? [view.first, view.second] : [numbers[0], numbers[0]];
  const rows = numbers.map((first, row) => el("tr", {class: edge(numbers, row) ? "era-row" : ""},
    el("th", {scope: "row", class: part().measured[first] ? "" : "unmeasured"}, data.releases[first]),
    numbers.map((second, at) => {
      const sum = tally(indexes, first, second), looks = face(sum, first, second);
      const words = `${data.releases[first]} hosts, ${data.releases[second]} joins: ${cellWords(sum, first, second)}`;
      const here = first === view.first && second === view.second;
      return el("td", {class: edge(numbers, at) ? "era-col" : ""}, el("button", {type: "button", class: `c ${looks.class}`, title: words,
        "aria-label": words, "aria-current": here ? "true" : null, tabindex: first === open[0] && second === open[1] ? 0 : -1,
        "data-at": `${first} ${second}`, onclick: () => choose(first, second)}, ...looks.inside));
    })));
  const title = view.scenario || (view.surface ? surfaceName(view.surface) : "everything");
  $("map-title").textContent = title[0].toUpperCase() + title.slice(1);
  $("map").replaceChildren(el("table", {class: `grid ${many}`, id: "grid", onkeydown: move, "aria-label": `${title}, every release by every release`},
    el("thead", {}, head), el("tbody", {}, rows)));
  drawLegend(); drawTable();
}
const sayPicture = () => say(`The picture shows: ${$("map-title").textContent}${data.parts.length > 1 ? `, ${part().runtime}` : ""}`);
/** Arrow keys, Home and End move the focus over the picture. */
function move(event) {
  const step = {ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0], Home: [0, -99], End: [0, 99]}[event.key];
  if (!step || !event.target.dataset.at) return;
  event.preventDefault();
  const numbers = visible(), [first, second] = event.target.dataset.at.split(" ").map(Number);
  const to = (from, by) => numbers[Math.max(0, Math.min(numbers.length - 1, numbers.indexOf(from) + by))];
  const next = document.querySelector(`[data-at="${to(first, step[0])} ${to(second, step[1])}"]`);
  event.target.tabIndex = -1; next.tabIndex = 0; next.focus();
}
function drawLegend() {
  const key = (kind, mark, words) => el("span", {class: "item"}, el("span", {class: `key ${kind}`}, mark), words);
  const guess = key("guess works", "", "hatched: predicted, not measured");
  $("legend").replaceChildren(...(view.scenario ? [
    ...data.outcomes.slice(0, 7).map((outcome, number) => key(`o${number}`, MARK[number], `${outcome.short}: ${outcome.meaning}`)),
    key("none", "–", "blocked: an earlier scenario failed"), key("none", "·", "lacking in one of them"), guess,
    el("span", {class: "item soft"}, "left half: rank 0, right half: the other rank"),
  ] : [
    key("works", "", "works"), key("part", "3", "so many scenarios break"), key("broken", "✕", "no group forms, or nothing works"),
    key("works", el("small", {}, "2"), "so many fail with one release as well"),
    key("silent", "", "corner: another value, without an error"), key("none", "·", "lacking in one of them"), guess,
  ]));
}
function drawTable() {
  if (!$("table-fold").open) return;
  const indexes = shown(), rows = [];
  for (const first of visible()) for (const second of visible()) {
    const sum = tally(indexes, first, second);
    rows.push(el("tr", {}, el("td", {}, data.releases[first]), el("td", {}, data.releases[second]), el("td", {}, cellWords(sum, first, second))));
  }
  $("table").replaceChildren(el("table", {class: "plain"}, el("caption", {class: "visually-hidden"}, "The picture in words"),
    el("thead", {}, el("tr", {}, ["hosts or writes", "joins or reads", "what happens"].map(name => el("th", {scope: "col"}, name)))), el("tbody", {}, rows)));
}
function choose(first, second) {
  view.first = first; view.second = second;
  for (const node of document.querySelectorAll(".c[aria-current]")) node.removeAttribute("aria-current");
  const node = document.querySelector(`[data-at="${first} ${second}"]`);
  if (node) { for (const each of document.querySelectorAll('.c[tabindex="0"]')) each.tabIndex = -1; node.setAttribute("aria-current", "true"); node.tabIndex = 0; }
  drawCell(); writeAddress();
  say(`${pairTitle(first, second)}: ${sentence(tally(shown(), first, second))}`);
  if (matchMedia("(max-width: 999px)").matches) $("cell").scrollIntoView({block: "start"});
}

/* ---------- one pair ---------- */
const ROLES = {group: ["hosts", "joins"], handover: ["writes", "reads"], solo: ["alone"]};
function pairTitle(first, second) {
  const [a, b] = [data.releases[first], data.releases[second]];
  return first === second ? `${a} on every rank` : view.surface === "files" ? `${a} writes, ${b} reads` : `${a} hosts, ${b} joins`;
}
function drawCell() {
  if (view.first < 0) {
    $("cell").replaceChildren(el("h3", {id: "cell-title"}, "No cell is chosen"),
      el("p", {class: "soft"}, "Click a cell of the picture, or press Enter on it: here is what each rank saw, the break, what to do, and the command that shows it."));
    return;
  }
  const indexes = shown(), sum = tally(indexes, view.first, view.second);
  $("cell").replaceChildren(el("h3", {id: "cell-title"}, pairTitle(view.first, view.second)),
    el("p", {}, `${sentence(sum)[0].toUpperCase()}${sentence(sum).slice(1)}.`), sourceNote(sum),
    ...groupsOf(indexes, view.first, view.second).map(group => groupCard(group, view.first, view.second)), ...rest(indexes, view.first, view.second));
}
function sourceNote(sum) {
  const said = (title, field) => { // once where both sides have the same
    const both = [...new Set([part()[field][view.first], part()[field][view.second]].filter(Boolean))];
    return both.length ? [`${title} ${both.join(" and ")}`] : [];
  };
  const pairs = [...said("Python", "python"), ...said("NumPy", "numpy")].join(", ");
  if (!sum.guesses) return el("p", {class: "small soft"}, `Measured with ${part().torch[view.first]} and ${part().torch[view.second]}${pairs ? `, ${pairs}` : ""}.`);
  return el("p", {class: "small"}, el("span", {class: "pill warn"}, sourceOf(sum)), ` ${sum.guesses} of ${sum.planned} follow from what is known of these releases.`);
}
/** Failures of a pair that are one thing: by break, else by scenario. */
function groupsOf(indexes, first, second) {
  const groups = new Map();
  for (const index of indexes) {
    const state = stateOf(index, first, second);
    if (!state || state.v !== V.FAIL) continue;
    const key = state.b ? `b${state.b}` : part().scenarios[index].name.split(".")[0] + inWords(state);
    if (!groups.has(key)) groups.set(key, {entry: state.b ? data.breaks[state.b - 1] : null, cells: []});
    groups.get(key).cells.push({index, state});
  }
  for (const group of groups.values()) group.alone = first !== second && group.cells.every(cell => failsAlone(cell.index, first, second));
  const blockers = new Set(indexes.map(index => (stateOf(index, first, second) || {}).k).filter(Boolean));
  const rank = group => group.alone ? 3 : group.cells.some(cell => blockers.has(part().scenarios[cell.index].name)) ? 0 : group.entry ? 1 : 2;
  return [...groups.values()].sort((a, b) => rank(a) - rank(b));
}
function rankLines(cell, first, second) {
  const {kind} = part().scenarios[cell.index], names = [first, second].map(number => data.releases[number]);
  return (cell.state.o || []).map((outcome, rank) => el("div", {class: "rank"},
    el("span", {class: `word o${outcome}`, title: data.outcomes[outcome].meaning}, data.outcomes[outcome].short),
    el("span", {}, `rank ${rank}, ${names[rank] || names[1]}${ROLES[kind][rank] && kind !== "solo" ? ` ${ROLES[kind][rank]}` : ""}: ${data.outcomes[outcome].meaning}`),
    cell.state.e && cell.state.e[rank] ? el("code", {}, text(cell.state.e[rank])) : null));
}
function rerun(name, first, second) {
  const names = [...new Set([first, second].map(number => data.releases[number]))];
  const skew = part().scenarios.find(each => each.name === name).kind === "solo" ? names[0] : `${data.releases[first]},${data.releases[second]}`;
  const runtime = part().runtime === "venv" ? "" : ` --runtime ${part().runtime}`;
  return `torchskew init ${names.join(" ")} && torchskew matrix --scenarios ${name.split(".")[0]} --only '${name}/${skew}/guard-off/*'${runtime} --no-cache`;
}
function groupCard(group, first, second) {
  const {entry, cells} = group, one = cells.find(cell => cell.state.e) || cells[0], name = part().scenarios[one.index].name;
  const promise = data.promises[name.split(".")[0]];
  return el("div", {class: "group"},
    el("h4", {}, entry ? el("a", {href: `#break=${entry.id}`, onclick: openBreak}, entry.id) : "Not in the catalogue", ` ${entry ? entry.title : name}`,
      group.alone ? [" ", el("span", {class: "pill"}, "with one release as well")] : null),
    el("div", {class: "chips", role: "group", "aria-label": "scenarios"}, cells.map(cell => el("button", {type: "button", class: "chip", onclick: () => { view.scenario = part().scenarios[cell.index].name; draw(); sayPicture(); }}, part().scenarios[cell.index].name))),
    el("div", {}, el("p", {class: "small soft"}, `${name}${promise ? `: ${promise}` : ""}`), rankLines(one, first, second),
      one.state.r ? el("p", {class: "small"}, el("code", {}, text(one.state.r))) : null,
      one.state.p ? el("p", {class: "small"}, el("span", {class: "pill warn"}, "surprise"), ` predicted ${one.state.p.map(each => data.outcomes[each].short).join("/")}`) : null),
    entry ? el("div", {class: "fix"}, el("p", {}, el("b", {}, "Now: "), entry.now), el("p", {}, el("b", {}, "For good: "), entry.lasting)) : null,
    entry ? el("details", {class: "more small"}, el("summary", {}, "Why"), el("p", {}, entry.cause), el("p", {class: "soft"}, `${entry.rolling}; ${entry.guard}.`)) : null,
    guessed(one.state) ? el("p", {class: "small soft"}, `${one.state.s === "predicted" ? "Predicted, not measured" : "Inferred from neighbours"}. This measures it:`) : null,
    command(rerun(name, first, second)));
}
/** What is blocked, what works and what is lacking. */
function rest(indexes, first, second) {
  const lists = {blocked: [], works: [], lacking: [], "not known": []}, why = new Map();
  for (const index of indexes) {
    const state = stateOf(index, first, second), name = part().scenarios[index].name;
    if (!state) continue;
    if (state.v === V.PASS) lists.works.push(name);
    if (state.v === V.UNKNOWN) lists["not known"].push(name);
    if (state.v === V.UNSUPPORTED) lists.lacking.push(name + (text(state.r || (state.e || [0])[0]) ? `: ${text(state.r)}` : ""));
    if (state.v === V.BLOCKED) { lists.blocked.push(name); why.set(state.k, (why.get(state.k) || 0) + 1); }
  }
  return Object.entries(lists).filter(([, names]) => names.length).map(([what, names]) => el("details", {class: "group more", open: names.length < 4},
    el("summary", {}, el("b", {}, `${what} (${names.length})`), what === "blocked" ? ` by ${[...why.keys()].join(", ")}` : ""),
    el("ul", {class: "small"}, names.map(name => el("li", {}, name)))));
}

/* ---------- my versions ---------- */
function drawMineForm() {
  for (const [id, at] of [["old", view.old], ["new", view.new]]) {
    const chosen = at >= 0 ? at : id === "old" ? Math.max(0, data.releases.findIndex((_, number) => data.parts[0].measured[number])) : N - 1;
    $(id).replaceChildren(...data.releases.map((name, number) => el("option", {value: number, selected: number === chosen}, name)));
  }
  $("with-mine-text").textContent = ` the ranks ran my versions (${data.releases[$("old").value]} and ${data.releases[$("new").value]})`;
}
function showMine(focus) {
  view.old = Number($("old").value); view.new = Number($("new").value);
  const old = data.releases[view.old], next = data.releases[view.new], advice = data.advice[`${old} ${next}`];
  const lines = advice ? advice.lines.map(([name, number, ids]) => [el("dt", {}, name), el("dd", {}, text(number),
    ids.length ? el("ul", {}, ids.map(id => el("li", {}, el("a", {href: `#break=${id}`, onclick: openBreak}, id), ` ${data.breaks.find(each => each.id === id).title}`))) : null)]) : [];
  $("answer").hidden = false;
  $("answer").replaceChildren(
    el("div", {class: "card wide"}, el("div", {class: "answer-head"}, el("h2", {id: "answer-title", tabindex: -1}, `${old} to ${next}`), shareButton()),
      old === next ? el("p", {}, "The same release on every rank.") : null,
      advice ? [el("dl", {class: "lines"}, lines), el("p", {class: "small soft"}, "This proves it, on a small training cluster:"), command(text(advice.proof))] : null),
    ...(old === next ? [[view.old, view.new]] : [[view.new, view.old], [view.old, view.new]]).map(([first, second]) => orderCard(first, second)));
  $("with-mine-text").textContent = ` the ranks ran my versions (${old} and ${next})`;
  writeAddress();
  if (focus) $("answer-title").focus();
}
function orderCard(first, second) {
  const indexes = shown("", ""), sum = tally(indexes, first, second);
  return el("div", {class: "card"}, el("h3", {}, first === second ? `${data.releases[first]} on every rank` : `${data.releases[first]} hosts or writes, ${data.releases[second]} joins or reads`),
    el("p", {}, el("span", {class: `pill ${{works: "good", part: "warn", broken: "bad"}[level(sum)] || ""}`}, LEVELS[level(sum)]), ` ${sentence(sum)}; ${sourceOf(sum)}.`),
    el("ul", {class: "small"}, groupsOf(indexes, first, second).map(group => el("li", {},
      group.entry ? [el("a", {href: `#break=${group.entry.id}`, onclick: openBreak}, group.entry.id), ` ${group.entry.title}`] : "Not in the catalogue",
      group.alone ? [" ", el("span", {class: "pill"}, "with one release as well")] : null,
      `: ${group.cells.map(cell => part().scenarios[cell.index].name).slice(0, 5).join(", ")}${group.cells.length > 5 ? ` and ${group.cells.length - 5} more` : ""} (${inWords(group.cells[0].state)})`))),
    el("p", {}, el("button", {type: "button", class: "tool small", "aria-label": `What each rank saw: ${pairTitle(first, second)}`, onclick: () => {
      view.surface = ""; view.scenario = ""; view.first = first; view.second = second; draw();
      $("cell").scrollIntoView({block: "center"}); $("cell").focus({preventScroll: true});
    }}, "What each rank saw")));
}
function shareButton() {
  const button = el("button", {type: "button", class: "tool small", onclick: async () => {
    writeAddress();
    try { await navigator.clipboard.writeText(location.href); button.textContent = "link copied"; } catch { button.textContent = "the address bar has the link"; }
  }}, "Copy a link to this pair");
  return button;
}

/* ---------- eras, breaks, head ---------- */
function drawEras() {
  const columns = `grid-template-columns: repeat(${N}, minmax(0, 1fr))`;
  $("timeline").replaceChildren(el("div", {class: "line"}, el("span", {}), el("div", {class: `bars names ${N > 14 ? "tight" : ""}`, style: columns, "aria-hidden": "true"}, data.releases.map(name => el("span", {}, name)))),
    ...data.eras.map(era => {
      const bars = [];
      era.of.forEach((name, at) => {
        if (bars.length && bars.at(-1).name === name) bars.at(-1).last = at; else bars.push({name, first: at, last: at});
      });
      return el("div", {class: "line"}, el("div", {}, el("b", {}, era.title), el("small", {}, era.explains)),
        el("div", {class: "bars", style: columns, role: "list", "aria-label": `${era.title}: ${era.explains}`}, bars.map((bar, number) => el("span", {
          role: "listitem", class: `e${number % 6}`, style: `grid-column: ${bar.first + 1} / ${bar.last + 2}`,
          title: `${data.releases[bar.first]} to ${data.releases[bar.last]}`,
          "aria-label": `${data.releases[bar.first]} to ${data.releases[bar.last]}: dialect of ${bar.name}`}, bar.name))));
    }));
}
/** Measured cells that each break fails, or blocks because no group forms. */
function costs() {
  const counts = new Map();
  for (const each of data.parts) {
    const index = new Map(each.scenarios.map((scenario, number) => [scenario.name, number]));
    for (let place = 0; place < each.cells.length; place++) for (let first = 0; first < N; first++) for (let second = 0; second < N; second++) {
      const state = data.states[each.cells[place][first][second]];
      if (!state || guessed(state) || (state.v !== V.FAIL && state.v !== V.BLOCKED)) continue;
      const cause = state.v === V.BLOCKED && index.has(state.k) ? data.states[each.cells[index.get(state.k)][first][second]] : state;
      if (cause && cause.b) counts.set(cause.b - 1, (counts.get(cause.b - 1) || 0) + 1);
    }
  }
  return counts;
}
function drawBreaks() {
  const counts = costs(), order = data.breaks.map((_, number) => number).sort((a, b) => (counts.get(b) || 0) - (counts.get(a) || 0) || a - b);
  $("catalogue").replaceChildren(...order.map(number => {
    const entry = data.breaks[number];
    return el("details", {class: "break", id: entry.id}, el("summary", {}, el("span", {class: "mono"}, entry.id), el("b", {}, entry.title),
      entry.silent ? el("span", {class: "pill wrong"}, "silent") : null, el("span", {class: "small soft"}, counts.get(number) ? `costs ${plural(counts.get(number), "cell")}` : "not in these cells")), entryBody(entry));
  }));
}
function entryBody(entry) {
  return el("div", {class: "entry"}, el("p", {class: "soft"}, `Releases: ${entry.sides.join("; ") || "see the cause"}.`), el("p", {}, entry.cause),
    el("div", {class: "fix"}, el("p", {}, el("b", {}, "Now: "), entry.now), el("p", {}, el("b", {}, "For good: "), entry.lasting)),
    el("p", {class: "small soft"}, `Upgrade: ${entry.rolling}. Guard: ${entry.guard}.${entry.fixed ? ` Fixed in ${entry.fixed}.` : ""}`),
    entry.symptoms.length ? el("div", {class: "small"}, "Ranks show:", el("ul", {}, entry.symptoms.map(each => el("li", {}, el("code", {}, each.text))))) : null,
    el("p", {class: "small soft"}, "Sources: ", entry.sources.map((source, number) => [number ? ", " : "", source.startsWith("https://") ? el("a", {href: source, rel: "noreferrer"}, source) : source])));
}
function openBreak(event) {
  if (event) event.preventDefault();
  const id = event ? event.currentTarget.textContent.trim() : new URLSearchParams(location.hash.slice(1)).get("break");
  const node = $(id);
  if (!node) return;
  node.open = true; node.scrollIntoView({block: "start"}); node.querySelector("summary").focus({preventScroll: true});
}
function drawHead() {
  const whole = {measured: 0, inferred: 0, predicted: 0}, sources = data.states.map(state => state.s || "measured");
  for (const each of data.parts) for (const rows of each.cells) for (const row of rows) for (let at = 0; at < N; at++) if (row[at] >= 0) whole[sources[row[at]]]++;
  const measured = data.releases.filter((_, number) => data.parts.some(each => each.measured[number])).length, days = data.parts.flatMap(each => each.runs.map(run => run.day)).sort();
  $("summary").textContent = `PyTorch has no distributed protocol version. ${plural(measured, "release")} of ${N} were measured against each other in ${plural(whole.measured, "cell")}${days.length ? ` by ${days.at(-1)}` : ""}`
    + `${whole.inferred ? `; ${plural(whole.inferred, "cell")} were inferred from them` : ""}${whole.predicted ? `; ${plural(whole.predicted, "cell")} are predicted from sources and hatched in the picture` : ""}.`;
  const runs = data.parts.flatMap(each => each.runs.map(run => `${run.id} (${each.runtime})`));
  $("made").textContent = `Built by torchskew survey --html from ${runs.join(", ") || "no run"}. Stock PyTorch on CPUs, without the guard.`;
}
function draw() {
  drawSurfaces(); drawScenarioList(); drawRuntimes(); drawMap(); drawCell(); writeAddress();
}
function start() {
  const wanted = readAddress();
  drawHead(); drawMineForm(); drawEras(); drawBreaks();
  let drawn = false;  // the colours of the small pictures follow the theme
  startTheme(() => { if (drawn) drawSurfaces(); });
  if (view.old >= 0) showMine(false);
  draw(); drawn = true;
  $("scenario").addEventListener("change", () => { view.scenario = $("scenario").value; draw(); sayPicture(); });
  $("table-fold").addEventListener("toggle", drawTable);
  $("mine-form").addEventListener("submit", event => { event.preventDefault(); showMine(true); });
  for (const link of document.querySelectorAll('nav a, .skip')) link.addEventListener("click", event => {
    event.preventDefault();
    const target = document.querySelector(link.getAttribute("href"));
    target.scrollIntoView(); target.focus({preventScroll: true});
  });
  startSearch();
  addEventListener("hashchange", () => { if (readAddress()) openBreak(null); drawMineForm(); if (view.old >= 0) showMine(false); draw(); });
  if (wanted) { location.hash = `break=${wanted}`; openBreak(null); }
}
