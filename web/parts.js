// What the views are made of: text, states, tables, links.

import { format, html, useEffect, useRef, useState } from "./lib.js?v=";

const whole = format(",");

/** 1234567 → 1,234,567; also of integers that came as text. */
export const number = (value) =>
  typeof value === "number" ? whole(value) : String(value ?? "–").replace(/\B(?=(\d{3})+$)/g, ",");

/** `one` or `many` after its number: "1 record", "2 records". */
export const counted = (value, one, many = `${one}s`) => `${number(value)} ${Number(value) === 1 ? one : many}`;

/** A name of the API's as a person writes it: date_of_birth → date of birth. */
export const plain = (name) => name.replaceAll("_", " ");

/** A time of the API as the reader's clock shows it. */
export function when(time) {
  if (!time) return "–";
  const date = new Date(time);
  const today = date.toDateString() === new Date().toDateString();
  return date.toLocaleString(undefined, today ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" });
}

/** Text that somebody else wrote: shown as it is, in the direction in which it reads, and never taken for markup. */
export const Text = ({ children }) => html`<bdi dir="auto">${children}</bdi>`;

/** The names of sources as chips. */
export const Sources = ({ names }) =>
  html`<span class="chips">${names.map((name) => html`<span class="chip" key=${name}>${name}</span>`)}</span>`;

/** An address of this page: link("/customers", {in: "a,b"}) → "#/customers?in=a%2Cb". */
export function link(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const search = new URLSearchParams(given).toString();
  return `#${path}${search ? `?${search}` : ""}`;
}

/** The query that selects a region's customers: in exactly these sources, and in no other of all. */
export const regionQuery = (sources, all, by) => ({
  in: sources.join(","),
  not_in: all.filter((source) => !sources.includes(source)).join(","),
  by,
});

/** What went wrong, with the API's own words, and a way to try again. */
export function Fault({ error, retry }) {
  const { title = "Something went wrong", lines = [error.message] } = error;
  return html`<div class="fault" role="alert">
    <strong>${title}</strong>
    ${lines.map((line) => html`<p><${Text}>${line}<//></p>`)}
    ${retry && html`<button class="button" onClick=${retry}>Try again</button>`}
  </div>`;
}

/** Where something will be: lines of the height that it will have. */
export const Waiting = ({ lines = 3 }) =>
  html`<div class="waiting" role="status">
    <span class="unseen">Loading…</span>
    ${Array.from({ length: lines }, (_, line) => html`<i key=${line}></i>`)}
  </div>`;

/** Nothing is there, and what to do about it. */
export const Empty = ({ title, children }) => html`<div class="empty"><strong>${title}</strong><p>${children}</p></div>`;

/** There is no answer by person before the first run. */
export const NoRun = () =>
  html`<${Empty} title="No matching run has finished yet">
    Who is one person under different ids is found by a matching run. <a href=${link("/matching")}>Start one</a>; until then
    customers are told apart by their ids alone.
  <//>`;

/** Whether one of some errors, or nulls, says that no run has finished yet. */
export const withoutRun = (...errors) => errors.some((error) => error?.status === 409);

/** The states of an answer that is not there, or `children` of its body. */
export function Answer({ answer, lines, children }) {
  const { body, error, reload } = answer;
  if (error) return withoutRun(error) ? html`<${NoRun} />` : html`<${Fault} error=${error} retry=${reload} />`;
  if (body === null) return html`<${Waiting} lines=${lines} />`;
  return children(body);
}

/** The states of a list, or `children` of its items with a button for the next page; `empty` where there are none. */
export function Pages({ pages, empty, lines, children }) {
  const { items, error, more, loading, reload } = pages;
  if (error && !items) {
    return withoutRun(error) ? html`<${NoRun} />` : html`<${Fault} error=${error} retry=${reload} />`;
  }
  if (!items) return html`<${Waiting} lines=${lines} />`;
  if (!items.length) return empty;
  return html`${children(items)} ${error && html`<${Fault} error=${error} />`}
    ${more && html`<button class="button more" disabled=${loading} onClick=${more}>${loading ? "Loading…" : "Show more"}</button>`}`;
}

/** A part of a view with a heading. */
export const Panel = ({ title, note, aside, children, wide, full }) =>
  html`<section class=${`panel${wide ? " wide" : ""}${full ? " full" : ""}`}>
    <div class="panel-head">
      <div><h2>${title}</h2>${note && html`<p class="note">${note}</p>`}</div>
      ${aside}
    </div>
    ${children}
  </section>`;

/** The title of a view, which takes the focus when the view is entered, and what stands beside it. */
export function Title({ children, aside, above }) {
  const heading = useRef();
  useEffect(() => {
    document.title = `${heading.current.textContent} · Customers, counted once`;
  });
  return html`<div class="title">
    <div>${above && html`<p class="above">${above}</p>`}<h1 tabindex="-1" ref=${heading}>${children}</h1></div>
    ${aside}
  </div>`;
}

/** Chooses one of a few: `options` are [value, label], `choose` is told the value. */
export const Choice = ({ label, options, value, choose }) =>
  html`<div class="choice" role="group" aria-label=${label}>
    ${options.map(
      ([option, text]) =>
        html`<button key=${option} aria-pressed=${option === value} onClick=${() => choose(option)}>${text}</button>`,
    )}
  </div>`;

/** By customer id or by person: where the view has both. */
export const ByChoice = ({ by, choose }) =>
  html`<${Choice}
    label="What is counted"
    options=${[["customer", "By customer id"], ["entity", "By person"]]}
    value=${by ?? "customer"}
    choose=${(value) => choose(value === "entity" ? "entity" : undefined)}
  />`;

/** How far something is: a share from 0 to 1, or null where only that it goes on is known. */
export const Progress = ({ label, share }) =>
  html`<progress aria-label=${label} max="1" value=${share === null ? undefined : share}></progress>`;

const STATES = { done: "good", failed: "bad", loading: "busy", running: "busy", waiting: "idle", deleted: "idle" };

/** The status of an upload or a run. */
export const Status = ({ of }) => html`<span class=${`status ${STATES[of] ?? "idle"}`}>${of}</span>`;

/** A table that becomes a list of cards where it does not fit; `columns` are [heading, cell of a row, class]. */
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

/** Width of an element as it is laid out: [ref, width]. */
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

const NOT_COMPARED = ["id", "customer_id", "source", "created_at", "updated_at"];
const same = (a, b) => String(a).trim().toLowerCase() === String(b).trim().toLowerCase();

/**
 * Records side by side, one in each column, with what differs marked: from the golden record, {field: {value, source, rule}},
 * where it is given; else from the value that more than half of the records have, and where there is no such, all of them.
 */
export function Records({ records, golden, label = "Records side by side" }) {
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
                <a href=${link(`/customers/${record.customer_id}`)}>customer ${record.customer_id}</a>
                <small>record ${record.id}, ${when(record.created_at)}</small>
              </th>`,
          )}
        </tr>
      </thead>
      <tbody>
        ${fields.map((field) => {
          const usual = golden?.[field]?.value ?? usualOf(records.map((record) => record[field]).filter((value) => value ?? false));
          return html`<tr key=${field}>
            <th scope="row">${plain(field)}</th>
            ${golden && html`<${Golden} of=${golden[field]} />`}
            ${records.map((record) => html`<${Value} value=${record[field]} usual=${usual} key=${record.id} />`)}
          </tr>`;
        })}
      </tbody>
    </table>
  </div>`;
}

const Golden = ({ of }) =>
  html`<td class="golden">
    ${of?.value ?? false
      ? html`<${Text}>${of.value}<//>${of.rule && html`<small>${plain(of.rule)}${of.source && `, from ${of.source}`}</small>`}`
      : html`<span class="none">none</span>`}
  </td>`;

function Value({ value, usual }) {
  if (value === null || value === undefined) return html`<td class="none">none</td>`;
  if (same(value, usual)) return html`<td><${Text}>${value}<//></td>`;
  return html`<td class="differs"><span class="sign" aria-hidden="true">≠</span><${Text}>${value}<//><span class="unseen"> differs</span></td>`;
}

/** The value that more than half of the records have; undefined where there is none. */
function usualOf(values) {
  return values.find((value) => values.filter((other) => same(value, other)).length * 2 > values.length);
}
