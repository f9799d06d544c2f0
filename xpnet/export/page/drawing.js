// Drawing: strokes are kept as points and inked by our own arithmetic. No pixel is read back from a canvas, since some
// browsers add noise to those, against being recognised.

/** Strokes {points}, examples {example} and clearings {}, in their order: what undo takes back one by one. */
let items = [];
let pen = null; // the pointer that draws
let key = null; // the pen that the arrow keys move: {x, y, down}

const paper = $("#paper"), shape = model.picture;
const unit = shape && LONG / Math.max(shape.height, shape.width);
const tall = shape && Math.round(unit * shape.height), wide = shape && Math.round(unit * shape.width);

/** What is on the paper: the example that lies beneath, if any, and the strokes. */
function onPaper() {
  const from = items.findLastIndex((item) => !item.points), below = items[from]?.example;
  return { example: below ?? null, strokes: items.slice(from + 1).map((item) => item.points) };
}

/** The share of white at each pixel that the network is to see; null for nothing. */
function seenNow() {
  const { example, strokes } = onPaper(), below = example === null ? null : pictures[example];
  if (below && !strokes.length) return below;
  const mask = inked(strokes, tall, wide);
  if (below && shape.form !== "as-is") inkBelow(mask, below);
  const bytes = fit(mask, shape.form, shape.height, shape.width);
  if (!bytes) return null;
  const drawn = Float64Array.from(bytes, (value) => value / 255);
  return below && shape.form === "as-is" ? drawn.map((value, i) => Math.max(value, below[i])) : drawn;
}

/** Ink wherever an example is more white than black, enlarged smoothly. */
function inkBelow(mask, image) {
  const { height, width } = shape;
  const at = (y, x) => (y < 0 || x < 0 || y >= height || x >= width ? 0 : image[y * width + x]);
  for (let i = 0; i < mask.ink.length; i++) {
    const y = (Math.floor(i / wide) + 0.5) / unit - 0.5, x = (i % wide + 0.5) / unit - 0.5;
    const top = Math.floor(y), left = Math.floor(x), dy = y - top, dx = x - left;
    const above = at(top, left) * (1 - dx) + at(top, left + 1) * dx;
    const under = at(top + 1, left) * (1 - dx) + at(top + 1, left + 1) * dx;
    if (above * (1 - dy) + under * dy > 0.5) mask.ink[i] = 1;
  }
}

/** What each network takes: shares of white, or bytes where it was not trained on pixels. */
const inputsOf = (seen) => members.map(({ white }) => (white ? seen : seen.map((value) => 255 * value)));

function drawNow() {
  const seen = seenNow();
  paintPaper();
  $("#sheet").classList.toggle("keyed", key !== null);
  enable($("#undo"), items.length > 0);
  enable($("#clear"), seen !== null);
  $("#drawing .caption").textContent = exampleText(seen && onPaper().example);
  return show(seen && inputsOf(seen), seen);
}

/** A button that is disabled cannot keep the focus, which would fall to the page's beginning: the paper takes it. */
function enable(button, can) {
  if (!can && document.activeElement === button) paper.focus({ preventScroll: true });
  button.disabled = !can;
}

function paintPaper() {
  const scale = Math.max(1, Math.round(paper.clientWidth * devicePixelRatio)) / wide;
  paper.width = Math.round(wide * scale);
  paper.height = Math.round(tall * scale);
  const context = paper.getContext("2d"), { example, strokes } = onPaper(), ink = colour("ink");
  context.scale(scale, scale);
  if (example !== null) {
    const below = document.createElement("canvas"), image = new ImageData(shape.width, shape.height);
    [below.width, below.height] = [shape.width, shape.height];
    pictures[example].forEach((value, i) => image.data.set([...ink, Math.round(255 * value)], 4 * i));
    below.getContext("2d").putImageData(image, 0, 0);
    context.drawImage(below, 0, 0, wide, tall);
  }
  context.strokeStyle = context.fillStyle = `rgb(${ink})`;
  context.lineWidth = 2 * PEN;
  context.lineCap = context.lineJoin = "round";
  for (const points of strokes) {
    context.beginPath();
    points.forEach(([x, y]) => context.lineTo(x, y));
    if (points.length === 1) context.lineTo(points[0][0], points[0][1] + 1e-3);
    context.stroke();
  }
  if (!key) return;
  context.lineWidth = 2;
  context.strokeStyle = `rgb(${colour(key.down ? "accent" : "doubt")})`;
  context.beginPath();
  context.arc(key.x, key.y, PEN + 2, 0, 7);
  context.stroke();
}

