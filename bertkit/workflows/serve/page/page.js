"use strict";
// The page of bertkit serve: one form for the model's kind of problem, one picture of its answer. Nothing else is loaded.

const PLACES = 8; // Bars shown before "show all".
const EXAMPLES = {
  one: [["The staff were kind and the room was spotless, but breakfast was cold."], ["My card has not arrived yet. Where is it?"]],
  pair: [["A man is playing a guitar on stage.", "Somebody makes music."], ["The meeting was moved to Friday.", "The meeting is on Monday."]],
  tagging: [["Angela Merkel met Barack Obama in Berlin while visiting the United Nations ."], ["Ada Lovelace was born in London ."]],
  span_qa: [
    ["Where was the treaty signed?", "The treaty was signed in Utrecht in April 1713, after more than a year of talks. It ended a war that had lasted since 1701."],
    ["Who wrote the first program?", "Charles Babbage designed the Analytical Engine. Ada Lovelace wrote what is often called the first program, in 1843."],
  ],
  multiple_choice: [["He filled the kettle and lit the stove. Then he", ["waited for the water to boil.", "drove the stove to work.", "ate the kettle."]]],
  fill_mask: [["The cat sat on the [MASK]."], ["She opened the [MASK] and walked into the room."]],
};

const $ = (id) => document.getElementById(id);
const model = { info: null, kind: "", shown: 0, originals: [] };

/** An element with properties and children; text stays text. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

const percent = (share) => (share >= 0.9995 ? "100 %" : share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`);
const words = (name) => name.replace(/_/g, " ");
const spoken = (name) => ({ text_pair: "Second text, if there is one" })[name] || words(name[0].toUpperCase() + name.slice(1));
const field = (name) => $(`field-${name}`);

async function begin() {
  try {
    const response = await fetch("/api/info");
    if (!response.ok) throw new Error(response.status);
    model.info = await response.json();
  } catch {
    return fail("The server does not answer: is bertkit serve still running?");
  }
  const { info } = model;
  const plain = ["classification", "regression", "multi_label"].includes(info.problem);
  model.kind = plain ? (info.fields.length > 1 ? "pair" : "one") : info.problem;
  const name = info.model.replace(/[/\\]+$/, "").split(/[/\\]/).pop();
  $("model").textContent = name;
  $("about").textContent = about(info) + (name === info.model ? "" : ` · ${info.model}`);
  $("version").textContent = `bertkit ${info.bertkit}`;
  document.title = `${name} · bertkit`;
  (FORMS[model.kind] || FORMS.one)();
  $("form").addEventListener("input", inputsChanged);
  $("send").disabled = $("example").disabled = false;
  inputsChanged();
  $("fields").querySelector("textarea, input").focus();
}

function about(info) {
  const does = {
    classification: () => `Chooses one of ${info.labels.length} labels`, regression: () => "Predicts a number",
    multi_label: () => `Chooses any of ${info.labels.length} labels`, tagging: () => "Labels every word",
    span_qa: () => "Answers a question from its context", multiple_choice: () => "Picks the choice that fits best",
    fill_mask: () => "Guesses the words that are masked",
  };
  return `${does[info.problem]()} · reads ${info.max_seq_length} tokens at a time`;
}

// ---- forms ----

function addText(name, caption, { rows = 4, placeholder = "" } = {}) {
  const box = make(rows > 1 ? "textarea" : "input", { id: `field-${name}`, placeholder, spellcheck: false });
  if (rows > 1) box.rows = rows;
  $("fields").append(make("label", { htmlFor: box.id, textContent: caption }), box);
  return box;
}

const FORMS = {
  one: () => addText("text", "Text", { placeholder: EXAMPLES.one[0][0] }),
  pair: () => model.info.fields.forEach((name, n) => addText(name, spoken(name), { rows: 3, placeholder: EXAMPLES.pair[0][n] })),
  tagging: () => addText("text", "Text, with blanks between words", { placeholder: EXAMPLES.tagging[0][0] }),
  span_qa: () => {
    addText("question", "Question", { rows: 1, placeholder: EXAMPLES.span_qa[0][0] });
    addText("context", "Context", { rows: 7, placeholder: EXAMPLES.span_qa[0][1] });
  },
  multiple_choice: () => {
    addText("context", "Context", { rows: 3, placeholder: EXAMPLES.multiple_choice[0][0] });
    const add = make("button", { type: "button", className: "plain", textContent: "Add a choice" });
    add.addEventListener("click", () => addChoice("").focus());
    $("fields").append(make("p", { className: "caption", textContent: "Choices" }), make("div", { id: "choices" }), add);
    EXAMPLES.multiple_choice[0][1].slice(0, 2).forEach((choice) => addChoice("", choice));
  },
  fill_mask: () => {
    const mask = model.info.mask_token;
    const box = addText("text", "Text", { rows: 3, placeholder: EXAMPLES.fill_mask[0][0].replace("[MASK]", mask) });
    const strip = make("div", { id: "words", className: "words", hidden: true });
    strip.setAttribute("role", "group");
    strip.setAttribute("aria-labelledby", "words-caption");
    const caption = make("p", { id: "words-caption", className: "caption", hidden: true, textContent: "Click a word to mask it" });
    $("fields").append(caption, strip);
    box.addEventListener("input", () => { model.originals = []; showWords(); });
  },
};

function addChoice(text, placeholder = "") {
  const box = make("input", { value: text, placeholder, spellcheck: false });
  const remove = make("button", { type: "button", className: "plain", textContent: "×" });
  const row = make("div", { className: "choice" }, box, remove);
  remove.addEventListener("click", () => removeChoice(row));
  $("choices").append(row);
  numberChoices();
  return box;
}

/** Takes a choice away, or empties it where two are left; the focus stays where it was. */
function removeChoice(row) {
  if ($("choices").children.length > 2) {
    const next = row.nextElementSibling || row.previousElementSibling;
    row.remove();
    numberChoices();
    next.lastChild.focus();
  } else {
    row.firstChild.value = "";
    row.firstChild.focus();
  }
  inputsChanged();
}

