// A scoring service that answers as `toolchain serve` does: [HOST=127.0.0.1] [PORT=8080] node server.mjs BUNDLE (or ./bundle)
//
// POST /score        {"text": "…"}     -> {"label", "confidence", "probabilities": {label: …}, "tokens", "unknown"}
// POST /score/batch  {"texts": ["…"]}  -> {"answers": [ … ]}, one each, in order
// GET /healthz                         -> {"status": "ok"}
// GET /readyz                          -> {"status": "ready", "waiting", "bundle"}; 503 from SIGTERM on
// Every error                          -> {"detail": "one line"}
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { isBlank, Scorer } from "./scorer.mjs";

const BODY_BYTES = 4_000_000;
const TEXTS_A_REQUEST = 1_000;
const CHARACTERS_A_TEXT = 100_000;
const TEXTS_WAITING = 4_000;
const REQUEST_MS = 30_000;
const FAREWELL_MS = 2_000; // what is on its way when SIGTERM comes is still answered

const ONE = '{"text": "…"}';
const MANY = '{"texts": ["…", "…"]}';

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
  if (bytes > BODY_BYTES)
    throw new Refusal(413, `the body is larger than ${BODY_BYTES} bytes; send fewer texts at a time`);
  return Buffer.concat(chunks);
}

async function readJson(request, expected) {
  const [type] = (request.headers["content-type"] ?? "").split(";");
  if (type.trim().toLowerCase() !== "application/json")
    throw new Refusal(415, "send JSON with the header Content-Type: application/json");
  const body = await readBody(request);
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch (error) {
    const reason = error.message.replace(/\s+/g, " ");
    throw new Refusal(400, `the body is not JSON in UTF-8 (${reason}); send ${expected}`);
  }
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

function check(name, text) {
  if (typeof text !== "string") throw new Refusal(422, `${name} is not a string`);
}

/** Answers to texts by the name that an error calls them. */
async function answered(named) {
  for (const [name, text] of named) {
    const characters = text.length > CHARACTERS_A_TEXT ? [...text].length : text.length;
    if (characters > CHARACTERS_A_TEXT)
      throw new Refusal(422, `${name} has ${characters} characters; the limit is ${CHARACTERS_A_TEXT}`);
    if (isBlank(text))
      throw new Refusal(422, `${name} is blank: there is nothing to score`);
  }
  if (scorer.waiting + named.length > TEXTS_WAITING)
    throw new Refusal(503, `${scorer.waiting} texts are waiting; send this again in a second`, { "Retry-After": "1" });
  return scorer.score(named.map(([, text]) => text));
}

async function score(request) {
  const value = await readJson(request, ONE);
  if (!isObject(value) || !("text" in value)) throw new Refusal(422, `expected a JSON object with text: ${ONE}`);
  check("text", value.text);
  return (await answered([["text", value.text]]))[0];
}

async function scoreBatch(request) {
  const value = await readJson(request, MANY);
  if (!isObject(value) || !("texts" in value)) throw new Refusal(422, `expected a JSON object with texts: ${MANY}`);
  if (!Array.isArray(value.texts)) throw new Refusal(422, "texts is not a list");
  const named = value.texts.map((text, place) => [`texts[${place}]`, text]);
  for (const [name, text] of named) check(name, text);
  if (named.length > TEXTS_A_REQUEST)
    throw new Refusal(422, `${named.length} texts; the limit is ${TEXTS_A_REQUEST} a request`);
  return { answers: await answered(named) };
}

function health() {
  return { status: "ok" };
}

function readiness() {
  if (closing) throw new Refusal(503, "shutting down; ask another instance", { "Retry-After": "1" });
  if (scorer.waiting >= TEXTS_WAITING)
    throw new Refusal(503, `${scorer.waiting} texts are waiting`, { "Retry-After": "1" });
  return { status: "ready", waiting: scorer.waiting, bundle: scorer.bundle };
}

const ROUTES = {
  "/score": { POST: score },
  "/score/batch": { POST: scoreBatch },
  "/healthz": { GET: health },
  "/readyz": { GET: readiness },
};

async function answer(request) {
  const path = request.url.split("?")[0];
  const methods = ROUTES[path];
  if (!methods) {
    const there = Object.entries(ROUTES).flatMap(([path, routes]) => Object.keys(routes).map((one) => `${one} ${path}`));
    throw new Refusal(404, `no ${path} here; there are ${there.join(", ")}`);
  }
  const handle = methods[request.method];
  if (!handle) {
    const allowed = Object.keys(methods).join(", ");
    throw new Refusal(405, `${request.method} is not for ${path}; use ${allowed}`, { Allow: allowed });
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
    value = { detail: error instanceof Refusal ? error.message : "the service failed; its log says why" };
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
