// Files: sent by a presigned URL, followed until they are loaded, and what became of each.

import { call, head, send, useAnswer, usePages } from "./api.js?v=";
import { csvParseRows, html, useEffect, useId, useRef, useState } from "./lib.js?v=";
import { Answer, Choice, Empty, Fault, Pages, Panel, Progress, Status, Table, Text, Title, counted, link, number, when } from "./parts.js?v=";

const POLL = 700;
const REJECTED_BYTES = 65536;
const REJECTED_ROWS = 20;
const ENDED = ["done", "failed", "deleted"];
const MODES = [["add", "Add"], ["replace", "Replace all of the source"]];

const fileOf = (upload) => upload.object_key?.replace(/^.*\/\d+-|^.*\//, "") ?? "sent to the API";

/** All uploads, and where to drop a file. */
export function Uploads({ sources }) {
  const pages = usePages("uploads", { limit: 25 });
  const [sent, setSent] = useState(false);
  const moving = sent || pages.items?.some(fresh);
  const latest = useAnswer(moving ? "uploads" : null, { query: { limit: 25 }, every: (uploads) => (uploads.some(fresh) ? 1500 : null) });
  const started = () => {
    setSent(true);
    latest.reload();
  };
  const known = new Map((latest.body ?? []).map((upload) => [upload.id, upload]));
  const newer = (latest.body ?? []).filter((upload) => !pages.items?.some((item) => item.id === upload.id));
  const items = pages.items && [...newer, ...pages.items.map((item) => known.get(item.id) ?? item)];
  return html`
    <${Title}>Uploads<//>
    <${Drop} sources=${sources} started=${started} />
    <${Panel} wide title="History" note="The newest first.">
      <${Pages} pages=${{ ...pages, items }} lines=${6} empty=${html`<${Empty} title="No uploads yet">Drop a file above to begin.<//>`}>
        ${(uploads) => html`<${Table} caption="Uploads" columns=${COLUMNS} rows=${uploads} keyOf=${(upload) => upload.id} />`}
      <//>
    <//>
  `;
}

/** One that is under way: a URL that nobody used in its quarter of an hour is not. */
const fresh = (upload) => !ENDED.includes(upload.status) && Date.now() - Date.parse(upload.created_at) < 9e5;

const COLUMNS = [
  ["Upload", (upload) => html`<a href=${link(`/uploads/${upload.id}`)}>${upload.id}</a>`],
  ["File", (upload) => html`<${Text}>${fileOf(upload)}<//>`, "long"],
  ["Source", (upload) => upload.source ?? "as the rows say"],
  ["Status", (upload) => html`<${Status} of=${upload.status} />`],
  ["Accepted", (upload) => number(upload.accepted), "right"],
  ["Rejected", (upload) => (upload.rejected ? html`<strong class="bad">${number(upload.rejected)}</strong>` : "0"), "right"],
  ["Sent", (upload) => when(upload.created_at)],
];

/** What the file picker offers. The content decides what a file is. */
const FILES = ".csv,.tsv,.txt,.json,.jsonl,.ndjson,.xlsx,.xlsm,.ods,.parquet,.gz,.zst";

/** Where files are dropped or chosen; each is sent and followed below it. */
function Drop({ sources, started }) {
  const [source, setSource] = useState(null);
  const [mode, setMode] = useState("add");
  const [over, setOver] = useState(false);
  const [files, setFiles] = useState([]);
  const input = useRef();
  const name = useId();
  const missing = mode === "replace" && !source;
  const take = (list) => {
    setOver(false);
    if (!missing) setFiles((before) => [...[...list].map((file) => ({ file, source, mode, key: crypto.randomUUID() })), ...before]);
  };
  return html`<section class="panel wide" aria-label="Upload a file">
    <div class="controls">
      <label for=${name}>Source
        <select id=${name} value=${source ?? ""} onChange=${(event) => setSource(event.target.value || null)}>
          <option value="">as the rows say</option>
          ${sources.map((one) => html`<option key=${one} value=${one}>${one}</option>`)}
        </select>
      </label>
      <${Choice} label="Mode" options=${MODES} value=${mode} choose=${setMode} />
    </div>
    <div
      class=${over ? "drop over" : "drop"}
      onDragOver=${(event) => (event.preventDefault(), setOver(true))}
      onDragLeave=${() => setOver(false)}
      onDrop=${(event) => (event.preventDefault(), take(event.dataTransfer.files))}
    >
      <p><strong>Drop a file here</strong> or${" "}
        <button class="button primary" disabled=${missing} onClick=${() => input.current.click()}>Choose a file</button></p>
      <p class="note">${missing ? "Say whose records these are: a snapshot replaces all of one source." : "CSV, JSON, NDJSON, Excel (xlsx), ODS or Parquet, also as .gz or .zst; columns customer_id, name, email, and source where it is not chosen above."}</p>
      <input type="file" accept=${FILES} multiple hidden ref=${input} aria-label="File" onChange=${(event) => (take(event.target.files), (event.target.value = ""))} />
    </div>
    ${files.map((sent) => html`<${Sending} key=${sent.key} ...${sent} started=${started} />`)}
  </section>`;
}

/** One file on its way: the transfer, then the rows. */
function Sending({ file, source, mode, started }) {
  const [share, setShare] = useState(0);
  const [error, setError] = useState(null);
  const [upload, setUpload] = useState(null);
  useEffect(() => {
    let gone = false;
    (async () => {
      const wish = { filename: file.name, mode, size: file.size, ...(source ? { source } : {}) };
      const { body } = await call(mode === "replace" ? "uploads/snapshots" : "uploads", { method: "POST", json: wish });
      await send(body.url, file, (through) => !gone && setShare(through));
      setShare(1);
      started();
      for (let status = ""; !gone && !ENDED.includes(status); ) {
        const account = (await call(`uploads/${body.id}`)).body;
        status = account.status;
        if (!gone) setUpload(account);
        await new Promise((resolve) => setTimeout(resolve, POLL));
      }
      started();
    })().catch((problem) => !gone && setError(problem));
    return () => {
      gone = true;
    };
  }, []);
  const ended = upload && ENDED.includes(upload.status);
  const step = share < 1 ? "Sending" : !upload || upload.status === "waiting" ? "Waiting to be read" : ended ? "" : "Reading rows";
  return html`<div class="sending" aria-live="polite">
    <div class="line"><strong><${Text}>${file.name}<//></strong>${upload && html`<${Status} of=${upload.status} />`}</div>
    ${error ? html`<${Fault} error=${error} />` : ended
      ? html`<${Outcome} upload=${upload} />`
      : html`<${Progress} label=${step} share=${share < 1 ? share : null} />
          <p class="note">${step}${share < 1 ? ` · ${Math.round(share * 100)} %` : upload ? ` · ${counted(upload.rows, "row")}` : ""}</p>`}
  </div>`;
}

const Outcome = ({ upload }) =>
  html`<p>
    ${upload.status === "done"
      ? html`${counted(upload.accepted, "record")} accepted${upload.rejected ? html`, <strong class="bad">${counted(upload.rejected, "row")} rejected</strong>` : ""}. `
      : html`<strong class="bad"><${Text}>${upload.reason ?? "It failed."}<//></strong> `}
    <a href=${link(`/uploads/${upload.id}`)}>See upload ${upload.id}</a>
  </p>`;

/** One upload. */
export function Upload({ id, go }) {
  const answer = useAnswer(`uploads/${encodeURIComponent(id)}`, { every: (upload) => (fresh(upload) ? POLL : null) });
  return html`
    <${Title} above=${html`<a href=${link("/uploads")}>Uploads</a>`}>Upload ${id}<//>
    <${Answer} answer=${answer} lines=${6}>
      ${(upload) => html`<${Account} upload=${upload} deleted=${() => go("/uploads")} />`}
    <//>
  `;
}

function Account({ upload, deleted }) {
  const counts = [["Rows", upload.rows], ["Accepted", upload.accepted], ["Rejected", upload.rejected], ...Object.entries(upload.customers ?? {}).map(([change, count]) => [`Customers ${change}`, count])];
  return html`
    ${fresh(upload) && html`<${Progress} label="Loading" share=${null} />`}
    ${upload.reason && html`<div class="fault" role="alert"><strong>It ${upload.status === "failed" ? "failed" : "ended with a remark"}</strong><p><${Text}>${upload.reason}<//></p></div>`}
    <dl class="tiles small" aria-live="polite">
      ${counts.filter(([, value]) => value !== null).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd><strong>${number(value)}</strong></dd></div>`)}
    </dl>
    <div class="panels">
      <${Panel} title="File" aside=${html`<${Status} of=${upload.status} />`}>
        <dl class="facts">
          <div><dt>Name</dt><dd><${Text}>${fileOf(upload)}<//></dd></div>
          <div><dt>Source</dt><dd>${upload.source ?? "as the rows say"}</dd></div>
          <div><dt>Mode</dt><dd>${upload.mode === "replace" ? "replaced all of the source" : "added"}</dd></div>
          <div><dt>Sent</dt><dd>${when(upload.created_at)}</dd></div>
          <div><dt>Finished</dt><dd>${when(upload.finished_at)}</dd></div>
        </dl>
        ${upload.status === "done" && html`<${Removal} id=${upload.id} deleted=${deleted} />`}
      <//>
      ${upload.rejected_url && html`<${Rejected} url=${upload.rejected_url} count=${upload.rejected} key=${upload.id} />`}
    </div>
  `;
}

/** The first rejected rows with their reasons, and the file of all of them. */
function Rejected({ url, count }) {
  const [answer, setAnswer] = useState({ body: null, error: null });
  useEffect(() => {
    head(url, REJECTED_BYTES).then(
      // The last line may be cut off, and so is left out where there are others.
      (text) => setAnswer({ body: csvParseRows(text.replace(/^\ufeff/, "")), error: null, cut: text.length >= REJECTED_BYTES }),
      (error) => setAnswer({ body: null, error }),
    );
  }, []);
  const download = html`<a class="button" href=${url} download>Download all</a>`;
  return html`<${Panel} wide title=${`${counted(count, "rejected row")}`} note="With line, field and reason." aside=${download}>
    <${Answer} answer=${answer} lines=${4}>
      ${([header, ...rows]) => {
        const shown = rows.slice(0, REJECTED_ROWS);
        return html`<div class="scroll" tabindex="0" role="region" aria-label="Rejected rows">
          <table class="rejected">
            <thead><tr>${header.map((name) => html`<th scope="col" key=${name}>${name}</th>`)}</tr></thead>
            <tbody>${shown.map((row, place) => html`<tr key=${place}>${row.map((cell, at) => html`<td key=${at}><${Text}>${cell}<//></td>`)}</tr>`)}</tbody>
          </table>
        </div>`;
      }}
    <//>
  <//>`;
}

/** Deletes the records of an upload, once it was said twice. */
function Removal({ id, deleted }) {
  const [asked, setAsked] = useState(false);
  const [error, setError] = useState(null);
  const remove = () => call(`uploads/${id}`, { method: "DELETE" }).then(deleted, setError);
  if (error) return html`<${Fault} error=${error} retry=${remove} />`;
  if (!asked) return html`<button class="button danger" onClick=${() => setAsked(true)}>Delete its records</button>`;
  return html`<div class="controls"><span>Delete every record that this upload brought?</span>
    <button class="button danger" onClick=${remove}>Delete</button>
    <button class="button" onClick=${() => setAsked(false)}>Keep</button></div>`;
}
