// The model, away from the page's own thread. In: {id, texts}. Out: {loaded} bytes, {ready: true} or {failure} once,
// then {id, scores} or {id, error} in the order of the questions.

import * as ort from "./lib/ort.js";

// One thread: more need a cross-origin isolated page, which a plain web server does not give, and a recurrent network
// takes its steps one after the other anyway.
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = {
  mjs: new URL("lib/ort-wasm.js", import.meta.url).href,
  wasm: new URL("lib/ort-wasm.wasm", import.meta.url).href,
};

/** The bytes at `url`, read piece by piece so that the page can show how far it is. */
async function fetchBytes(url) {
  const response = await fetch(url);
  if (!response.ok) {
    throw new Error(`${url.pathname}: the server answered ${response.status}`);
  }
  const pieces = [];
  let loaded = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) {
      return new Uint8Array(await new Blob(pieces).arrayBuffer());
    }
    pieces.push(value);
    loaded += value.length;
    postMessage({ loaded });
  }
}

/**
 * Switches the lower-casing inside the model off, in memory; true where there was one.
 *
 * The graph lowers A-Z alone by asking StringNormalizer for the locale "C". The WASM build of ONNX Runtime takes
 * Unicode's lower case under every locale, so that "É" would become another word than in training. In the serialized
 * attribute (field 4, a string of 5 bytes: LOWER) the value becomes NONE; its length is written in two bytes, as
 * protobuf allows, and so nothing else moves.
 */
function switchOffLowercasing(model) {
  const name = "case_change_action";
  const start = new TextDecoder("latin1").decode(model.subarray(0, 1 << 16)); // it is the first node of the graph
  const at = start.indexOf(`${name}\x22\x05LOWER`);
  if (at >= 0) {
    model.set([0x22, 0x84, 0x00, ...new TextEncoder().encode("NONE")], at + name.length);
  }
  return at >= 0;
}

/** What every runtime reads alike: no U+0000, no half of a surrogate pair. */
function clean(text) {
  return text.replaceAll("\0", " ").replace(/\p{Surrogate}/gu, "\uFFFD");
}

function lowercase(text) {
  return text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

async function load() {
  const model = await fetchBytes(new URL("model.onnx", import.meta.url));
  const prepare = switchOffLowercasing(model) ? (text) => lowercase(clean(text)) : clean;
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });

  /** One text a run: on one thread a batch is no faster, and it would be padded. */
  return async function score(text) {
    const { label, probabilities, tokens, unknown } = await session.run({
      text: new ort.Tensor("string", [prepare(text)], [1]),
    });
    return {
      label: label.data[0],
      probabilities: [...probabilities.data],
      tokens: Number(tokens.data[0]),
      unknown: Number(unknown.data[0]),
    };
  };
}

const loading = load();
loading.then(
  () => postMessage({ ready: true }),
  (error) => postMessage({ failure: error.message }),
);

// The session takes one run at a time: each question waits for the one before.
let last = loading;
onmessage = ({ data: { id, texts } }) => {
  last = last.then(async () => {
    try {
      const score = await loading;
      const scores = [];
      for (const text of texts) {
        scores.push(await score(text));
      }
      postMessage({ id, scores });
    } catch (error) {
      postMessage({ id, error: error.message });
    }
  });
};
