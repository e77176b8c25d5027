/* The answers of `torchskew explain`, by the same rules as releases/diagnosis.py; a test compares both. */
const REACH = 160, LENGTH = 2000, FOLLOWED = 20000, FITS = ["certain", "likely", "possible"], EVERY_GROUP = ["store", "process_group"];
const LABELS = {"1.7.0a0": [1, 7, 1], "1.13.0a0": [1, 13, 1]};
const NAMES_TORCH = /(?:\b[Pp]y[Tt]orch|\b[Tt]orch)(?: version)?(?:==|[ :=@-]|\.__version__\W{1,4}|: ){1,3}v?(\d+\.\d+\.\d+[+.\w]*)|\b(\d+\.\d+\.\d+\+(?:cu\d+|cpu|rocm[\d.]+|debian))\b/g;
const RANK = /^(?:\[(?:rank|default)?\d+\](?:<stderr>|<stdout>)?:|\(\w+ pid=\d+\)|\d+:)\s+/, RAISED = /\b[A-Z]\w*(?:Error|Exception)\b/;
const LESS_EXACT = "the text belongs to it, and another cause shows more of the same line";
const ONLY_A_MESSAGE = "the text belongs to it, but no exception shows it, and another cause ended the job";
const patterns = new Map(), clues = new Map();
function shows(symptom, line) {
  if (!patterns.has(symptom.text)) {
    const parts = symptom.text.split("*"), escaped = parts.map(each => each.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    patterns.set(symptom.text, [parts.reduce((a, b) => b.length > a.length ? b : a), new RegExp(escaped.join(`.{0,${REACH}}?`))]);
  }
  const [anchor, pattern] = patterns.get(symptom.text);
  return line.includes(anchor) && pattern.test(line);
}
function parseRelease(version) {
  const open = version.split("+")[0].trim();
  if (LABELS[open]) return LABELS[open];
  const found = /^v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?/.exec(open);
  return found ? [Number(found[1]), Number(found[2]), Number(found[3] || 0)] : [];
}
function compare(a, b) {
  for (let at = 0; at < Math.min(a.length, b.length); at++) if (a[at] !== b[at]) return a[at] - b[at];
  return a.length - b.length;
}
const within = (release, bounds) => bounds.split(",").filter(Boolean).every(bound => {
  const order = compare(parseRelease(release), parseRelease(bound.replace(/^[<>=]+/, "")));
  return bound.startsWith(">=") ? order >= 0 : order < 0;
});
const between = (entry, [first, second]) => entry.affects.some(each => (each.either ? [[first, second], [second, first]] : [[first, second]])
  .some(([a, b]) => within(a, each.first) && within(b, each.second) && [...each.python, ...each.numpy].every(bounds => !bounds)));
function material(log, mine) {
  const lines = new Map();
  for (const line of log.split(/[\r\n]/)) {
    const template = line.replace(/\d/g, "").slice(0, LENGTH);
    if (template.trim() && !lines.has(template)) lines.set(template, line.slice(0, LENGTH).trim());
  }
  const named = [...new Set([...log.matchAll(NAMES_TORCH)].map(found => (found[1] || found[2]).replace(/\.+$/, "")))];
  const names = [...new Set(named.map(name => parseRelease(name).join(".")))];
  const pairs = mine ? (mine[0] === mine[1] ? [mine] : [mine, [mine[1], mine[0]]]) : names.flatMap(a => names.filter(b => b !== a).map(b => [a, b]));
  return {lines: [...lines.values()], named, pairs, given: Boolean(mine)};
}
function cluesOf(symptom) {
  if (!clues.has(symptom.text)) {
    const parts = symptom.text.split("*"), ends = parts.flatMap(part => part.match(/^\w+|\w+$/g) || []);
    clues.set(symptom.text, [parts.flatMap(part => part.replace(/^\w+|\w+$/g, " ").match(/\w+/g) || []), ends.reduce((a, b) => b.length > a.length ? b : a, "")]);
  }
  return clues.get(symptom.text);
}
function evidenceOf(lines) {
  const words = new Set(lines.flatMap(line => line.match(/\w+/g) || []));
  const broken = lines.length <= FOLLOWED ? lines.slice(0, -1).map((line, at) => [line, `${line} ${lines[at + 1].replace(RANK, "")}`]) : [];
  return {lines, broken, words, vocabulary: [...words].join("\n")};
}
function seenIn(symptoms, evidence) {
  return symptoms.flatMap(symptom => {
    const [inner, part] = cluesOf(symptom);
    if (!inner.every(word => evidence.words.has(word)) || !evidence.vocabulary.includes(part)) return [];
    const whole = evidence.lines.filter(line => shows(symptom, line));
    return (whole.length ? whole : evidence.broken.filter(([, text]) => shows(symptom, text)).map(([line]) => line)).map(line => [symptom, line]);
  });
}
const beats = (best, each) => each.length < best.length && each.lines.every(line => best.lines.includes(line));
function weighed(matches, others) {
  const certain = matches.filter(each => each.fit === 0), sure = others.filter(each => each.sure);
  const kept = others.filter(each => !each.sure || !matches.some(best => beats(best, each)));
  const left = matches.map(each => each.fit === 0 && sure.some(best => beats(best, each)) ? {...each, fit: 2, why: LESS_EXACT} : each);
  const raised = found => found.some(each => each.lines.some(line => RAISED.test(line)));
  const first = left.filter(each => each.fit === 0), second = kept.filter(each => each.sure);
  const message = first.length && second.length && !raised(first) && raised(second);
  return [message ? left.map(each => ({...each, fit: 2, why: ONLY_A_MESSAGE})) : left, kept];
}
function fitOf(entry, known, specific) {
  const sides = entry.sides.join("; "), byRelease = entry.affects.some(each => each.first || each.second);
  if (!known.pairs.length || !byRelease) return specific ? [0, "nothing else produces this text"] : [2, `this text occurs there, among others; it needs ${sides || "two versions"}`];
  if (!known.pairs.some(pair => between(entry, pair))) return specific ? [2, `the text belongs to it, but the releases do not: it needs ${sides}`] : null;
  const names = [...new Set(known.pairs[0])].join(" and ");
  if (specific) return [0, `nothing else produces this text, and ${names} are on its two sides`];
  if (entry.alone) return [2, "this text occurs there, among others; it needs no second release"];
  if (!entry.surfaces.some(surface => EVERY_GROUP.includes(surface)))
    return [2, `${names} are on its two sides, and this text occurs there where a job uses ${entry.surfaces.map(each => each.replaceAll("_", " ")).join(" or ")}`];
  return [1, `this text occurs there, and ${names} are on its two sides (${sides})`];
}
function diagnose(known) {
  const evidence = evidenceOf(known.lines);
  let matches = data.breaks.flatMap(entry => {
    const seen = seenIn(entry.symptoms, evidence);
    const fit = seen.length ? fitOf(entry, known, seen.some(([symptom]) => symptom.specific)) : null;
    return fit ? [{entry, fit: fit[0], why: fit[1], lines: [...new Set(seen.map(([, line]) => line))], length: Math.max(...seen.map(([symptom]) => symptom.text.length))}] : [];
  });
  let others = data.others.flatMap(cause => {
    const seen = seenIn(cause.symptoms, evidence), sure = seen.some(([symptom]) => symptom.specific);
    const texts = seen.filter(([symptom]) => symptom.specific || !sure).map(([symptom]) => symptom.text.length);
    return seen.length ? [{cause, lines: [...new Set(seen.map(([, line]) => line))], sure, length: Math.max(...texts)}] : [];
  });
  [matches, others] = weighed(matches, others);
  matches.sort((a, b) => a.fit - b.fit || (known.pairs.length ? 0 : b.entry.alone - a.entry.alone) || b.length - a.length);
  others.sort((a, b) => b.sure - a.sure || b.length - a.length);
  const fault = faultOf(known, matches, others);
  if (fault === "other") matches = matches.filter(each => each.fit < 2 || each.entry.alone);
  return {fault, matches, others, sentence: sentenceOf(known, fault, matches, others)};
}
function faultOf(known, matches, others) {
  const fits = new Set(matches.map(each => each.fit)), sure = others.some(each => each.sure);
  if (matches.length && matches[0].fit === 0 && matches[0].entry.alone) return "other";
  if (fits.has(0) && sure) return "open";
  if (fits.has(0) || (fits.has(1) && !sure)) return "releases";
  const betweenReleases = matches.some(each => !each.entry.alone);
  if (sure || (known.given && !betweenReleases && (others.length || matches.length))) return "other";
  return fits.size ? "open" : "unknown";
}
function sentenceOf(known, fault, matches, others) {
  const names = [...new Set(known.pairs.flat())].join(" and ");
  if (fault === "releases") return `${matches[0].fit === 0 ? "This is" : "This is most likely"} ${matches[0].entry.id}: ${matches[0].entry.title}.`;
  if (fault === "other") {
    if (matches.length && matches[0].fit === 0) return `Not a version's fault: this is ${matches[0].entry.id}: ${matches[0].entry.title}.`;
    const title = others.length ? others[0].cause.title : matches[0].entry.title;
    return `Not a version's fault, by what is known here: ${title}.${known.given ? ` No break between ${names} shows this text.` : ""}`;
  }
  if (fault === "open" && matches[0].fit === 0)
    return `Two causes show here: ${matches[0].entry.id} (${matches[0].entry.title}), and another that is no version's fault (${others[0].cause.title}). The first line of the rank that failed first decides.`;
  if (fault === "open" && known.pairs.length) return `Versions could be the cause: between ${names} this text occurs where the job uses what follows.`;
  const rest = matches.filter(each => !each.entry.alone);
  if (fault === "open" && matches[0].entry.alone && rest.length)
    return `No version's fault, unless these met: ${[...new Set(rest.flatMap(each => each.entry.sides))].join("; ")}. The usual cause is ${matches[0].entry.id} (${matches[0].entry.title}). Compare torch.__version__ of every rank, then ask again with --from and --to.`;
  if (fault === "open") return "Versions could be the cause, and this text alone doesn't show it: compare torch.__version__ of every rank, then ask again with --from and --to.";
  if (others.length) return `Unknown: no break${known.given ? ` between ${names}` : ""} shows this text, and several other causes do, such as: ${others[0].cause.title}.`;
  return `Unknown: no entry of the catalogue${known.given ? ` between ${names}` : ""} shows this text.`;
}
const EXAMPLES = ["Stop_waiting response is expected", "Connection reset by peer", "Serialized version 1 does not match our current schema version 2", "RuntimeError: Address already in use"];
function search() {
  const log = $("text").value;
  if (!log.trim()) { $("found").replaceChildren(); say(""); return; }
  const wanted = log.trim().toUpperCase(), entry = data.breaks.find(each => each.id === wanted);
  if (entry) { say(`${entry.id} ${entry.title}`); $("found").replaceChildren(el("div", {class: "card"}, el("b", {}, `${entry.id} ${entry.title}`), entryBody(entry))); return; }
  const mine = $("with-mine").checked ? [data.releases[$("old").value], data.releases[$("new").value]] : null;
  const known = material(log, mine), answer = diagnose(known), quote = lines => el("ul", {class: "small soft"}, lines.slice(0, 3).map(line => el("li", {}, el("code", {}, line.slice(0, 200)))));
  say(answer.sentence);
  $("found").replaceChildren(el("div", {class: "card verdict", "data-fault": answer.fault}, answer.sentence,
      known.named.length ? el("p", {class: "small soft"}, `The text names torch ${known.named.join(", ")}.`) : null),
    ...answer.matches.map((match, number) => el("div", {class: "card"}, el("div", {}, el("span", {class: `pill ${["bad", "warn", ""][match.fit]}`}, FITS[match.fit]), " ", el("h3", {}, el("b", {}, `${match.entry.id} ${match.entry.title}`))),
      el("p", {class: "small soft"}, match.why), quote(match.lines), el("div", {class: "fix"}, el("b", {}, "Now: "), match.entry.now),
      number === 0 ? el("details", {class: "more small"}, el("summary", {}, "Everything about this break"), entryBody(match.entry)) : null)),
    ...answer.others.map(other => el("div", {class: "card"}, el("div", {}, el("span", {class: "pill"}, "another cause"), " ", el("h3", {}, el("b", {}, other.cause.title))), quote(other.lines), el("div", {class: "fix"}, el("b", {}, "Check: "), other.cause.check))));
}
function startSearch() {
  $("examples").replaceChildren("Try: ", ...EXAMPLES.map(example => el("button", {type: "button", class: "chip", onclick: () => { $("text").value = example; search(); }}, example)));
  $("text").addEventListener("input", search); $("with-mine").addEventListener("change", search); $("old").addEventListener("change", search); $("new").addEventListener("change", search);
}
