// The column mapping of an upload: which column of its file feeds which field, with a preview of the records.

import { call } from "./api.js?v=";
import { html, useEffect, useId, useState } from "./lib.js?v=";
import { ErrorMessage, Panel, Table, Text, counted, plain, written } from "./parts.js?v=";

const PAUSE = 250;
const IGNORE = "ignore";
const GENERATE = "generate";
/** What the form says of a column that is kept as an attribute. */
const KEEP = "keep";

/** The fields of a record that a column may feed, in groups. */
const FIELDS = [
  ["Identity", ["customer_id", "source"]],
  ["Person", ["name", "first_name", "last_name", "date_of_birth"]],
  ["Contact", ["email", "phone", "company", "address", "city", "postcode", "country"]],
  ["Further", ["modified_at", "attributes", "deleted"]],
];

const ORDERS = [["", "as the values tell"], ["DMY", "day, month, year"], ["MDY", "month, day, year"], ["YMD", "year, month, day"]];

/** The mapping that the form states, as the API takes it. */
function stated({ fields, ids, order, source, save }, upload) {
  const fed = Object.values(fields);
  return {
    columns: Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field === KEEP ? IGNORE : field])),
    id: fed.includes("customer_id") ? null : ids === GENERATE ? { generate: true } : { column: ids },
    date_order: (fed.includes("date_of_birth") && order) || null,
    keep: Object.keys(fields).filter((name) => fields[name] === KEEP),
    save,
    ...(upload.source || !source ? {} : { source }),
  };
}

/** The form that states the mapping of an upload which needs one. `done` is called when the upload continues. */
export function Mapping({ upload, sources, done }) {
  const { columns, id, date_order: order, keep } = upload.mapping;
  const [form, setForm] = useState({
    fields: Object.fromEntries(columns.map((column) => [column.name, keep.includes(column.name) ? KEEP : column.field ?? IGNORE])),
    ids: id?.column ?? GENERATE,
    order: order ?? "",
    source: "",
    save: false,
  });
  const [preview, setPreview] = useState({ body: null, error: null });
  const [sending, setSending] = useState({ busy: false, error: null });
  const request = stated(form, upload);
  const change = (changes) => setForm({ ...form, ...changes });
  const path = `uploads/${upload.id}/mapping`;
  useEffect(() => {
    const aborted = new AbortController();
    const timer = setTimeout(() => {
      call(`${path}/preview`, { method: "POST", json: { ...request, save: false }, signal: aborted.signal }).then(
        ({ body }) => setPreview({ body, error: null }),
        (error) => error.name !== "AbortError" && setPreview({ body: null, error }),
      );
    }, PAUSE);
    return () => {
      clearTimeout(timer);
      aborted.abort();
    };
  }, [JSON.stringify({ ...request, save: false })]);
  const load = () => {
    setSending({ busy: true, error: null });
    call(path, { method: "PUT", json: request }).then(done, (error) => setSending({ busy: false, error }));
  };
  return html`<div class="mapping">
    <p class="note"><${Text}>${upload.reason}<//></p>
    <${Table} caption="Columns of the file" columns=${mappedColumns(form.fields, (fields) => change({ fields }))} rows=${columns} keyOf=${(column) => column.name} />
    <div class="controls">
      ${!upload.source && html`<${Select} label="Source of all rows" value=${form.source} choose=${(source) => change({ source })}
        options=${[["", "from each row"], ...sources.map((source) => [source, source])]} />`}
      ${request.id && html`<${Select} label="Customer ids" value=${form.ids} choose=${(ids) => change({ ids })}
        options=${[[GENERATE, "made from the content of each row"], ...columns.map(({ name }) => [name, `column ${name}`])]} />`}
      ${Object.values(form.fields).includes("date_of_birth") && html`<${Select} label="Order of dates" value=${form.order}
        choose=${(order) => change({ order })} options=${ORDERS} />`}
    </div>
    <${Preview} of=${preview} />
    ${sending.error && html`<${ErrorMessage} error=${sending.error} />`}
    <div class="controls">
      <button class="button primary" disabled=${sending.busy || Boolean(preview.error)} onClick=${load}>Load records</button>
      <label class="check"><input type="checkbox" checked=${form.save} disabled=${!upload.source && !form.source}
        onChange=${({ target }) => change({ save: target.checked })} />Use for later files of this source</label>
    </div>
  </div>`;
}

