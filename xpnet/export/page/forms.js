// From strokes to the picture that the network was trained on: what xpnet/data/pictures/forms.py does, bit by bit.
// Sums are of whole numbers below 2^53, and all else is one operation of float64 at a time, in the same order as there.

const LONG = 280; // the longest side of the paper, in its own pixels
const PEN = 10; // the radius of the pen
const BOX = { mnist: 20 / 28, emnist: 24 / 28 };
const WIDTH = 0.1; // least width of a stroke over the digit's longest side
const SOFT = 0.01; // deviation of EMNIST's blur over the digit's longest side

/** Half to even, as Python rounds. */
function rint(x) {
  const up = Math.round(x);
  return up - x === 0.5 && up % 2 ? up - 1 : up;
}

function maskOf(height, width) {
  return { height, width, ink: new Uint8Array(height * width) };
}

/** All pixels whose centres are within the pen's radius of a stroke.   strokes : lists of points [x, y]. */
function inked(strokes, height, width) {
  const mask = maskOf(height, width);
  for (const points of strokes)
    for (let i = 0; i < points.length; i++) stamp(mask, points[Math.max(0, i - 1)], points[i]);
  return mask;
}

function stamp({ height, width, ink }, [ax, ay], [bx, by]) {
  const dx = bx - ax, dy = by - ay, length = dx * dx + dy * dy;
  const top = Math.max(0, Math.floor(Math.min(ay, by) - PEN)), bottom = Math.min(height, Math.max(ay, by) + PEN);
  const left = Math.max(0, Math.floor(Math.min(ax, bx) - PEN)), right = Math.min(width, Math.max(ax, bx) + PEN);
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      const px = x + 0.5 - ax, py = y + 0.5 - ay;
      const t = length ? Math.min(1, Math.max(0, (px * dx + py * dy) / length)) : 0;
      const ex = px - t * dx, ey = py - t * dy;
      if (ex * ex + ey * ey <= PEN * PEN) ink[y * width + x] = 1;
    }
  }
}

/** The box around the ink; null where there is none. */
function boxOf({ height, width, ink }) {
  let top = height, bottom = 0, left = width, right = 0;
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      if (!ink[i]) continue;
      if (y < top) top = y;
      bottom = y + 1;
      if (x < left) left = x;
      if (x >= right) right = x + 1;
    }
  }
  return bottom ? { top, bottom, left, right } : null;
}

/** What lies in a box, with an empty border of so many pixels. */
function cut(mask, { top, bottom, left, right }, border) {
  const found = maskOf(bottom - top + 2 * border, right - left + 2 * border);
  for (let y = top; y < bottom; y++) {
    const row = mask.ink.subarray(y * mask.width + left, y * mask.width + right);
    found.ink.set(row, (y - top + border) * found.width + border);
  }
  return found;
}

/** The length of the outline of a mask, whose border is empty: how much its blurred picture changes, all in all. */
function perimeter({ height, width, ink }) {
  const along = new Int16Array(ink.length), soft = new Int16Array(ink.length); // blurred by [1 2 1], 16 times too much
  for (let i = 1; i < ink.length - 1; i++) along[i] = ink[i - 1] + 2 * ink[i] + ink[i + 1];
  for (let i = width; i < ink.length - width; i++) soft[i] = along[i - width] + 2 * along[i] + along[i + width];
  let sum = 0;
  for (let y = 1; y < height - 1; y++) {
    for (let i = y * width + 1; i < (y + 1) * width - 1; i++) {
      const dx = soft[i + 1] - soft[i - 1], dy = soft[i + width] - soft[i - width];
      if (dx || dy) sum += Math.floor(2 ** 15 * Math.sqrt(dx * dx + dy * dy) + 0.5);
    }
  }
  return sum / 2 ** 20;
}

/** The mask, whose border is empty, and all within radius pixels of it: crosses and squares in turn. */
function widened(mask, radius) {
  let { ink } = mask;
  const w = mask.width;
  for (let n = 0; n < radius; n++) {
    const wider = ink.slice();
    for (let i = w + 1; i < ink.length - w - 1; i++) {
      if (ink[i]) continue;
      if (ink[i - 1] | ink[i + 1] | ink[i - w] | ink[i + w]) wider[i] = 1;
      else if (n % 2) wider[i] = ink[i - w - 1] | ink[i - w + 1] | ink[i + w - 1] | ink[i + w + 1];
    }
    ink = wider;
  }
  return { ...mask, ink };
}