function numberChoices() {
  [...$("choices").children].forEach((row, n) => {
    row.firstChild.ariaLabel = `Choice ${n + 1}`;
    row.lastChild.ariaLabel = `Remove choice ${n + 1}`;
  });
}

/** What would be sent. */
function inputs() {
  if (model.kind === "span_qa") return { question: field("question").value, context: field("context").value };
  if (model.kind === "pair" && model.info.fields[1] === "text_pair" && !field("text_pair").value.trim()) return field("text").value;
  if (model.kind === "pair") return Object.fromEntries(model.info.fields.map((name) => [name, field(name).value]));
  if (model.kind !== "multiple_choice") return field("text").value;
  const choices = [...$("choices").querySelectorAll("input")].map((box) => box.value).filter((text) => text.trim());
  return { context: field("context").value, choices };
}

function showExample() {
  const known = EXAMPLES[model.kind];
  const example = known[model.shown++ % known.length];
  if (model.kind === "multiple_choice") {
    field("context").value = example[0];
    $("choices").replaceChildren();
    example[1].forEach((choice) => addChoice(choice));
  } else {
    const names = ["pair", "span_qa"].includes(model.kind) ? model.info.fields : ["text"];
    names.forEach((name, n) => { field(name).value = example[n].replace("[MASK]", model.info.mask_token || "[MASK]"); });
  }
  model.originals = [];
  if (model.kind === "fill_mask") showWords();
  inputsChanged();
  send();
}