const mappedColumns = (fields, change) => [
  ["Column", ({ name }) => html`<strong><${Text}>${name}<//></strong>`],
  ["Values", ({ samples }) => html`<${Samples} of=${samples} />`, "long"],
  ["Field", ({ name }) => html`<${FieldSelect} name=${name} value=${fields[name]} choose=${(field) => change({ ...fields, [name]: field })} />`],
  ["Reason", ({ name, field, confidence, reason }) => ((field ?? IGNORE) === fields[name] ? html`<span>${reason}<${Sure} of=${confidence} /></span>` : "Chosen here"), "long"],
];

const Samples = ({ of }) =>
  of.length ? html`<ul class="samples">${of.map((value) => html`<li key=${value}><${Text}>${value}<//></li>`)}</ul>` : html`<span class="none">empty</span>`;

const Sure = ({ of }) => html`<small class="sure">${of >= 0.8 ? "sure" : of >= 0.5 ? "less sure" : "not sure"}</small>`;

const FieldSelect = ({ name, value, choose }) =>
  html`<select aria-label=${`Field of ${name}`} class=${value === IGNORE ? "none" : ""} value=${value} onChange=${({ target }) => choose(target.value)}>
    <option value=${IGNORE}>ignore</option>
    <option value=${KEEP}>keep as an attribute</option>
    ${FIELDS.map(([group, names]) => html`<optgroup label=${group} key=${group}>${names.map((field) => html`<option value=${field} key=${field}>${plain(field)}</option>`)}</optgroup>`)}
  </select>`;

function Select({ label, options, value, choose }) {
  const id = useId();
  return html`<label for=${id}>${label}
    <select id=${id} value=${value} onChange=${({ target }) => choose(target.value)}>
      ${options.map(([option, text]) => html`<option value=${option} key=${option}>${text}</option>`)}
    </select>
  </label>`;
}

/** The first records as they will be stored, or why the mapping is not valid. */
function Preview({ of: { body, error } }) {
  if (error) return html`<${ErrorMessage} error=${error} />`;
  if (!body) return html`<p class="note" role="status">Reading the first rows…</p>`;
  const fields = [...new Set(body.records.flatMap(Object.keys))].filter((field) => body.records.some((record) => record[field] !== null));
  return html`<h3>Preview</h3>
    <p class="note" role="status">${counted(body.records.length, "record")} of the first rows as they will be stored${body.rejected.length ? `, and ${counted(body.rejected.length, "rejected row")}` : ""}.</p>
    ${body.records.length > 0 && html`<div class="scroll" tabindex="0" role="region" aria-label="Preview">
      <table class="rejected">
        <thead><tr>${fields.map((field) => html`<th scope="col" key=${field}>${plain(field)}</th>`)}</tr></thead>
        <tbody>${body.records.map((record, row) => html`<tr key=${row}>${fields.map((field) => html`<td key=${field}>${record[field] === null || record[field] === undefined ? html`<span class="none">none</span>` : html`<${Text}>${written(record[field])}<//>`}</td>`)}</tr>`)}</tbody>
      </table>
    </div>`}
    ${body.rejected.length > 0 && html`<ul class="plain problems">${body.rejected.map((row) => html`<li key=${row.line}><span class="bad">Line ${row.line}</span> <${Text}>${row.reason}<//></li>`)}</ul>`}`;
}

const UNDERSTOOD = [
  ["Column", ({ name }) => html`<${Text}>${name}<//>`],
  ["Field", ({ field }) => (field ? plain(field) : html`<span class="none">ignored</span>`)],
  ["Reason", ({ reason }) => reason, "long"],
];

/** What the columns of a file were taken for, when it was loaded. */
export const Understood = ({ mapping }) =>
  html`<${Panel} title="Columns" note="What the columns of the file were taken for.">
    <details><summary>${counted(mapping.columns.filter(({ field }) => field).length, "column")} of ${mapping.columns.length} used</summary>
      <${Table} caption="Columns" columns=${UNDERSTOOD} rows=${mapping.columns} keyOf=${(column) => column.name} />
    </details>
  <//>`;
