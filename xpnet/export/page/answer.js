// The answer in words and bars, what spoke for and against it, and the hidden layers.

const model = JSON.parse(document.getElementById("model").textContent);
const members = model.members.map(unpackedMember);
const numbers = model.task === "regression"; // outputs that no bar can show
const MOST = 10; // as many classes have a bar, and as many features a reason
let chosen = null; // the output that is explained, where it is not the answer, or the first number

const $ = (selector) => document.querySelector(selector);

/** Texts of the model are shown by this alone, so that none of them can be markup. */
function add(parent, tag, className = "", text = "") {
  const element = parent.appendChild(document.createElement(tag));
  element.className = className;
  element.textContent = text;
  return element;
}

const nameOf = (k) => model.classes[k] ?? (model.n_outputs > 1 ? `output ${k}` : "the answer");
const percent = (p) => (Number.isFinite(p) ? `${(100 * p).toFixed(1)} %` : "not a number");

/** A number of so many digits; below 1e9 more, if its whole part has them. */
function plain(value, digits = 4) {
  if (!Number.isFinite(value)) return "not a number";
  const size = Math.abs(value);
  if (size && (size < 1e-3 || size >= 1e9)) return value.toExponential(digits - 2);
  return String(size >= 10 ** digits ? Math.round(value) : Number(value.toPrecision(digits)));
}

const shown = (value) => (model.percent ? percent(value) : plain(value));

/** The outputs as words: what is sure of them, the name, and the value. */
function words(outputs) {
  const all = Array.from(outputs), best = all.indexOf(Math.max(...all));
  if (numbers) {
    if (all.length === 1) return { unsure: "", name: shown(all[0]), value: model.classes[0] ?? "" };
    return { unsure: "", name: all.map((value, k) => `${nameOf(k)} ${shown(value)}`).join(", "), value: "" };
  }
  if (model.task === "multilabel") {
    const names = all.flatMap((value, k) => (value > 0.5 ? [nameOf(k)] : []));
    return { unsure: "", name: names.join(", ") || "none", value: "" };
  }
  if (best < 0) return { unsure: "", name: "not a number", value: "" };
  const unsure = model.unsure !== null && !(all[best] >= model.unsure) ? "unsure, perhaps" : "";
  return { unsure, name: nameOf(best), value: `${model.percent ? "" : "output "}${shown(all[best])}` };
}

/** The outputs that can be chosen, in their order: numbers where there are several; classes, of many the largest. */
function listed(outputs) {
  const all = Array.from(outputs, (_, k) => k);
  if (numbers) return all.length > 1 ? all : [];
  return all.length <= MOST ? all : all.sort((a, b) => outputs[b] - outputs[a] || a - b).slice(0, MOST);
}

const nothing = { traces: members.map(({ layers }) => ({
  hidden: layers.slice(0, -1).map(({ b }) => ({ h: new Float64Array(b.length) })),
})), outputs: new Float64Array(model.n_outputs) };

/** Ask the network, and show all that it says.   inputs : what each member takes; null for nothing. */
function show(inputs, seen = null) {
  document.body.classList.toggle("empty", !inputs);
  if (!inputs) chosen = null;
  const { traces, outputs } = inputs ? answered(members, inputs) : nothing;
  const said = inputs ? words(outputs) : { unsure: "", name: "", value: "" };
  for (const part of ["unsure", "name", "value"]) $(`#${part}`).textContent = said[part];
  $("#said").classList.toggle("long", said.name.length > 3);
  $("#said").classList.toggle("longer", said.name.length > 14);
  const best = numbers ? -1 : outputs.indexOf(outputs.reduce((a, b) => Math.max(a, b), -Infinity));
  const k = chosen ?? Math.max(0, best);
  paintBars(outputs, inputs ? k : -1, inputs ? best : -1);
  const given = inputs ? contributions(members, traces, k) : null;
  if (model.picture) paintMaps(seen, given);
  else paintReasons(given);
  paintBalance(given, k);
  paintLayers(traces);
  return said;
}

/** Tell a screen reader, when a stroke is done and not at every point of it. */
function tell({ unsure, name, value }) {
  $("#live").textContent = [unsure, name, value].filter(Boolean).join(" ") || "the paper is empty";
}

function paintBars(outputs, k, best) {
  const bars = $("#bars"), order = listed(outputs);
  while (bars.children.length < order.length) {
    const button = add(add(bars, "li"), "button");
    button.type = "button";
    for (const part of ["label", "track", "value"]) add(button, "span", part);
    add(button.children[1], "i");
    button.children[1].hidden = numbers;
    button.addEventListener("click", () => {
      chosen = chosen === Number(button.value) ? null : Number(button.value);
      again();
    });
  }
  order.forEach((each, row) => {
    const button = bars.children[row].firstChild, [label, track, value] = button.children;
    button.value = each;
    label.textContent = label.title = nameOf(each);
    value.textContent = k < 0 ? "" : shown(outputs[each]);
    track.firstChild.style.width = k < 0 ? "0" : `${100 * Math.min(1, Math.max(0, outputs[each] || 0))}%`;
    button.classList.toggle("best", each === best);
    button.setAttribute("aria-pressed", String(each === k));
    button.disabled = k < 0;
  });
}

