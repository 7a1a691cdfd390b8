// What was found in the rows of a file: why rows were rejected, with examples, and warnings about accepted ones.

import { head } from "./api.js?v=";
import { csvParseRows, html, useEffect, useState } from "./lib.js?v=";
import { Loaded, Panel, Table, Text, counted, link, number } from "./parts.js?v=";

const HEAD_BYTES = 65536;
const ROWS = 20;
const EXAMPLES = 5;
const LONG = 240;

/** The reasons, the warnings and the rejected rows of an upload. */
export function Findings({ upload }) {
  const response = useRejected(upload.rejected_url);
  return html`
    ${upload.reasons.length > 0 && html`<${Panel} wide title="Reasons for rejection" note="Open a reason to see rows. A row may have several reasons.">
      <${Table} caption="Reasons for rejection" columns=${columns((found) => html`<${Reason} found=${found} rows=${response?.body} />`)} rows=${upload.reasons} keyOf=${keyOf} />
    <//>`}
    ${upload.warnings.length > 0 && html`<${Panel} wide full=${upload.reasons.length > 0} title="Warnings" note=${upload.warnings.some((found) => found.rows) && "These rows were accepted."}>
      <${Table} caption="Warnings" columns=${columns(Warning)} rows=${upload.warnings} keyOf=${keyOf} />
    <//>`}
    ${response && html`<${Rejected} url=${upload.rejected_url} count=${upload.rejected} response=${response} />`}
  `;
}

const keyOf = (found) => `${found.code} ${found.field} ${found.reason}`;

/** The columns of a table of findings; `reason` renders the reason of one. */
const columns = (reason) => [
  ["Field", (found) => (found.field ? html`<${Text}>${found.field}<//>` : found.rows ? "whole row" : "whole file")],
  ["Reason", reason, "reason"],
  ["Rows", (found) => number(found.rows), "right"],
  ["First line", (found) => number(found.example_line), "right"],
];

const Warning = (found) =>
  found.code === "same_content"
    ? html`<span>The same content was loaded before: <a href=${link(`/uploads/${found.upload_id}`)}>upload ${found.upload_id}</a></span>`
    : html`<${Text}>${found.reason}<//>`;

/** A reason that opens to show rejected rows. */
function Reason({ found, rows }) {
  const examples = rows?.slice(1).filter(([line, , reason]) => Number(line) === found.example_line || reason.split("; ").includes(found.reason)).slice(0, EXAMPLES);
  if (!examples?.length) return html`<${Text}>${found.reason}<//>`;
  return html`<details>
    <summary><${Text}>${found.reason}<//></summary>
    <ul class="examples">${examples.map(([line, , , row]) => html`<li key=${line}><span class="note">Line ${number(Number(line))}</span> <${Long} text=${row} /></li>`)}</ul>
  </details>`;
}

/** The first rejected rows of a file as {body, error}: lists of cells, the first of which is the header. Null without a file. */
function useRejected(url) {
  const [response, setResponse] = useState({ body: null, error: null });
  // The address is signed anew in each response; the file of an upload does not change.
  const exists = Boolean(url);
  useEffect(() => {
    if (!exists) return;
    head(url, HEAD_BYTES).then(
      (text) => setResponse({ body: csvParseRows(text.replace(/^\ufeff/, "")), error: null }),
      (error) => setResponse({ body: null, error }),
    );
  }, [exists]);
  return exists ? response : null;
}

/** The first rejected rows with their reasons, and a link to the file with all of them. */
function Rejected({ url, count, response }) {
  const download = html`<a class="button" href=${url} download>Download all</a>`;
  const note = count > ROWS ? `The first ${ROWS}, each with its line, field and reason.` : "Each row with its line, field and reason.";
  return html`<${Panel} full title=${counted(count, "rejected row")} note=${note} aside=${download}>
    <${Loaded} response=${response} lines=${4}>
      ${([header, ...rows]) =>
        html`<table class="rows rejected">
          <caption class="unseen">Rejected rows</caption>
          <thead><tr>${header.map((name) => html`<th scope="col" key=${name}>${name}</th>`)}</tr></thead>
          <tbody>${rows.slice(0, ROWS).map((row) => html`<tr key=${row[0]}>${row.map((cell, at) => html`<td key=${at} data-label=${header[at]}><${Long} text=${cell} /></td>`)}</tr>`)}</tbody>
        </table>`}
    <//>
  <//>`;
}

/** A text of the file. A long one opens. */
function Long({ text }) {
  if (text.length <= LONG) return html`<${Text}>${text}<//>`;
  return html`<details class="whole"><summary><${Text}>${text.slice(0, LONG)}…<//></summary><${Text}>${text.slice(LONG)}<//></details>`;
}
