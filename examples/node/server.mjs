// A scoring service: [HOST=127.0.0.1] [PORT=8080] node server.mjs BUNDLE (or ./bundle)
//
// POST /score   {"text": "..."}       -> {"label": "pos", "probabilities": [0.1, 0.9]}
//               {"texts": ["...", ]}  -> {"results": [{"label": ..., "probabilities": [...]}, ]}
// GET /healthz                        -> {"status": "ok", "waiting": 0}; 503 from SIGTERM on, until all is answered
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { isBlank, Scorer } from "./scorer.mjs";

const BODY_BYTES = 1 << 20;
const TEXTS_A_REQUEST = 256;
const TEXTS_WAITING = 1024;
const REQUEST_MS = 30_000;
const FAREWELL_MS = 2_000; // what is on its way when SIGTERM comes is still answered

const EXPECTED = '{"text": "..."} or {"texts": ["...", ]}';

class Refusal extends Error {
  constructor(status, message, headers = {}) {
    super(message);
    Object.assign(this, { status, headers });
  }
}

async function readBody(request) {
  const chunks = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    if (bytes <= BODY_BYTES) chunks.push(chunk); // the rest is read and dropped: a client reads no answer before that
  }
  if (bytes > BODY_BYTES) throw new Refusal(413, `body of ${bytes} bytes; send at most ${BODY_BYTES} a request`);
  return Buffer.concat(chunks);
}

function parse(body) {
  let value;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch (error) {
    throw new Refusal(400, `body is not JSON in UTF-8 (${error.message}); send ${EXPECTED}`);
  }
  const alone = value?.texts === undefined;
  const texts = alone ? [value?.text] : value.texts;
  if (!Array.isArray(texts) || !texts.every((text) => typeof text === "string") || (!alone && value.text !== undefined))
    throw new Refusal(400, `body has to be ${EXPECTED}, strings only, and not both`);
  if (texts.length > TEXTS_A_REQUEST)
    throw new Refusal(400, `${texts.length} texts; send at most ${TEXTS_A_REQUEST} a request`);
  const blank = texts.findIndex(isBlank);
  if (blank >= 0) throw new Refusal(400, `${alone ? "text" : `texts[${blank}]`} is blank: there is nothing to score`);
  return { texts, alone };
}

async function score(request) {
  const { texts, alone } = parse(await readBody(request));
  if (scorer.waiting + texts.length > TEXTS_WAITING)
    throw new Refusal(503, `${scorer.waiting} texts are waiting; send this again in a second`, { "Retry-After": "1" });
  const results = await scorer.score(texts);
  return alone ? results[0] : { results };
}

function health() {
  if (closing) throw new Refusal(503, "shutting down; ask another instance");
  return { status: "ok", waiting: scorer.waiting };
}

const ROUTES = { "/score": { POST: score }, "/healthz": { GET: health } };

async function answer(request) {
  const methods = ROUTES[request.url.split("?")[0]];
  if (!methods) throw new Refusal(404, `no ${request.url} here; there are POST /score and GET /healthz`);
  const handle = methods[request.method];
  if (!handle) {
    const allowed = Object.keys(methods).join(", ");
    throw new Refusal(405, `${request.method} is not for ${request.url}; use ${allowed}`, { Allow: allowed });
  }
  return handle(request);
}

async function serve(request, response) {
  let [status, value, headers] = [200, undefined, {}];
  try {
    value = await answer(request);
  } catch (error) {
    if (request.destroyed && !request.complete) return; // the client left in the middle of its request
    if (!(error instanceof Refusal)) console.error(error);
    ({ status = 500, headers = {} } = error);
    value = { error: error instanceof Refusal ? error.message : "the model failed; the log of the service says why" };
  }
  const body = JSON.stringify(value);
  if (closing) headers.Connection = "close";
  Object.assign(headers, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) });
  response.writeHead(status, headers);
  response.end(body);
}

async function shutDown() {
  if (closing) return;
  closing = true;
  await sleep(FAREWELL_MS);
  server.close(() => scorer.close());
  server.closeIdleConnections();
}

function fail({ message }) {
  console.error(message);
  process.exit(1);
}

let closing = false;
const scorer = await Scorer.open(process.argv[2] ?? "bundle").catch(fail);
const server = createServer({ requestTimeout: REQUEST_MS, connectionsCheckingInterval: 1_000 }, serve);
server.listen(Number(process.env.PORT ?? 8080), process.env.HOST ?? "127.0.0.1", 1024, () => {
  const { address, port } = server.address();
  console.log(`listening on http://${address}:${port}`);
});
server.on("error", fail);
process.on("SIGTERM", shutDown);
process.on("SIGINT", shutDown);