// Painting -----------------------------------------------------------------------------------------------------------

/** The red, green and blue of one of the page's colours. */
function colour(name) {
  const text = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  return [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
}

/** A canvas of one pixel for each number, transparent at 0, in one colour above and in another below. */
function paintSigned(canvas, values, most, height, width) {
  const plus = colour("for"), minus = colour("against"), image = new ImageData(width, height);
  values.forEach((value, i) => {
    const opacity = Math.round(255 * Math.sqrt(Math.abs(value) / most)); // the root, so that small ones are seen
    image.data.set([...(value > 0 ? plus : minus), opacity], 4 * i);
  });
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(image, 0, 0);
}

const largest = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;

function paintMaps(seen, given) {
  const { height, width } = model.picture, canvas = $("#seen canvas"), image = new ImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    const grey = seen ? Math.round(255 * seen[i]) : 0;
    image.data.set([grey, grey, grey, 255], 4 * i);
  }
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(image, 0, 0);
  const values = given ?? new Float64Array(height * width);
  paintSigned($("#why canvas"), values, largest(values), height, width);
}

function paintReasons(given) {
  const list = $("#reasons"), most = largest(given);
  const order = Array.from(given, (_, i) => i).sort((a, b) => Math.abs(given[b]) - Math.abs(given[a])).slice(0, MOST);
  list.replaceChildren();
  for (const i of order) {
    const row = add(list, "li", given[i] < 0 ? "against" : "for");
    add(row, "span", "label", model.features[i].name).title = model.features[i].name;
    const bar = add(add(row, "span", "track"), "i"), share = 50 * Math.abs(given[i]) / most;
    bar.style.width = `${share}%`;
    bar.style.left = given[i] < 0 ? `${50 - share}%` : "50%";
    add(row, "span", "value", given[i] ? `${given[i] < 0 ? "−" : "+"}${plain(Math.abs(given[i]), 3)}` : "0");
  }
}

function paintBalance(given, k) {
  const did = numbers ? "raised and lowered" : "spoke for and against", one = numbers && model.n_outputs === 1;
  $("#why figcaption").textContent = `What ${did} ${one || !given ? "it" : nameOf(k)}`;
  $("#why canvas").setAttribute("aria-label", $("#why figcaption").textContent);
  const all = given ? given.reduce((sum, value) => sum + Math.abs(value), 0) : 0;
  const plus = all ? given.reduce((sum, value) => sum + Math.max(0, value), 0) / all : 0;
  const note = $("#balance");
  note.replaceChildren();
  if (!all) return;
  const [up, down] = numbers ? ["up", "down"] : ["for", "against"];
  add(note, "span", "for", `${up} ${Math.round(100 * plus)} %`);
  note.append(", ");
  add(note, "span", "against", `${down} ${100 - Math.round(100 * plus)} %`);
  note.append(`: every ${model.picture ? "pixel" : "feature"} times its gradient`);
}

function paintLayers(traces) {
  const parent = $("#layers"), layers = traces.flatMap(({ hidden }, m) => hidden.map(({ h }, l) => ({ h, m, l })));
  while (parent.children.length < layers.length) {
    const figure = add(parent, "figure");
    add(figure, "figcaption");
    add(figure, "canvas").setAttribute("role", "img");
  }
  layers.forEach(({ h, m, l }, i) => {
    const [caption, canvas] = parent.children[i].children, most = largest(h);
    const columns = Math.ceil(Math.sqrt(2 * h.length)), rows = Math.ceil(h.length / columns);
    const active = h.reduce((n, value) => n + (value > 0), 0);
    const which = members.length > 1 ? `Network ${m + 1}, layer ${l + 1}` : `Hidden layer ${l + 1}`;
    caption.textContent = `${which}: ${active} of ${h.length} units above 0`;
    canvas.setAttribute("aria-label", caption.textContent);
    canvas.style.width = `${24 * columns}px`;
    paintSigned(canvas, h, most, rows, columns);
  });
}

// The words around them ----------------------------------------------------------------------------------------------

$("#title").textContent = document.title = model.title;
$("#about").textContent = model.about;
$("#colophon").textContent = model.colophon;
const few = model.n_outputs <= MOST ? "" :
  `The ${MOST} ${model.percent ? "most probable" : "largest"} of ${model.n_outputs} are shown. `;
$("#choose").textContent = !numbers ? `${few}Choose a bar to see what spoke for it and against.` :
  model.n_outputs > 1 ? "Choose a number to see what raised and lowered it." : "";
