// The views of uploads: sending files to presigned URLs, their progress, and the status of each upload.

import { call, send, usePagedList, useResponse } from "./api.js?v=";
import { html, useEffect, useId, useRef, useState } from "./lib.js?v=";
import { Mapping, Understood } from "./mapping.js?v=";
import { Choice, Empty, ErrorMessage, Loaded, PagedList, Panel, Progress, Status, Table, Text, Title, counted, link, number, when } from "./parts.js?v=";
import { COMPARED, Decision } from "./previews.js?v=";
import { Findings } from "./rejected.js?v=";

const POLL = 700;
const HASHED_BYTES = 2 ** 28;
const ENDED = ["done", "failed", "deleted"];
/** Statuses that change only if somebody does something. */
const AT_REST = [...ENDED, "needs_mapping", ...COMPARED];
const WORKBOOK = /\.(xlsx|xlsm|ods)$/i;
const MODES = [["add", "Add records"], ["replace", "Replace all records"], ["upsert", "Update records"]];
/** What each mode does: in one sentence, and in the details of an upload. */
const EFFECTS = {
  add: ["Every row becomes a record, beside those that the source has already.", "add records"],
  replace: ["The file has everything that the source holds now: records that are not in it are removed. You see what would change first.", "replace all records of the source"],
  upsert: ["The file has what changed: each row replaces the record with its id or is added, and rows that are marked as deleted remove it. You see what would change first.", "update the records of the rows"],
};
const PATHS = { add: "uploads", replace: "uploads/snapshots", upsert: "uploads/upserts" };

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

/** Whether an upload may still change. After 15 minutes the presigned URL of one whose file has not come has expired. */
const isInProgress = (upload) => !AT_REST.includes(upload.status) && (upload.started_at !== null || Date.now() - Date.parse(upload.created_at) < 9e5);

/** The source of an upload's rows. */
const Source = ({ upload }) => html`<span>${upload.source ?? "from each row"}${upload.source_guessed && html` <span class="note">(guessed)</span>`}</span>`;

const COLUMNS = [
  ["Upload", (upload) => html`<a href=${link(`/uploads/${upload.id}`)}>${upload.id}</a>`],
  ["File", (upload) => html`<${Text}>${fileOf(upload)}<//>`, "long"],
  ["Source", (upload) => html`<${Source} upload=${upload} />`],
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
  const [strict, setStrict] = useState(false);
  const [review, setReview] = useState(false);
  const [sheet, setSheet] = useState("");
  const [over, setOver] = useState(false);
  const [files, setFiles] = useState([]);
  const input = useRef();
  const name = useId();
  const sheetName = useId();
  const missing = mode !== "add" && !source;
  const add = (chosen) => {
    setOver(false);
    const sheetOf = (file) => (WORKBOOK.test(file.name) ? sheet.trim() : "");
    if (!missing) setFiles((before) => [...[...chosen].map((file) => ({ file, source, mode, strict, review, sheet: sheetOf(file), key: crypto.randomUUID() })), ...before]);
  };
  return html`<section class="panel wide" aria-label="Upload a file">
    <div class="controls">
      <label for=${name}>Source
        <select id=${name} value=${source ?? ""} onChange=${(event) => setSource(event.target.value || null)}>
          <option value="">from each row, or guessed</option>
          ${sources.map((one) => html`<option key=${one} value=${one}>${one}</option>`)}
        </select>
      </label>
      <${Choice} label="Mode" options=${MODES} value=${mode} choose=${setMode} />
    </div>
    <p class="note">${EFFECTS[mode][0]}</p>
    <details class="options">
      <summary>Options</summary>
      <div class="controls">
        <label><input type="checkbox" checked=${review} onChange=${(event) => setReview(event.target.checked)} /> Check the columns before loading</label>
        <label><input type="checkbox" checked=${strict} onChange=${(event) => setStrict(event.target.checked)} /> Reject rows whose email is not a valid address</label>
        <label for=${sheetName}>Sheet (workbooks only)
          <input id=${sheetName} value=${sheet} maxlength="255" placeholder="first with a table" onInput=${(event) => setSheet(event.target.value)} />
        </label>
      </div>
    </details>
    <div
      class=${over ? "drop over" : "drop"}
      onDragOver=${(event) => (event.preventDefault(), setOver(true))}
      onDragLeave=${() => setOver(false)}
      onDrop=${(event) => (event.preventDefault(), add(event.dataTransfer.files))}
    >
      <p><strong>Drop a file here</strong> or${" "}
        <button class="button primary" disabled=${missing} onClick=${() => input.current.click()}>Choose a file</button></p>
      <p class="note">${missing ? "Select the source of the records in the file." : "CSV, JSON, NDJSON, Excel (xlsx), ODS or Parquet, optionally compressed as .gz or .zst: an export of your CRM as it is, or columns customer_id, name, email, and source unless it is selected above."}</p>
      <input type="file" accept=${FILES} multiple hidden ref=${input} aria-label="File" onChange=${(event) => (add(event.target.files), (event.target.value = ""))} />
    </div>
    ${files.map((sent) => html`<${Sending} key=${sent.key} ...${sent} sources=${sources} started=${started} />`)}
  </section>`;
}

