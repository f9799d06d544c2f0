// The network and its backpropagation, for one example: what xpnet/numerics/functional.py computes for many.

const logistic = (z) => 1 / (1 + Math.exp(-z));
const gelu = (z) => Math.sqrt(2 / Math.PI) * z * (1 + 0.044715 * z * z);

/** y = f(z), and dy/dz by z and y. */
const ACTIVATIONS = {
  identity: [(z) => z, () => 1],
  relu: [(z) => (z > 0 ? z : 0), (z) => (z > 0 ? 1 : 0)],
  "leaky-relu": [(z) => (z > 0 ? z : 0.01 * z), (z) => (z > 0 ? 1 : 0.01)],
  sigmoid: [logistic, (z, y) => y * (1 - y)],
  tanh: [Math.tanh, (z, y) => 1 - y * y],
  "scaled-tanh": [(z) => 1.7159 * Math.tanh(z * (2 / 3)), (z, y) => (1.7159 - y * y / 1.7159) * (2 / 3)],
  gelu: [(z) => 0.5 * z * (1 + Math.tanh(gelu(z))), (z) => {
    const t = Math.tanh(gelu(z)), du = Math.sqrt(2 / Math.PI) * (1 + 3 * 0.044715 * z * z);
    return 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * du;
  }],
};

const OUTPUTS = {
  identity: (z) => z,
  exponential: (z) => z.map(Math.exp),
  sigmoid: (z) => z.map(logistic),
  softmax: (z) => {
    const most = Math.max(...z), powers = z.map((each) => Math.exp(each - most));
    const sum = powers.reduce((a, b) => a + b);
    return powers.map((power) => power / sum);
  },
};

function bytes(text) {
  const characters = atob(text), found = new Uint8Array(characters.length);
  for (let i = 0; i < found.length; i++) found[i] = characters.charCodeAt(i);
  return found;
}

const floats = (text) => new Float32Array(bytes(text).buffer);

/** A layer with its weights as (n_in, n_out) numbers, one row after the other; whole numbers times a scale per unit. */
function unpackedLayer({ bits, weights, units, bias }) {
  const b = floats(bias), n = b.length;
  if (bits === 32) return { W: floats(weights), b };
  const packed = bytes(weights), scales = floats(units), sign = 1 << (bits - 1);
  const W = new Float32Array(Math.floor(8 * packed.length / bits / n) * n);
  for (let i = 0, bit = 0; i < W.length; i++, bit += bits) {
    const at = bit >> 3, window = (packed[at] << 16) | (packed[at + 1] << 8) | packed[at + 2];
    W[i] = (((window >> (24 - bits - (bit & 7))) & (2 * sign - 1)) ^ sign) - sign;
    W[i] *= scales[i % n];
  }
  return { W, b };
}

function unpackedMember(member) {
  const part = (name) => member[name] && new Float64Array(bytes(member[name]).buffer);
  return {
    ...member,
    layers: member.layers.map(unpackedLayer),
    shift: part("shift"), scale: part("scale"), targetShift: part("target_shift"), targetScale: part("target_scale"),
  };
}

/** x = (u - shift) / scale;  h = activation(h W + b), ...;  z = (h W + b) / temperature;  y = output(z). */
function forward(member, u) {
  let h = Float64Array.from(u, (value, i) => (value - (member.shift?.[i] ?? 0)) / (member.scale?.[i] ?? 1));
  const x = h, [activation] = ACTIVATIONS[member.activation], hidden = [], last = member.layers.length - 1;
  let z;
  member.layers.forEach(({ W, b }, l) => {
    z = Float64Array.from(b);
    for (let i = 0, n = b.length; i < h.length; i++) {
      const value = h[i];
      if (value !== 0) for (let j = 0, at = i * n; j < n; j++) z[j] += value * W[at + j];
    }
    if (l === last) return;
    h = z.map(activation);
    hidden.push({ z, h });
  });
  z = z.map((each) => each / member.temperature);
  const { targetScale, targetShift } = member;
  const y = OUTPUTS[member.output](z).map((value, k) => value * (targetScale?.[k] ?? 1) + (targetShift?.[k] ?? 0));
  return { x, hidden, z, y };
}

/** The vector-Jacobian product by hand: the gradient of logit k by x, from the last layer to the first. */
function gradient(member, { x, hidden }, k) {
  const [, slope] = ACTIVATIONS[member.activation];
  let dz = new Float64Array(member.layers.at(-1).b.length);
  dz[k] = member.output === "identity" ? member.targetScale?.[k] ?? 1 : 1;
  for (let l = member.layers.length - 1; l >= 0; l--) {
    const { W } = member.layers[l], n = dz.length, { z, h } = l ? hidden[l - 1] : { h: x };
    const dh = new Float64Array(h.length);
    for (let i = 0; i < h.length; i++) {
      let sum = 0;
      for (let j = 0, at = i * n; j < n; j++) sum += dz[j] * W[at + j];
      dh[i] = l ? sum * slope(z[i], h[i]) : sum;
    }
    dz = dh;
  }
  return dz;
}

/** The mean of some arrays of equal length. */
function mean(arrays) {
  return arrays[0].map((_, i) => arrays.reduce((sum, array) => sum + array[i], 0) / arrays.length);
}

/** Several networks as one: the mean of their outputs.   inputs : of each network, what it takes. */
function answered(members, inputs) {
  const traces = members.map((member, i) => forward(member, inputs[i]));
  return { traces, outputs: mean(traces.map(({ y }) => y)) };
}

/** How much each input spoke for output k, or against it: the input times the gradient, the mean of all networks. */
function contributions(members, traces, k) {
  return mean(members.map((member, m) => {
    const { x } = traces[m];
    return gradient(member, traces[m], k).map((dx, i) => dx * x[i]);
  }));
}