/** Shows how a program would ask the same; there is something new to ask. */
function inputsChanged() {
  $("send").removeAttribute("aria-disabled");
  const quoted = JSON.stringify({ inputs: inputs() }).replace(/'/g, "'\\''");
  $("command").textContent = `curl ${location.origin}/api/predict \\\n  -H 'Content-Type: application/json' \\\n  -d '${quoted}'`;
}

// ---- masks ----

/** Pieces of the text: masks, words, and what stands between. */
function pieces(text) {
  const mask = model.info.mask_token.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return text.match(new RegExp(`${mask}|[\\p{L}\\p{N}][\\p{L}\\p{M}\\p{N}'’]*|[^\\p{L}\\p{N}]`, "gu")) || [];
}

function showWords() {
  const mask = model.info.mask_token;
  const parts = pieces(field("text").value);
  $("words").hidden = $("words-caption").hidden = !parts.some((part) => part !== mask && /[\p{L}\p{N}]/u.test(part));
  let masks = 0;
  $("words").replaceChildren(...parts.map((part, place) => {
    const isMask = part === mask;
    if (!isMask && !/[\p{L}\p{N}]/u.test(part)) return document.createTextNode(part);
    const ordinal = masks;
    if (isMask) masks += 1;
    const button = make("button", { type: "button", textContent: part, ariaPressed: String(isMask) });
    button.addEventListener("click", () => toggleMask(parts, place, ordinal));
    return button;
  }));
}

/** Masks a word, or puts back the one that stood there. */
function toggleMask(parts, place, ordinal) {
  const mask = model.info.mask_token;
  if (parts[place] === mask) {
    parts[place] = model.originals.splice(ordinal, 1)[0] || "";
  } else {
    model.originals.splice(ordinal, 0, parts[place]);
    parts[place] = mask;
  }
  setText(parts.join(""), place);
}

function fillMask(ordinal, word) {
  const parts = pieces(field("text").value);
  const places = parts.flatMap((part, place) => (part === model.info.mask_token ? [place] : []));
  const place = places[ordinal];
  // What goes on with a word stands close to it.
  const close = word.startsWith("##") && place > 0;
  if (close) parts[place - 1] = parts[place - 1].trimEnd();
  parts[place] = word.replace(/^##/, "");
  model.originals.splice(ordinal, 1);
  setText(parts.join(""), close ? undefined : place);
}

function setText(text, place) {
  field("text").value = text;
  showWords();
  inputsChanged();
  const button = place === undefined ? null : $("words").childNodes[place];
  (button && button.focus ? button : field("text")).focus();
  if (text.includes(model.info.mask_token)) return send();
  stopAsking();
  $("result").replaceChildren();
}

// ---- asking ----

let asking = new AbortController();

/** Forgets what was asked and is not answered yet. */
function stopAsking() {
  asking.abort();
  asking = new AbortController();
  $("result").removeAttribute("aria-busy");
  $("send").removeAttribute("aria-disabled");
}

async function send() {
  stopAsking();
  const mine = asking;
  $("error").hidden = true;
  $("result").setAttribute("aria-busy", "true");
  // A button that is disabled would lose the focus.
  $("send").setAttribute("aria-disabled", "true");
  const body = JSON.stringify({ inputs: inputs() });
  const sent = inputs();
  try {
    const response = await fetch("/api/predict", { method: "POST", headers: { "Content-Type": "application/json" }, body, signal: mine.signal });
    const reply = await response.json();
    if (mine !== asking) return;
    if (!response.ok) fail(sentence(reply.error));
    else $("result").replaceChildren(...ANSWERS[model.info.problem](reply.outputs, sent), ...cut(reply.outputs));
  } catch {
    if (mine === asking) fail("The server does not answer: is bertkit serve still running?");
  } finally {
    if (mine === asking) stopAsking();
  }
}

/** An error of the API as a person says it: without the name of the field in front. */
function sentence(error) {
  const names = { "inputs.text": "The text", "inputs.question": "The question", "inputs.context": "The context", inputs: "The text" };
  const said = error.replace(/^inputs(\.\w+)?/, (name) => names[name] || `The ${words(name.slice(7))}`);
  return said[0].toUpperCase() + said.slice(1) + ".";
}

function fail(text) {
  $("result").replaceChildren();
  $("error").textContent = text;
  $("error").hidden = false;
}

const cut = (output) => (output.is_cut
  ? [make("p", { className: "quiet", textContent: `The text is longer than the ${model.info.max_seq_length} tokens the model reads: the rest was left out.` })]
  : []);

// ---- answers ----

/** Bars for [name, share, options]; best: how a row is told to be the chosen one. */
function bars(rows) {
  const list = make("ol", { className: "bars" });
  for (const { name, share, best = false, edge = null, yours = false, onClick = null } of rows) {
    const label = onClick ? make("button", { type: "button", textContent: name, onclick: onClick, title: "Put it in" }) : name;
    const fill = make("span", { className: "fill" });
    fill.style.width = `${100 * share}%`;
    const track = make("span", { className: "track", ariaHidden: "true" }, fill);
    if (edge !== null) {
      const line = make("span", { className: "edge", title: `counts from ${percent(edge)}` });
      line.style.left = `${100 * edge}%`;
      track.append(line);
    }
    list.append(make("li", { className: best ? "best" : "" },
      make("span", { className: yours ? "name yours" : "name" }, label), track,
      make("span", { className: "value", textContent: percent(share) })));
  }
  return list;
}

/** The first bars, and a button for the rest. */
function someBars(rows) {
  if (rows.length <= PLACES + 2) return [bars(rows)];
  const more = make("button", { type: "button", className: "plain", textContent: `Show all ${rows.length}` });
  const list = bars(rows.slice(0, PLACES));
  more.addEventListener("click", () => {
    const all = bars(rows);
    list.replaceWith(all);
    more.remove();
    all.children[PLACES].tabIndex = -1;
    all.children[PLACES].focus();
  });
  return [list, more];
}

const byShare = (shares) => Object.entries(shares).sort((a, b) => b[1] - a[1]).map(([name, share]) => ({ name, share }));
const answer = (text) => make("p", { className: "answer", textContent: text });
const title = (text) => make("h2", { textContent: text });

const ANSWERS = {
  classification: (output) => [
    answer(String(output.prediction)),
    ...someBars(byShare(output.probabilities).map((row) => ({ ...row, best: row.name === output.prediction }))),
  ],
  multi_label: (output) => [
    answer(output.prediction.length ? output.prediction.join(", ") : "None of the labels"),
    ...someBars(byShare(output.probabilities).map((row) => ({
      ...row, best: output.prediction.includes(row.name), edge: model.info.thresholds[model.info.labels.indexOf(row.name)],
    }))),
  ],
  regression: (output) => [answer(output.prediction.toLocaleString("en", { maximumFractionDigits: 3 }))],
  tagging: (output, sent) => (output.entities ? entities(output, sent) : [tags(output)]),
  span_qa: (output, sent) => [
    answer(output.prediction || "No answer"),
    make("p", { className: "quiet", textContent: output.prediction ? `probability ${percent(output.probability)}` : "The context does not say, by the model." }),
    title("Where it stands"),
    make("div", { className: "card reading" }, ...marked(sent.context, output.prediction ? [output] : [])),
    title("Answers it weighed"),
    bars(output.probabilities.map((each) => ({ name: each.text || "no answer", share: each.probability, best: each.text === output.prediction }))),
  ],
  multiple_choice: (output, sent) => [
    answer(output.choice),
    bars(output.probabilities.map((share, number) => ({ name: sent.choices[number], share, best: number === output.prediction }))),
  ],
  fill_mask: (output, sent) => [
    make("div", { className: "card reading" }, ...marked(sent, output.masks, (mark, each) => { mark.textContent = each.words[0].word; })),
    ...output.masks.flatMap((mask, ordinal) => [
      title(output.masks.length > 1 ? `${model.info.mask_token} ${ordinal + 1}` : "What may stand there"),
      bars(mask.words.map(({ word, probability }, n) => ({
        name: word, share: probability, best: n === 0, onClick: () => fillMask(ordinal, word),
        yours: (model.originals[ordinal] || "").toLowerCase() === word.toLowerCase(),
      }))),
    ]),
  ],
};

/** The text with spans marked; places count characters, as Python does, and not half characters. */
function marked(text, spans, decorate = () => null) {
  const characters = Array.from(text);
  const nodes = [];
  let done = 0;
  for (const span of spans) {
    nodes.push(characters.slice(done, span.start).join(""));
    const mark = make("mark", {}, characters.slice(span.start, span.end).join(""));
    decorate(mark, span);
    nodes.push(mark);
    done = span.end;
  }
  return [...nodes, characters.slice(done).join("")];
}

function entities(output, sent) {
  const kinds = [...new Set(model.info.labels.map((label) => label.replace(/^[A-Z]-/, "")))].filter((kind) => kind !== "O").sort();
  const colour = (label) => `c${Math.max(0, kinds.indexOf(label)) % 8}`;
  const text = make("div", { className: "card reading" }, ...marked(sent, output.entities, (mark, entity) => {
    mark.className = colour(entity.label);
    mark.title = percent(entity.probability);
    mark.append(make("small", { textContent: entity.label }));
  }));
  if (!output.entities.length) return [text, make("p", { className: "quiet", textContent: "No entity was found." })];
  const rows = output.entities.map((entity) => ({ name: `${entity.text} · ${entity.label}`, share: entity.probability }));
  return [text, title("How sure it is"), ...someBars(rows)];
}

function tags(output) {
  return make("div", { className: "card" }, ...output.tokens.map((token, n) =>
    make("span", { className: "tagged", title: percent(output.probabilities[n]) }, token, make("small", { textContent: output.prediction[n] }))));
}

/** Asks, unless the same is asked already. */
function sendOnce(event) {
  event.preventDefault();
  if (model.info && $("send").getAttribute("aria-disabled") !== "true") send();
}

$("form").addEventListener("submit", sendOnce);
$("form").addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) sendOnce(event); });
$("example").addEventListener("click", showExample);
begin();