// By hand ------------------------------------------------------------------------------------------------------------

/** A pointer's place on the paper, in its pixels. */
function placeOf(event) {
  const box = paper.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width * wide, (event.clientY - box.top) / box.height * tall];
}

function penDown(event) {
  if (pen !== null || event.button) return;
  pen = event.pointerId;
  paper.setPointerCapture(pen);
  key = null;
  items.push({ points: [placeOf(event)] });
  soon();
}

function penMoved(event) {
  if (event.pointerId !== pen) return;
  const moves = event.getCoalescedEvents?.() ?? [];
  items.at(-1).points.push(...(moves.length ? moves : [event]).map(placeOf));
  soon();
}

function penUp(event) {
  if (event.pointerId !== pen) return;
  pen = null;
  tell(drawNow());
}

// By keys ------------------------------------------------------------------------------------------------------------

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function keyed(event) {
  const arrow = ARROWS[event.key], control = event.ctrlKey || event.metaKey;
  const back = event.key === "Backspace" || (control && event.key === "z");
  if (event.altKey || (arrow && control)) return; // the browser's own, such as back and forward
  if (!arrow && !back && event.key !== " " && event.key !== "Escape") return;
  event.preventDefault();
  if (back) return undo();
  if (event.key === "Escape") return clear();
  key ??= { x: wide / 2, y: tall / 2, down: false };
  if (arrow) {
    const step = event.shiftKey ? 28 : 7;
    key.x = Math.min(wide - PEN, Math.max(PEN, key.x + step * arrow[0]));
    key.y = Math.min(tall - PEN, Math.max(PEN, key.y + step * arrow[1]));
    if (key.down) items.at(-1).points.push([key.x, key.y]);
  } else {
    key.down = !key.down;
    if (key.down) items.push({ points: [[key.x, key.y]] });
  }
  const said = drawNow();
  if (!arrow && key.down) $("#live").textContent = "pen down";
  else if (!arrow) tell(said);
}

function lift() {
  pen = null;
  if (key) key.down = false;
}

function undo() {
  lift();
  items.pop();
  tell(drawNow());
}

function clear() {
  lift();
  if (seenNow()) items.push({});
  tell(drawNow());
}

// Examples -----------------------------------------------------------------------------------------------------------

const examples = model.examples;
const pictures = shape && examples ? unpackedPictures(examples) : [];
let example = -1; // the one that was shown last

/** Pictures from runs: how many zeros, how many other values, these values, and so on. */
function unpackedPictures({ n, white, pixels }) {
  const runs = bytes(pixels), size = shape.height * shape.width, all = new Float64Array(n * size);
  for (let i = 0, at = 0; i < runs.length; i += 2 + runs[i + 1]) {
    at += runs[i];
    for (let j = 0; j < runs[i + 1]; j++) all[at++] = runs[i + 2 + j] / white;
  }
  return Array.from({ length: n }, (_, i) => all.slice(i * size, (i + 1) * size));
}

function exampleText(which) {
  if (which === null || which === undefined || which < 0) return "";
  const label = examples.labels?.[which];
  return `${model.split} example ${examples.indices[which]}${label === undefined ? "" : `, labelled ${label}`}`;
}

function nextExample() {
  example = (example + 1) % examples.n;
  return example;
}

let waiting = false;

/** Answer before the next picture of the screen, however many events come until then. */
function soon() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    again();
  });
}

function startDrawing() {
  $("#drawing").hidden = false;
  document.body.style.setProperty("--ratio", wide / tall);
  paper.addEventListener("pointerdown", penDown);
  paper.addEventListener("pointermove", penMoved);
  paper.addEventListener("pointerup", penUp);
  paper.addEventListener("pointercancel", penUp);
  paper.addEventListener("keydown", keyed);
  paper.addEventListener("blur", () => {
    key = null;
    soon();
  });
  $("#undo").addEventListener("click", undo);
  $("#clear").addEventListener("click", clear);
  const button = $("#drawing .example");
  button.hidden = !pictures.length;
  button.textContent = model.example;
  button.addEventListener("click", () => {
    lift();
    items.push({ example: nextExample() });
    tell(drawNow());
  });
  new ResizeObserver(soon).observe(paper);
}
