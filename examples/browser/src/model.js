// The page's side of worker.js.

/** The classifier: loads in a worker of its own, so that typing never waits for it. */
export class Model {
  #worker;
  #asked = new Map();
  #next = 0;

  constructor(worker) {
    this.#worker = worker;
    worker.onmessage = ({ data: { id, scores, error } }) => {
      const { resolve, reject } = this.#asked.get(id);
      this.#asked.delete(id);
      error ? reject(new Error(error)) : resolve(scores);
    };
  }

  /** Loads the model; `onProgress` is told the bytes that have come. Rejects with what went wrong. */
  static load(onProgress) {
    const { promise, resolve, reject } = deferred();
    const worker = confinedWorker(new URL("worker.js", import.meta.url));
    worker.onerror = (event) => reject(new Error(event.message || "the worker did not start"));
    worker.onmessage = ({ data: { loaded, ready, failure } }) => {
      if (failure) {
        reject(new Error(failure));
      } else if (ready) {
        resolve(new Model(worker));
      } else {
        onProgress(loaded);
      }
    };
    return promise;
  }

  /** For each text {label, probabilities in the order of the manifest's labels, tokens, unknown}. */
  score(texts) {
    const { promise, resolve, reject } = deferred();
    const id = this.#next++;
    this.#asked.set(id, { resolve, reject });
    this.#worker.postMessage({ id, texts });
    return promise;
  }
}

/** Started from a blob, a worker inherits the page's Content-Security-Policy; started from a URL, it does not. */
function confinedWorker(url) {
  const source = new Blob([`import ${JSON.stringify(url.href)};`], { type: "text/javascript" });
  return new Worker(URL.createObjectURL(source), { type: "module" });
}

function deferred() {
  let resolve, reject;
  const promise = new Promise((...both) => ([resolve, reject] = both));
  return { promise, resolve, reject };
}