/** The progress of one file: checking whether it was loaded before, sending it, then loading its rows. */
function Sending({ sources, started, ...file }) {
  const [share, setShare] = useState(0);
  const [error, setError] = useState(null);
  const [upload, setUpload] = useState(null);
  const [question, setQuestion] = useState(null);
  const mounted = useRef(true);
  const failed = (problem) => mounted.current && setError(problem);
  // The presigned URL of a question that was left open for long may have expired.
  const again = () => (Date.now() < question.until ? sendTo(question) : request(file).then(sendTo)).catch(failed);
  const sendTo = async ({ id, url }) => {
    setQuestion(null);
    await send(url, file.file, (sent) => mounted.current && setShare(sent));
    if (!mounted.current) return;
    setShare(1);
    started();
    await follow(id);
  };
  const follow = async (id) => {
    for (let status = ""; mounted.current && !AT_REST.includes(status); ) {
      const current = (await call(`uploads/${id}`)).body;
      status = current.status;
      if (mounted.current) setUpload(current);
      await new Promise((resolve) => setTimeout(resolve, POLL));
    }
    started();
  };
  useEffect(() => {
    request(file).then((expected) => (expected.warnings.length ? mounted.current && setQuestion(expected) : sendTo(expected))).catch(failed);
    return () => {
      mounted.current = false;
    };
  }, []);
  const continued = ({ body }) => {
    setUpload(body);
    follow(body.id).catch((problem) => mounted.current && setError(problem));
  };
  const discarded = () => {
    setUpload({ ...upload, status: "deleted", reason: "Discarded. Nothing was loaded." });
    started();
  };
  const ended = upload && ENDED.includes(upload.status);
  const step = share < 1 ? "Sending" : !upload || upload.status === "waiting" ? "Waiting to start" : ended ? "" : "Loading rows";
  return html`<div class="sending" aria-live="polite">
    <div class="line"><strong><${Text}>${file.file.name}<//></strong>${upload && html`<${Status} of=${upload.status} />`}</div>
    ${error ? html`<${ErrorMessage} error=${error} />` : question
      ? html`<${LoadAgain} expected=${question} again=${again} />`
      : ended
      ? html`<${Outcome} upload=${upload} />`
      : upload?.status === "needs_mapping" ? html`<${Mapping} upload=${upload} sources=${sources} done=${continued} />`
      : COMPARED.includes(upload?.status) ? html`<${Decision} upload=${upload} continued=${(body) => continued({ body })} discarded=${discarded} />`
      : html`<${Progress} label=${step} share=${share < 1 ? share : null} />
          <p class="note">${step}${share < 1 ? ` · ${Math.round(share * 100)}%` : upload ? ` · ${counted(upload.rows, "row")}` : ""}</p>`}
  </div>`;
}

/** Requests an upload, which is previewed if it replaces or removes records. The response has warnings if the same content was loaded before. */
async function request({ file, source, mode, strict, review, sheet }) {
  const json = { filename: file.name, mode, size: file.size, strict, review_mapping: review, dry_run: mode !== "add", ...(source ? { source } : {}), ...(sheet ? { sheet } : {}) };
  // The browser hashes whole files only, which it has to hold in memory.
  if (file.size <= HASHED_BYTES) json.sha256 = hex(await crypto.subtle.digest("SHA-256", await file.arrayBuffer()));
  const { body } = await call(PATHS[mode], { method: "POST", json });
  return { ...body, until: Date.now() + 900 * body.expires_in };
}

