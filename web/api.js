// The client of the HTTP API: requests, pagination and errors. No other module sends requests to the API.

import * as auth from "./auth.js?v=";
import { useCallback, useEffect, useRef, useState } from "./lib.js?v=";

const RETRY_MS = 300;
const BASE = new URL("api/v1/", document.baseURI);

/** An error of the API (problem+json), or a missing response. */
export class Problem extends Error {
  /** `detail` is a text, or a list of validation errors {loc, msg}. */
  constructor(status, title, detail) {
    super(title);
    Object.assign(this, { status, title, detail });
  }

  /** The details, one line each. */
  get lines() {
    if (!Array.isArray(this.detail)) return this.detail ? [this.detail] : [];
    return this.detail.map(({ loc, msg }) => `${loc.slice(1).join(".") || loc[0]}: ${msg}`);
  }
}

/**
 * Sends one request. Returns {body, next, total}: the parsed response, the cursor of the next page or null, and the number
 * of items on all pages if the response has it. Throws Problem. Undefined values of `query` are omitted.
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
  const response = await fetch(url, request)
    .catch((error) => {
      // Changing the network interrupts requests. A GET can be repeated safely, so it is retried once.
      if (error.name === "AbortError" || method !== "GET") throw error;
      return new Promise((resolve) => setTimeout(resolve, RETRY_MS)).then(() => fetch(url, request));
    })
    .catch((error) => {
      if (error.name === "AbortError") throw error;
      throw new Problem(0, "No response", "The API does not respond. It may be stopped, or the network may be down.");
    });
  const text = await response.text();
  let body = null;
  try {
    body = parse(text);
  } catch {
    // A body that is not JSON is reported by its status below.
  }
  if (response.ok && body !== null) {
    const total = response.headers.get("X-Total-Count");
    return { body, next: cursorOf(response.headers.get("Link")), total: total && Number(total) };
  }
  if (response.status === 401 && auth.needed()) throw expired();
  if ([401, 403].includes(response.status) && !auth.needed()) {
    throw new Problem(
      response.status,
      "Not allowed",
      "This deployment accepts only requests that are signed by AWS identities. To sign in on this page, deploy it with Auth=COGNITO.",
    );
  }
  throw new Problem(response.status, body?.title ?? `Status ${response.status}`, body?.detail ?? body?.message);
}

function expired() {
  auth.forget();
  window.dispatchEvent(new Event("signed-out"));
  return new Problem(401, "Session expired", "Sign in again.");
}

/** Parses JSON. Ids have 64 bits, so integers that a double cannot represent become text. */
export function parse(text) {
  const long = /"(?:[^"\\]|\\.)*"|(?<![\d.eE+-])-?\d{16,}(?![\d.eE])/g;
  return JSON.parse(text.replace(long, (found) => (found[0] === '"' ? found : `"${found}"`)));
}

function cursorOf(link) {
  const found = /<([^>]*)>; rel="next"/.exec(link ?? "");
  return found && new URL(found[1]).searchParams.get("cursor");
}

/**
 * Sends a GET request. Returns {body, total, error, reload}. `body` and `error` are null during the first request; `body` is
 * kept while it is reloaded. `every` is the polling interval in milliseconds, or a function of the body that returns it, or
 * null to stop polling.
 */
export function useResponse(path, { query, every } = {}) {
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
 * Loads a paginated list. Returns {items, first, error, more, loading}. `pick` returns the items of a response, `first` is
 * the first response, and `more` loads the next page, or is null at the end.
 */
export function usePagedList(path, { query = {}, limit = 50, pick = (body) => body } = {}) {
  const key = path && JSON.stringify([path, query]);
  const [state, setState] = useState({});
  const latest = useRef();
  latest.current = key;
  const load = async (cursor, before) => {
    try {
      const { body, next } = await call(path, { query: { ...query, limit, cursor } });
      if (latest.current !== key) return;
      setState({ key, items: [...before, ...pick(body)], first: before.length ? state.first : body, next });
    } catch (error) {
      if (latest.current === key) setState({ key, items: before.length ? before : null, first: state.first, error });
    }
  };
  useEffect(() => {
    if (key) load(undefined, []);
  }, [key]);
  const current = state.key === key ? state : {};
  const [loading, setLoading] = useState(false);
  const more = async () => {
    setLoading(true);
    await load(current.next, current.items);
    setLoading(false);
  };
  return {
    items: current.items ?? null,
    first: current.first ?? null,
    error: current.error ?? null,
    more: current.next ? more : null,
    loading,
    reload: () => load(undefined, []),
  };
}

/** Sends a file to a presigned URL. `onProgress` is called with the share that was sent, from 0 to 1. Throws Problem. */
export function send(url, file, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", url);
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onload = () =>
      request.status < 300
        ? resolve()
        : reject(new Problem(request.status, "The file was refused", /<Message>([^<]*)/.exec(request.responseText)?.[1]));
    request.onerror = () => reject(new Problem(0, "The file was not sent", "The connection to the bucket was interrupted. Send the file again."));
    request.send(file);
  });
}

/** Returns the first bytes of the object of a presigned URL as text. Throws Problem. */
export async function head(url, bytes) {
  try {
    const response = await fetch(url, { headers: { Range: `bytes=0-${bytes - 1}` } });
    if (response.ok) return await response.text();
  } catch {
    // Reported below.
  }
  throw new Problem(0, "The rejected rows cannot be displayed", "Download the file to see them.");
}
