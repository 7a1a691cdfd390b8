// An upload that is previewed or held: what it would do, with examples, and the decision about it.

import { call, useResponse } from "./api.js?v=";
import { html, useState } from "./lib.js?v=";
import { ErrorMessage, Loaded, Table, Text, counted, customerPath, link, number, plain, written } from "./parts.js?v=";

/** The statuses of an upload that was compared and not loaded. */
export const COMPARED = ["previewed", "held"];

const FIRST = 5;
const TIMES = ["created_at", "updated_at"];
const OWN_COLUMNS = ["id", "customer_id", "source", ...TIMES];

/** The kinds of examples in the order in which they matter: [kind, what would happen to so many records]. */
const KINDS = [
  ["removed", (count) => `${counted(count, "record")} would be removed`],
  ["changed", (count) => `${counted(count, "record")} would be changed`],
  ["added", (count) => `${counted(count, "record")} would be added`],
];

/** What the button does that loads a file of each mode. */
const APPLY = { add: "Add records", replace: "Replace records", upsert: "Update records" };

/** The figures of an upload that was compared. */
const FIGURES = [
  ["records", "added", "Records added"],
  ["records", "changed", "Records changed"],
  ["records", "removed", "Records removed"],
  ["records", "unchanged", "Records unchanged"],
  ["customers", "added", "Customers added"],
  ["customers", "new", "New to all sources"],
  ["customers", "removed", "Customers removed"],
  ["customers", "unchanged", "Customers unchanged"],
];

/**
 * What an upload would do, and the buttons that decide about it. `continued` is called with the upload when it is to be
 * loaded, `discarded` when it was deleted.
 */
export function Decision({ upload, continued, discarded }) {
  const held = upload.status === "held";
  const examples = useResponse(`uploads/${upload.id}/examples`);
  const shown = FIGURES.filter(([of, change]) => upload.mode !== "add" || change === "added" || change === "new");
  return html`<div class="decision">
    ${upload.reason && html`<div class="warning" role="alert"><strong>${held ? "This snapshot is held" : "Look twice"}</strong><p><${Text}>${`${upload.reason}.`}<//></p></div>`}
    <p class="note">Nothing is loaded yet. If you load this file of ${counted(upload.rows, "row")}${upload.rejected ? `, of which ${number(upload.rejected)} are rejected` : ""}:</p>
    <dl class="tiles small">
      ${shown.map(([of, change, label]) => html`<div key=${label}><dt>${label}</dt><dd><strong>${number(upload[of][change])}</strong></dd></div>`)}
    </dl>
    <${Buttons} upload=${upload} continued=${continued} discarded=${discarded} />
    <${Loaded} response=${examples} lines=${4}>
      ${(body) => KINDS.filter(([kind]) => upload.records[kind]).map(([kind, title]) => html`<${Kind} key=${kind} kind=${kind} title=${title(upload.records[kind])} examples=${body[kind]} source=${upload.source} />`)}
    <//>
  </div>`;
}

function Buttons({ upload: { id, status, mode }, continued, discarded }) {
  const [sending, setSending] = useState({ busy: false, error: null });
  const held = status === "held";
  const ask = (path, method, then) => {
    setSending({ busy: true, error: null });
    call(path, { method }).then(then, (error) => setSending({ busy: false, error }));
  };
  const load = () => ask(`uploads/${id}/${held ? "release" : "apply"}`, "POST", ({ body }) => continued(body));
  const discard = () => ask(`uploads/${id}`, "DELETE", discarded);
  return html`${sending.error && html`<${ErrorMessage} error=${sending.error} />`}
    <div class="controls">
      <button class=${held ? "button danger" : "button primary"} disabled=${sending.busy} onClick=${load}>${held ? "Load anyway" : APPLY[mode]}</button>
      <button class=${held ? "button primary" : "button"} disabled=${sending.busy} onClick=${discard}>Discard</button>
    </div>`;
}

/** The examples of one kind: the first ones, and all others on demand. `source`: of all of them, if there is only one. */
function Kind({ kind, title, examples, source }) {
  const [all, setAll] = useState(false);
  const some = all ? examples : examples.slice(0, FIRST);
  const { columns, ...table } = kind === "changed" ? changes(some) : records(some);
  const named = source ? columns : [columns[0], SOURCE, ...columns.slice(1)];
  return html`<details class="kind" open=${kind !== "added"}>
    <summary>${title}</summary>
    ${some.length ? html`<div class="scroll" tabindex="0" role="region" aria-label=${title}><${Table} caption=${title} columns=${named} ...${table} /></div>` : html`<p class="note">No examples are kept.</p>`}
    ${examples.length > some.length && html`<button class="button small" onClick=${() => setAll(true)}>Show ${counted(examples.length, "example")}</button>`}
  </details>`;
}

/** The name of a field as a heading. */
const titled = (name) => plain(name).replace(/^./, (first) => first.toUpperCase());

const customer = ({ customer_id: id }) => html`<a href=${link(customerPath(id))}>${id}</a>`;
const SOURCE = ["Source", ({ source }) => html`<span class="chip">${source}</span>`];

/** The properties of a table of records: a column for each field that one of them has. */
function records(rows) {
  const fields = [...new Set(rows.flatMap(Object.keys))].filter((name) => !OWN_COLUMNS.includes(name));
  const known = fields.filter((name) => rows.some((row) => row[name] !== null));
  return {
    columns: [["Customer", customer], ...known.map((name) => [titled(name), (row) => html`<${Value} of=${row[name]} />`, "value"])],
    rows,
    keyOf: (row) => row.id ?? JSON.stringify(row),
  };
}

/** The properties of a table of changed fields. */
function changes(changed) {
  return {
    columns: [
      ["Customer", customer],
      ["Field", ({ field }) => titled(field)],
      ["Value now", ({ from }) => html`<${Value} of=${from} />`, "value"],
      ["New value", ({ to }) => html`<${Value} of=${to} />`, "value"],
    ],
    rows: changed.flatMap(({ changes: fields, ...record }) => Object.entries(fields).map(([field, { from, to }]) => ({ ...record, field, from, to }))),
    keyOf: ({ id, field }) => `${id} ${field}`,
  };
}

const Value = ({ of }) => (of === null || of === undefined ? html`<span class="none">none</span>` : html`<${Text}>${written(of)}<//>`);
