// The HTTP API: requests, pages and errors. The only module that fetches from it.

import * as auth from "./auth.js?v=";
import { useCallback, useEffect, useRef, useState } from "./lib.js?v=";

const AGAIN = 300;
const BASE = new URL("api/v1/", document.baseURI);

/** An error of the API (problem+json), or no answer at all. */
export class Problem extends Error {
  /** `detail` is a text, or a list of {loc, msg}. */
  constructor(status, title, detail) {
    super(title);
    Object.assign(this, { status, title, detail });
  }

  /** What there is to say, a line each. */
  get lines() {
    if (!Array.isArray(this.detail)) return this.detail ? [this.detail] : [];
    return this.detail.map((fault) => `${fault.loc.slice(1).join(".") || fault.loc[0]}: ${fault.msg}`);
  }
}

/**
 * One request. Returns {body, next, total}: the answer, the cursor of the page after it or null, and how many items all
 * pages have, where the answer says so. Throws Problem.
 * `query` may hold undefined, which is left out.
 */
export async function call(path, { method = "GET", query = {}, json, headers = {}, signal } = {}) {
  const url = new URL(path, BASE);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
  }
  const token = await auth.token();
  if (auth.needed() && !token) throw expired();
  const request = {
    method,
    signal,
    headers: {
      ...(json === undefined ? {} : { "Content-Type": "application/json" }),
      ...(token ? { Authorization: `Bearer ${token}` } : {}),
      ...headers,
    },
    body: json === undefined ? undefined : JSON.stringify(json),
  };
  const answer = await fetch(url, request)
    .catch((error) => {
      // A network that changed breaks what is under way. Asking again changes nothing, so it is done once.
      if (error.name === "AbortError" || method !== "GET") throw error;
      return new Promise((resolve) => setTimeout(resolve, AGAIN)).then(() => fetch(url, request));
    })
    .catch((error) => {
      if (error.name === "AbortError") throw error;
      throw new Problem(0, "No answer", "The API does not answer. It may be stopped, or the network is down.");
    });
  const text = await answer.text();
  let body = null;
  try {
    body = parse(text);
  } catch {
    // What is no JSON is told by its status.
  }
  if (answer.ok && body !== null) {
    const total = answer.headers.get("X-Total-Count");
    return { body, next: cursorOf(answer.headers.get("Link")), total: total && Number(total) };
  }
  if (answer.status === 401 && auth.needed()) throw expired();
  if ([401, 403].includes(answer.status) && !auth.needed()) {
    throw new Problem(
      answer.status,
      "Not allowed",
      "This deployment takes requests signed by AWS identities. Deploy it with Auth=COGNITO for people to sign in here.",
    );
  }
  throw new Problem(answer.status, body?.title ?? `Status ${answer.status}`, body?.detail ?? body?.message);
}

function expired() {
  auth.forget();
  window.dispatchEvent(new Event("signed-out"));
  return new Problem(401, "Signed out", "The session has ended: sign in again.");
}

/** JSON, with integers that a double can't hold kept as text: ids have 64 bits. */
export function parse(text) {
  const long = /"(?:[^"\\]|\\.)*"|(?<![\d.eE+-])-?\d{16,}(?![\d.eE])/g;
  return JSON.parse(text.replace(long, (found) => (found[0] === '"' ? found : `"${found}"`)));
}

function cursorOf(link) {
  const found = /<([^>]*)>; rel="next"/.exec(link ?? "");
  return found && new URL(found[1]).searchParams.get("cursor");
}

/**
 * What a GET answers: {body, total, error, reload}. `body` and `error` are null while it is under way for the first time;
 * `body` stays while it is asked again. `every` is a number of milliseconds, or a function of the body that gives one or null.
 */
export function useAnswer(path, { query, every } = {}) {
  const key = path && JSON.stringify([path, query]);
  const [state, setState] = useState({});
  const [round, setRound] = useState(0);
  const reload = useCallback(() => setRound((before) => before + 1), []);
  useEffect(() => {
    if (!key) return undefined;
    const aborted = new AbortController();
    let timer;
    call(path, { query, signal: aborted.signal }).then(
      ({ body, next, total }) => {
        setState({ key, body, next, total });
        const wait = typeof every === "function" ? every(body) : every;
        if (wait) timer = setTimeout(reload, wait);
      },
      (error) => error.name !== "AbortError" && setState({ key, error }),
    );
    return () => {
      aborted.abort();
      clearTimeout(timer);
    };
  }, [key, round]);
  const current = state.key === key ? state : {};
  const { body = null, next = null, total = null, error = null } = current;
  return { body, next, total, error, reload };
}

/**
 * A list that grows by a page at a time: {items, first, error, more, loading}. `pick` takes the items of an answer, `first`
 * is the first answer whole, and `more` asks for the next page, or is null at the end.
 */
export function usePages(path, { query = {}, limit = 50, pick = (body) => body } = {}) {
  const key = path && JSON.stringify([path, query]);
  const [state, setState] = useState({});
  const latest = useRef();
  latest.current = key;
  const ask = async (cursor, before) => {
    try {
      const { body, next } = await call(path, { query: { ...query, limit, cursor } });
      if (latest.current !== key) return;
      setState({ key, items: [...before, ...pick(body)], first: before.length ? state.first : body, next });
    } catch (error) {
      if (latest.current === key) setState({ key, items: before.length ? before : null, first: state.first, error });
    }
  };
  useEffect(() => {
    if (key) ask(undefined, []);
  }, [key]);
  const current = state.key === key ? state : {};
  const [loading, setLoading] = useState(false);
  const more = async () => {
    setLoading(true);
    await ask(current.next, current.items);
    setLoading(false);
  };
  return {
    items: current.items ?? null,
    first: current.first ?? null,
    error: current.error ?? null,
    more: current.next ? more : null,
    loading,
    reload: () => ask(undefined, []),
  };
}

/** Sends a file to a presigned URL; `told` hears the share that is through, from 0 to 1. Throws Problem. */
export function send(url, file, told) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", url);
    request.upload.onprogress = (event) => event.lengthComputable && told(event.loaded / event.total);
    request.onload = () =>
      request.status < 300
        ? resolve()
        : reject(new Problem(request.status, "The file was not taken", /<Message>([^<]*)/.exec(request.responseText)?.[1]));
    request.onerror = () => reject(new Problem(0, "The file did not arrive", "The connection to the bucket broke."));
    request.send(file);
  });
}

/** The first bytes of a presigned URL's object, as text. Throws Problem. */
export async function head(url, bytes) {
  try {
    const answer = await fetch(url, { headers: { Range: `bytes=0-${bytes - 1}` } });
    if (answer.ok) return await answer.text();
  } catch {
    // Told below.
  }
  throw new Problem(0, "The rejected rows can't be shown", "Download the file to see them.");
}
