// Rows of features: a slider for each of them.

const features = model.features ?? [];
let row = features.map(({ start }) => start); // exact, where a slider has steps
let rowExample = null;

function askNow() {
  $("#form .caption").textContent = exampleText(rowExample);
  return show(members.map(() => row));
}

function setRow(values, which = null) {
  row = [...values];
  rowExample = which;
  row.forEach((value, i) => setField(i, value));
  tell(askNow());
}

function setField(i, value) {
  const [slider, number] = $("#sliders").children[i].querySelectorAll("input");
  slider.value = value;
  number.value = inField(value);
}

/** A number as a field has room for. */
const inField = (value) => (String(value).length > 10 ? plain(value, 5) : value);

/** A slider, and a field for numbers outside its range. */
function addSlider({ name, low, high, step, start }, i) {
  const line = add($("#sliders"), "div", "slider"), label = add(line, "label", "label", name);
  label.title = name;
  const [slider, number] = ["range", "number"].map((type) => {
    const input = add(line, "input");
    Object.assign(input, { type, step: type === "range" ? step : "any" });
    return input;
  });
  Object.assign(slider, { id: `feature${i}`, min: low, max: high, disabled: low === high });
  label.htmlFor = slider.id;
  number.setAttribute("aria-label", `${name}, as a number`);
  const changed = (value, other, text) => {
    if (!Number.isFinite(value)) return;
    row[i] = value;
    rowExample = null;
    other.value = text;
    askNow();
  };
  slider.addEventListener("input", () => changed(slider.valueAsNumber, number, inField(slider.valueAsNumber)));
  number.addEventListener("input", () => changed(number.valueAsNumber, slider, number.value));
  for (const input of [slider, number]) input.addEventListener("change", () => tell(askNow()));
  number.addEventListener("change", () => number.value || setField(i, row[i])); // cleared: what is still asked
  setField(i, start);
}

function startTable() {
  $("#form").hidden = false;
  $("#seen").hidden = true;
  $("#why canvas").hidden = true;
  features.forEach(addSlider);
  $("#reset").addEventListener("click", () => setRow(features.map(({ start }) => start)));
  const button = $("#form .example");
  button.hidden = !examples;
  button.textContent = model.example;
  button.addEventListener("click", () => {
    const which = nextExample();
    setRow(examples.rows[which], which);
  });
}

// Starting -----------------------------------------------------------------------------------------------------------

/** Answer what is on the page, once more. */
function again() {
  return shape ? drawNow() : askNow();
}

if (shape) startDrawing();
else startTable();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
again();