const hex = (buffer) => [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** Asks whether a file is to be sent whose content was loaded before. `expected` is the upload that waits for it. */
function LoadAgain({ expected, again }) {
  const [cancelled, setCancelled] = useState(false);
  const cancel = () => {
    setCancelled(true);
    // An upload that is not deleted ends by itself within a day.
    call(`uploads/${expected.id}`, { method: "DELETE" }).catch(() => {});
  };
  const [{ upload_id: id }] = expected.warnings;
  if (cancelled) return html`<p class="note">Not sent.</p>`;
  return html`<div class="warning" role="alert">
    <p>The same content was loaded before: <a href=${link(`/uploads/${id}`)}>upload ${id}</a>. Load it again?</p>
    <div class="controls">
      <button class="button" onClick=${again}>Load again</button>
      <button class="button primary" onClick=${cancel}>Cancel</button>
    </div>
  </div>`;
}

const Outcome = ({ upload }) =>
  html`<p>
    ${upload.status === "done"
      ? html`${counted(upload.accepted, "record")} accepted${upload.rejected ? html`, <strong class="bad">${counted(upload.rejected, "row")} rejected</strong>` : ""}. `
      : html`<strong class="bad"><${Text}>${upload.reason ?? "The upload failed."}<//></strong> `}
    ${upload.source_guessed && html`The source was guessed from the column names: <strong>${upload.source}</strong>. `}
    <a href=${link(`/uploads/${upload.id}`)}>Show upload ${upload.id}</a>
  </p>`;

/** The view of one upload. */
export function Upload({ id, sources, go }) {
  const response = useResponse(`uploads/${encodeURIComponent(id)}`, { every: (upload) => (isInProgress(upload) ? POLL : null) });
  return html`
    <${Title} above=${html`<a href=${link("/uploads")}>Uploads</a>`}>Upload ${id}<//>
    <${Loaded} response=${response} lines=${6}>
      ${(upload) => html`<${UploadDetails} upload=${upload} sources=${sources} reload=${response.reload} deleted=${() => go("/uploads")} />`}
    <//>
  `;
}

const CHANGES = [
  ["customers", "added", "Customers added"],
  ["customers", "new", "New to all sources"],
  ["customers", "removed", "Customers removed"],
  ["customers", "unchanged", "Customers unchanged"],
];
const RECORD_CHANGES = [
  ["records", "added", "Records added"],
  ["records", "changed", "Records changed"],
  ["records", "removed", "Records removed"],
  ["records", "unchanged", "Records unchanged"],
];

function UploadDetails({ upload, sources, reload, deleted }) {
  const counts = [["Rows", upload.rows], ["Accepted", upload.accepted], ["Rejected", upload.rejected], ...(upload.mode === "add" ? CHANGES : [...CHANGES, ...RECORD_CHANGES]).map(([of, change, label]) => [label, upload[of]?.[change] ?? null])];
  return html`
    ${isInProgress(upload) && html`<${Progress} label="Loading" share=${null} />`}
    ${upload.status === "needs_mapping" && html`<${Panel} wide title="Which column is which?" note="Nothing is loaded until the columns are certain."><${Mapping} upload=${upload} sources=${sources} done=${reload} /><//>`}
    ${COMPARED.includes(upload.status) && html`<${Panel} wide title="What this file would do"><${Decision} upload=${upload} continued=${reload} discarded=${deleted} key=${upload.started_at} /><//>`}
    ${upload.reason && !["needs_mapping", ...COMPARED].includes(upload.status) && html`<div class="error" role="alert"><strong>${upload.status === "failed" ? "The upload failed" : "Note"}</strong><p><${Text}>${upload.reason}<//></p></div>`}
    ${!["needs_mapping", ...COMPARED].includes(upload.status) && html`<dl class="tiles small" aria-live="polite">
      ${counts.filter(([, value]) => value !== null).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd><strong>${number(value)}</strong></dd></div>`)}
    </dl>`}
    <div class="panels">
      <${Panel} title="File" aside=${html`<${Status} of=${upload.status} />`}>
        <dl class="facts">
          <div><dt>Name</dt><dd><${Text}>${fileOf(upload)}<//></dd></div>
          <div><dt>Source</dt><dd>${upload.source ?? "from each row"}${upload.source_guessed && ", guessed from the column names"}</dd></div>
          ${upload.strict && html`<div><dt>Emails</dt><dd>rows without a valid address are rejected</dd></div>`}
          <div><dt>Mode</dt><dd>${EFFECTS[upload.mode][1]}</dd></div>
          <div><dt>Created</dt><dd>${when(upload.created_at)}</dd></div>
          <div><dt>Finished</dt><dd>${when(upload.finished_at)}</dd></div>
        </dl>
        ${["done", "needs_mapping"].includes(upload.status) &&
        (upload.records?.changed || upload.records?.removed
          ? html`<p class="note">This upload cannot be deleted: the records that it changed or removed cannot be restored.</p>`
          : html`<${Removal} upload=${upload} deleted=${deleted} />`)}
      <//>
      ${upload.mapping && upload.status !== "needs_mapping" && html`<${Understood} mapping=${upload.mapping} />`}
      <${Findings} upload=${upload} key=${upload.id} />
    </div>
  `;
}

/** A button that deletes an upload, with its records if it has any, after a confirmation. */
function Removal({ upload: { id, status }, deleted }) {
  const [confirming, setConfirming] = useState(false);
  const [error, setError] = useState(null);
  const remove = () => call(`uploads/${id}`, { method: "DELETE" }).then(deleted, setError);
  if (error) return html`<${ErrorMessage} error=${error} retry=${remove} />`;
  if (!confirming) return html`<button class="button danger" onClick=${() => setConfirming(true)}>${status === "done" ? "Delete records" : "Delete upload"}</button>`;
  return html`<div class="controls"><span>${status === "done" ? "Delete all records of this upload?" : "Delete this upload without loading it?"}</span>
    <button class="button danger" onClick=${remove}>Delete</button>
    <button class="button" onClick=${() => setConfirming(false)}>Cancel</button></div>`;
}