/** n rows of weights: how much of each of size pixels lies in each of n equal parts; size in each row. */
function shares(n, size) {
  return Array.from({ length: n }, (_, i) => Float64Array.from({ length: size }, (_, j) =>
    Math.max(0, Math.min(size * (i + 1), n * (j + 1)) - Math.max(size * i, n * j))));
}

/** n rows of weights with which size pixels, blurred so often, are resized to n with the bicubic filter. */
function cubic(n, size, blurs) {
  const scale = Math.max(1, size / n);
  return Array.from({ length: n }, (_, i) => {
    let row = Float64Array.from({ length: size }, (_, j) => {
      const x = Math.abs((j + 0.5 - (i + 0.5) * (size / n)) / scale);
      const weight = x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((2.5 - 0.5 * x) * x - 4) * x + 2 : 0;
      return rint(2 ** 20 * weight);
    });
    const sum = row.reduce((a, b) => a + b);
    row = row.map((weight) => 2 ** 20 * weight / sum);
    for (let blur = 0; blur < blurs; blur++)
      row = row.map((weight, j, all) => ((all[j - 1] ?? 0) + (all[j + 1] ?? 0)) / 4 + weight / 2);
    return row.map(rint);
  });
}

/** The sums of ink with weights of its rows and of its columns, one row after the other. */
function shrunk({ width, ink }, rows, columns) {
  const small = new Float64Array(rows.length * columns.length), sums = new Float64Array(width);
  rows.forEach((row, i) => {
    sums.fill(0);
    row.forEach((weight, y) => {
      if (weight) for (let x = 0; x < width; x++) if (ink[y * width + x]) sums[x] += weight;
    });
    columns.forEach((column, j) => {
      let sum = 0;
      for (let x = 0; x < width; x++) sum += sums[x] * column[x];
      small[i * columns.length + j] = sum;
    });
  });
  return small;
}

/** Sums of ink as bytes, of which the largest is 255. */
function full(small) {
  const most = small.reduce((a, b) => Math.max(a, b));
  return Uint8Array.from(small, (sum) => rint(255 * sum / most));
}

/** Ink in a form: "mnist", "emnist", or "as-is", which shrinks the whole paper.   Returns bytes; null without ink. */
function fit(mask, form, height, width) {
  const box = boxOf(mask);
  if (!box) return null;
  if (form === "as-is") {
    const sums = shrunk(mask, shares(height, mask.height), shares(width, mask.width));
    return Uint8Array.from(sums, (sum) => rint(255 * sum / mask.ink.length));
  }
  const side = Math.max(box.bottom - box.top, box.right - box.left), digit = cut(mask, box, Math.floor(side / 5) + 3);
  const area = digit.ink.reduce((a, b) => a + b);
  const missing = WIDTH * side - 2 * area / perimeter(digit);
  const wide = widened(digit, rint(missing / (2 * (1 - WIDTH)))), ink = cut(wide, boxOf(wide), 0);
  const scale = Math.min(BOX[form] * height / ink.height, BOX[form] * width / ink.width);
  if (form === "emnist") {
    const blurs = rint(2 * (SOFT * Math.max(ink.height, ink.width)) ** 2);
    const [rows, columns] = [[height, ink.height], [width, ink.width]].map(([n, own]) => {
      const size = Math.max(own, rint(n / scale)), before = Math.floor((size - own) / 2);
      return cubic(n, size, blurs).map((row) => row.subarray(before, before + own));
    });
    return full(shrunk(ink, rows, columns).map((sum) => Math.min(2 ** 40, Math.max(0, sum))));
  }
  const h = Math.max(1, rint(ink.height * scale)), w = Math.max(1, rint(ink.width * scale));
  return laid(shrunk(ink, shares(h, ink.height), shares(w, ink.width)), h, w, height, width);
}

/** Ink on black, its centre of mass in the middle; what reaches over the edge is cut off. */
function laid(small, h, w, height, width) {
  let total = 0, y = 0, x = 0;
  small.forEach((sum, i) => {
    total += sum;
    y += sum * Math.floor(i / w);
    x += sum * (i % w);
  });
  const top = rint(Math.floor(height / 2) - y / total), left = rint(Math.floor(width / 2) - x / total);
  const image = new Uint8Array(height * width);
  full(small).forEach((value, i) => {
    const row = top + Math.floor(i / w), column = left + i % w;
    if (row >= 0 && row < height && column >= 0 && column < width) image[row * width + column] = value;
  });
  return image;
}
