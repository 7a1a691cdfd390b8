// Components shared by the views: text, states, tables, links.

import { format, html, useEffect, useRef, useState } from "./lib.js?v=";

const whole = format(",");

/** Formats a number: 1234567 → 1,234,567. Large integers may be text. */
export const number = (value) =>
  typeof value === "number" ? whole(value) : String(value ?? "–").replace(/\B(?=(\d{3})+$)/g, ",");

/** A number with its noun: "1 record", "2 records". */
export const counted = (value, one, many = `${one}s`) => `${number(value)} ${Number(value) === 1 ? one : many}`;

/** A name of the API in words: date_of_birth → date of birth. */
export const plain = (name) => name.replaceAll("_", " ");

/** Formats a time of the API in the user's time zone and locale. */
export function when(time) {
  if (!time) return "–";
  const date = new Date(time);
  const today = date.toDateString() === new Date().toDateString();
  return date.toLocaleString(undefined, today ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" });
}

/** Text from users: displayed in its own writing direction, and never interpreted as markup. */
export const Text = ({ children }) => html`<bdi dir="auto">${children}</bdi>`;

/** The text of a value, which may be a list or an object of attributes. */
export function written(value) {
  if (Array.isArray(value)) return value.join(", ");
  return value instanceof Object ? Object.entries(value).map(([name, text]) => `${name}: ${text}`).join(", ") : value;
}

/** The names of sources as chips. */
export const Sources = ({ names }) =>
  html`<span class="chips">${names.map((name) => html`<span class="chip" key=${name}>${name}</span>`)}</span>`;

/** The URL of a view: link("/customers", {in: "a,b"}) → "#/customers?in=a%2Cb". */
export function link(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const search = new URLSearchParams(given).toString();
  return `#${path}${search ? `?${search}` : ""}`;
}

/** The path of the view of a customer, whose id may be any text. */
export const customerPath = (id) => `/customers/${encodeURIComponent(id)}`;

/** The query for the customers of a region: in exactly `sources` and in no other of `all`. */
export const regionQuery = (sources, all, by) => ({
  in: sources.join(","),
  not_in: all.filter((source) => !sources.includes(source)).join(","),
  by,
});

/** An error with the details from the API, and a button to try again if `retry` is given. */
export function ErrorMessage({ error, retry }) {
  const { title = "Unexpected error", lines = [error.message] } = error;
  return html`<div class="error" role="alert">
    <strong>${title}</strong>
    ${lines.map((line) => html`<p><${Text}>${line}<//></p>`)}
    ${retry && html`<button class="button" onClick=${retry}>Try again</button>`}
  </div>`;
}

/** A placeholder while something loads, with about the height of the result. */
export const Waiting = ({ lines = 3 }) =>
  html`<div class="waiting" role="status">
    <span class="unseen">Loading…</span>
    ${Array.from({ length: lines }, (_, line) => html`<i key=${line}></i>`)}
  </div>`;

/** An empty state, with what to do next. */
export const Empty = ({ title, children }) => html`<div class="empty"><strong>${title}</strong><p>${children}</p></div>`;

/** The empty state of views that need a finished matching run. */
export const NoRun = () =>
  html`<${Empty} title="No matching run has finished yet">
    <a href=${link("/matching")}>Run matching</a> to find people with several ids. Until then, customers are identified by
    their customer id only.
  <//>`;

/** Whether one of the errors (or nulls) means that no matching run has finished yet. */
export const withoutRun = (...errors) => errors.some((error) => error?.status === 409);

/** Renders `children` with the body of a response, or its error or loading state. */
export function Loaded({ response, lines, children }) {
  const { body, error, reload } = response;
  if (error) return withoutRun(error) ? html`<${NoRun} />` : html`<${ErrorMessage} error=${error} retry=${reload} />`;
  if (body === null) return html`<${Waiting} lines=${lines} />`;
  return children(body);
}

/** Renders `children` with the items of a list and a button for the next page, or its error, loading or empty state. */
export function PagedList({ list, empty, lines, children }) {
  const { items, error, more, loading, reload } = list;
  if (error && !items) {
    return withoutRun(error) ? html`<${NoRun} />` : html`<${ErrorMessage} error=${error} retry=${reload} />`;
  }
  if (!items) return html`<${Waiting} lines=${lines} />`;
  if (!items.length) return empty;
  return html`${children(items)} ${error && html`<${ErrorMessage} error=${error} />`}
    ${more && html`<button class="button more" disabled=${loading} onClick=${more}>${loading ? "Loading…" : "Show more"}</button>`}`;
}

/** A section of a view with a heading. */
export const Panel = ({ title, note, aside, children, wide, full }) =>
  html`<section class=${`panel${wide ? " wide" : ""}${full ? " full" : ""}`}>
    <div class="panel-head">
      <div><h2>${title}</h2>${note && html`<p class="note">${note}</p>`}</div>
      ${aside}
    </div>
    ${children}
  </section>`;

/** The title of a view, which gets the focus when the view opens. `aside` is beside it, `above` above it. */
export function Title({ children, aside, above }) {
  const heading = useRef();
  useEffect(() => {
    document.title = `${heading.current.textContent} · Customer Deduplication`;
  });
  return html`<div class="title">
    <div>${above && html`<p class="above">${above}</p>`}<h1 tabindex="-1" ref=${heading}>${children}</h1></div>
    ${aside}
  </div>`;
}

/** A group of buttons to choose one of `options`, [value, label]. `choose` is called with the value. */
export const Choice = ({ label, options, value, choose }) =>
  html`<div class="choice" role="group" aria-label=${label}>
    ${options.map(
      ([option, text]) =>
        html`<button key=${option} aria-pressed=${option === value} onClick=${() => choose(option)}>${text}</button>`,
    )}
  </div>`;

/** The choice of what is counted: customer ids or people. */
export const ByChoice = ({ by, choose }) =>
  html`<${Choice}
    label="Count"
    options=${[["customer", "By customer id"], ["entity", "By person"]]}
    value=${by ?? "customer"}
    choose=${(value) => choose(value === "entity" ? "entity" : undefined)}
  />`;

/** A progress bar. `share` is from 0 to 1, or null if it is unknown. */
export const Progress = ({ label, share }) =>
  html`<progress aria-label=${label} max="1" value=${share === null ? undefined : share}></progress>`;

const STATES = { done: "good", failed: "bad", loading: "busy", running: "busy", needs_mapping: "warn", previewed: "warn", held: "warn", waiting: "idle", deleted: "idle" };

/** The status of an upload or a run. */
export const Status = ({ of }) => html`<span class=${`status ${STATES[of] ?? "idle"}`}>${plain(of)}</span>`;

/** A table that becomes a list of cards on small screens. `columns` are [heading, function of a row, class]. */
export const Table = ({ caption, columns, rows, keyOf }) =>
  html`<table class="rows">
    <caption class="unseen">${caption}</caption>
    <thead><tr>${columns.map(([heading, , kind]) => html`<th scope="col" class=${kind} key=${heading}>${heading}</th>`)}</tr></thead>
    <tbody>
      ${rows.map(
        (row) =>
          html`<tr key=${keyOf(row)}>
            ${columns.map(([heading, cell, kind]) => html`<td class=${kind} data-label=${heading} key=${heading}>${cell(row)}</td>`)}
          </tr>`,
      )}
    </tbody>
  </table>`;

/** The current width of an element: [ref, width]. */
export function useWidth(first = 640) {
  const ref = useRef();
  const [width, setWidth] = useState(first);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.round(entry.contentRect.width)));
    observer.observe(ref.current);
    return () => observer.disconnect();
  }, []);
  return [ref, width];
}

