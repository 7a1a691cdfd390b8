// The views of uploads: sending files to presigned URLs, their progress, and the status of each upload.

import { call, head, send, usePagedList, useResponse } from "./api.js?v=";
import { csvParseRows, html, useEffect, useId, useRef, useState } from "./lib.js?v=";
import { Choice, Empty, ErrorMessage, Loaded, PagedList, Panel, Progress, Status, Table, Text, Title, counted, link, number, when } from "./parts.js?v=";

const POLL = 700;
const REJECTED_BYTES = 65536;
const REJECTED_ROWS = 20;
const ENDED = ["done", "failed", "deleted"];
const MODES = [["add", "Add records"], ["replace", "Replace all records"]];

const fileOf = (upload) => upload.object_key?.replace(/^.*\/\d+-|^.*\//, "") ?? "sent by API";

/** The view of all uploads, with an area to drop files. */
export function Uploads({ sources }) {
  const list = usePagedList("uploads", { limit: 25 });
  const [sent, setSent] = useState(false);
  const inProgress = sent || list.items?.some(isInProgress);
  const latest = useResponse(inProgress ? "uploads" : null, { query: { limit: 25 }, every: (uploads) => (uploads.some(isInProgress) ? 1500 : null) });
  const started = () => {
    setSent(true);
    latest.reload();
  };
  const known = new Map((latest.body ?? []).map((upload) => [upload.id, upload]));
  const newer = (latest.body ?? []).filter((upload) => !list.items?.some((item) => item.id === upload.id));
  const items = list.items && [...newer, ...list.items.map((item) => known.get(item.id) ?? item)];
  return html`
    <${Title}>Uploads<//>
    <${DropArea} sources=${sources} started=${started} />
    <${Panel} wide title="History" note="Newest first.">
      <${PagedList} list=${{ ...list, items }} lines=${6} empty=${html`<${Empty} title="No uploads yet">Drop a file above to upload it.<//>`}>
        ${(uploads) => html`<${Table} caption="Uploads" columns=${COLUMNS} rows=${uploads} keyOf=${(upload) => upload.id} />`}
      <//>
    <//>
  `;
}

/** Whether an upload may still change. After 15 minutes its presigned URL has expired. */
const isInProgress = (upload) => !ENDED.includes(upload.status) && Date.now() - Date.parse(upload.created_at) < 9e5;

const COLUMNS = [
  ["Upload", (upload) => html`<a href=${link(`/uploads/${upload.id}`)}>${upload.id}</a>`],
  ["File", (upload) => html`<${Text}>${fileOf(upload)}<//>`, "long"],
  ["Source", (upload) => upload.source ?? "from each row"],
  ["Status", (upload) => html`<${Status} of=${upload.status} />`],
  ["Accepted", (upload) => number(upload.accepted), "right"],
  ["Rejected", (upload) => (upload.rejected ? html`<strong class="bad">${number(upload.rejected)}</strong>` : "0"), "right"],
  ["Created", (upload) => when(upload.created_at)],
];

/** The extensions that the file picker offers. The content decides how a file is read. */
const FILES = ".csv,.tsv,.txt,.json,.jsonl,.ndjson,.xlsx,.xlsm,.ods,.parquet,.gz,.zst";

/** An area to drop or choose files. The progress of each file is shown below it. */
function DropArea({ sources, started }) {
  const [source, setSource] = useState(null);
  const [mode, setMode] = useState("add");
  const [over, setOver] = useState(false);
  const [files, setFiles] = useState([]);
  const input = useRef();
  const name = useId();
  const missing = mode === "replace" && !source;
  const add = (chosen) => {
    setOver(false);
    if (!missing) setFiles((before) => [...[...chosen].map((file) => ({ file, source, mode, key: crypto.randomUUID() })), ...before]);
  };
  return html`<section class="panel wide" aria-label="Upload a file">
    <div class="controls">
      <label for=${name}>Source
        <select id=${name} value=${source ?? ""} onChange=${(event) => setSource(event.target.value || null)}>
          <option value="">from each row</option>
          ${sources.map((one) => html`<option key=${one} value=${one}>${one}</option>`)}
        </select>
      </label>
      <${Choice} label="Mode" options=${MODES} value=${mode} choose=${setMode} />
    </div>
    <div
      class=${over ? "drop over" : "drop"}
      onDragOver=${(event) => (event.preventDefault(), setOver(true))}
      onDragLeave=${() => setOver(false)}
      onDrop=${(event) => (event.preventDefault(), add(event.dataTransfer.files))}
    >
      <p><strong>Drop a file here</strong> or${" "}
        <button class="button primary" disabled=${missing} onClick=${() => input.current.click()}>Choose a file</button></p>
      <p class="note">${missing ? "Select the source whose records are to be replaced." : "CSV, JSON, NDJSON, Excel (xlsx), ODS or Parquet, optionally compressed as .gz or .zst: an export of your CRM as it is, or columns customer_id, name, email, and source unless it is selected above."}</p>
      <input type="file" accept=${FILES} multiple hidden ref=${input} aria-label="File" onChange=${(event) => (add(event.target.files), (event.target.value = ""))} />
    </div>
    ${files.map((sent) => html`<${Sending} key=${sent.key} ...${sent} started=${started} />`)}
  </section>`;
}

/** The progress of one file: sending it, then loading its rows. */
function Sending({ file, source, mode, started }) {
  const [share, setShare] = useState(0);
  const [error, setError] = useState(null);
  const [upload, setUpload] = useState(null);
  useEffect(() => {
    let unmounted = false;
    (async () => {
      const json = { filename: file.name, mode, size: file.size, ...(source ? { source } : {}) };
      const { body } = await call(mode === "replace" ? "uploads/snapshots" : "uploads", { method: "POST", json });
      await send(body.url, file, (sent) => !unmounted && setShare(sent));
      setShare(1);
      started();
      for (let status = ""; !unmounted && !ENDED.includes(status); ) {
        const current = (await call(`uploads/${body.id}`)).body;
        status = current.status;
        if (!unmounted) setUpload(current);
        await new Promise((resolve) => setTimeout(resolve, POLL));
      }
      started();
    })().catch((problem) => !unmounted && setError(problem));
    return () => {
      unmounted = true;
    };
  }, []);
  const ended = upload && ENDED.includes(upload.status);
  const step = share < 1 ? "Sending" : !upload || upload.status === "waiting" ? "Waiting to start" : ended ? "" : "Loading rows";
  return html`<div class="sending" aria-live="polite">
    <div class="line"><strong><${Text}>${file.name}<//></strong>${upload && html`<${Status} of=${upload.status} />`}</div>
    ${error ? html`<${ErrorMessage} error=${error} />` : ended
      ? html`<${Outcome} upload=${upload} />`
      : html`<${Progress} label=${step} share=${share < 1 ? share : null} />
          <p class="note">${step}${share < 1 ? ` · ${Math.round(share * 100)}%` : upload ? ` · ${counted(upload.rows, "row")}` : ""}</p>`}
  </div>`;
}

const Outcome = ({ upload }) =>
  html`<p>
    ${upload.status === "done"
      ? html`${counted(upload.accepted, "record")} accepted${upload.rejected ? html`, <strong class="bad">${counted(upload.rejected, "row")} rejected</strong>` : ""}. `
      : html`<strong class="bad"><${Text}>${upload.reason ?? "The upload failed."}<//></strong> `}
    <a href=${link(`/uploads/${upload.id}`)}>Show upload ${upload.id}</a>
  </p>`;

/** The view of one upload. */
export function Upload({ id, go }) {
  const response = useResponse(`uploads/${encodeURIComponent(id)}`, { every: (upload) => (isInProgress(upload) ? POLL : null) });
  return html`
    <${Title} above=${html`<a href=${link("/uploads")}>Uploads</a>`}>Upload ${id}<//>
    <${Loaded} response=${response} lines=${6}>
      ${(upload) => html`<${UploadDetails} upload=${upload} deleted=${() => go("/uploads")} />`}
    <//>
  `;
}

const CHANGES = [["added", "Customers added"], ["new", "New to all sources"], ["removed", "Customers removed"], ["unchanged", "Customers unchanged"]];

function UploadDetails({ upload, deleted }) {
  const counts = [["Rows", upload.rows], ["Accepted", upload.accepted], ["Rejected", upload.rejected], ...CHANGES.map(([change, label]) => [label, upload.customers?.[change] ?? null])];
  return html`
    ${isInProgress(upload) && html`<${Progress} label="Loading" share=${null} />`}
    ${upload.reason && html`<div class="error" role="alert"><strong>${upload.status === "failed" ? "The upload failed" : "Note"}</strong><p><${Text}>${upload.reason}<//></p></div>`}
    <dl class="tiles small" aria-live="polite">
      ${counts.filter(([, value]) => value !== null).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd><strong>${number(value)}</strong></dd></div>`)}
    </dl>
    <div class="panels">
      <${Panel} title="File" aside=${html`<${Status} of=${upload.status} />`}>
        <dl class="facts">
          <div><dt>Name</dt><dd><${Text}>${fileOf(upload)}<//></dd></div>
          <div><dt>Source</dt><dd>${upload.source ?? "from each row"}</dd></div>
          <div><dt>Mode</dt><dd>${upload.mode === "replace" ? "replace all records of the source" : "add records"}</dd></div>
          <div><dt>Created</dt><dd>${when(upload.created_at)}</dd></div>
          <div><dt>Finished</dt><dd>${when(upload.finished_at)}</dd></div>
        </dl>
        ${upload.status === "done" && html`<${Removal} id=${upload.id} deleted=${deleted} />`}
      <//>
      ${upload.reasons.length > 0 && html`<${Found} title="Reasons for rejection" note="A row may have several." rows=${upload.reasons} />`}
      ${upload.warnings.length > 0 && html`<${Found} title="Warnings" note="These rows were accepted." rows=${upload.warnings} />`}
      ${upload.rejected_url && html`<${Rejected} url=${upload.rejected_url} count=${upload.rejected} key=${upload.id} />`}
    </div>
  `;
}

const FOUND = [
  ["Field", (found) => (found.field ? html`<${Text}>${found.field}<//>` : "whole row")],
  ["Reason", (found) => html`<${Text}>${found.reason}<//>`, "long"],
  ["Rows", (found) => number(found.rows), "right"],
  ["First line", (found) => number(found.example_line), "right"],
];

/** What was found in the rows of a file, by field and reason. */
const Found = ({ title, note, rows }) =>
  html`<${Panel} wide title=${title} note=${note}>
    <${Table} caption=${title} columns=${FOUND} rows=${rows} keyOf=${(found) => `${found.field} ${found.reason}`} />
  <//>`;

/** The first rejected rows with their reasons, and a link to the file with all of them. */
function Rejected({ url, count }) {
  const [response, setResponse] = useState({ body: null, error: null });
  useEffect(() => {
    head(url, REJECTED_BYTES).then(
      (text) => setResponse({ body: csvParseRows(text.replace(/^\ufeff/, "")), error: null }),
      (error) => setResponse({ body: null, error }),
    );
  }, []);
  const download = html`<a class="button" href=${url} download>Download all</a>`;
  return html`<${Panel} wide title=${`${counted(count, "rejected row")}`} note="Each row with its line, field and reason." aside=${download}>
    <${Loaded} response=${response} lines=${4}>
      ${([header, ...rows]) => {
        const shown = rows.slice(0, REJECTED_ROWS);
        return html`<div class="scroll" tabindex="0" role="region" aria-label="Rejected rows">
          <table class="rejected">
            <thead><tr>${header.map((name) => html`<th scope="col" key=${name}>${name}</th>`)}</tr></thead>
            <tbody>${shown.map((row, index) => html`<tr key=${index}>${row.map((cell, at) => html`<td key=${at}><${Text}>${cell}<//></td>`)}</tr>`)}</tbody>
          </table>
        </div>`;
      }}
    <//>
  <//>`;
}

/** A button that deletes the records of an upload after a confirmation. */
function Removal({ id, deleted }) {
  const [confirming, setConfirming] = useState(false);
  const [error, setError] = useState(null);
  const remove = () => call(`uploads/${id}`, { method: "DELETE" }).then(deleted, setError);
  if (error) return html`<${ErrorMessage} error=${error} retry=${remove} />`;
  if (!confirming) return html`<button class="button danger" onClick=${() => setConfirming(true)}>Delete records</button>`;
  return html`<div class="controls"><span>Delete all records of this upload?</span>
    <button class="button danger" onClick=${remove}>Delete</button>
    <button class="button" onClick=${() => setConfirming(false)}>Cancel</button></div>`;
}