const NOT_COMPARED = ["id", "customer_id", "source", "created_at", "updated_at", "modified_at"];
const ATTRIBUTE = "attributes.";
const same = (a, b) => String(a).trim().toLowerCase() === String(b).trim().toLowerCase();

/**
 * Records side by side, one in each column. Values are highlighted if they differ from the golden record, {field: {value,
 * source, rule}}, or, without one, from the value of more than half of the records. If there is no such value, all are.
 */
export function Records({ records: given, golden, label = "Records side by side" }) {
  const records = given.map(withAttributes);
  const named = [...new Set(records.flatMap(Object.keys))].filter((field) => !NOT_COMPARED.includes(field));
  const fields = named.filter((field) => records.some((record) => record[field] !== null && record[field] !== undefined));
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${label}>
    <table class="records">
      <thead>
        <tr>
          <th scope="col"><span class="unseen">Field</span></th>
          ${golden && html`<th scope="col" class="golden">Golden record</th>`}
          ${records.map(
            (record) =>
              html`<th scope="col" key=${record.id}>
                <span class="chip">${record.source}</span>
                <a href=${link(customerPath(record.customer_id))}>customer ${record.customer_id}</a>
                <small>record ${record.id}, ${when(record.created_at)}</small>
                ${record.modified_at && html`<small>changed ${when(record.modified_at)}</small>`}
              </th>`,
          )}
        </tr>
      </thead>
      <tbody>
        ${fields.map((field) => {
          const usual = golden?.[field]?.value ?? usualOf(records.map((record) => record[field]).filter((value) => value ?? false));
          return html`<tr key=${field}>
            <th scope="row">${field.startsWith(ATTRIBUTE) ? html`<${Text}>${field.slice(ATTRIBUTE.length)}<//>` : plain(field)}</th>
            ${golden && html`<${Golden} of=${golden[field]} />`}
            ${records.map((record) => html`<${Value} value=${record[field]} usual=${usual} key=${record.id} />`)}
          </tr>`;
        })}
      </tbody>
    </table>
  </div>`;
}

/** The record with each attribute as a field of its own, named as in a golden record. */
function withAttributes({ attributes = {}, ...record }) {
  return { ...record, ...Object.fromEntries(Object.entries(attributes ?? {}).map(([name, value]) => [ATTRIBUTE + name, value])) };
}

const Golden = ({ of }) =>
  html`<td class="golden">
    ${of?.value ?? false
      ? html`<${Text}>${of.value}<//>${of.rule && html`<small>${plain(of.rule)}${of.source && `, from ${of.source}`}</small>`}`
      : html`<span class="none">none</span>`}
  </td>`;

function Value({ value, usual }) {
  if (value === null || value === undefined) return html`<td class="none">none</td>`;
  if (same(value, usual)) return html`<td><${Text}>${written(value)}<//></td>`;
  return html`<td class="differs"><span class="sign" aria-hidden="true">≠</span><${Text}>${written(value)}<//><span class="unseen"> differs</span></td>`;
}

/** Returns the value that more than half of the records have, or undefined. */
function usualOf(values) {
  return values.find((value) => values.filter((other) => same(value, other)).length * 2 > values.length);
}
