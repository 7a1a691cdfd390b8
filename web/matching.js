// The views of matching: runs, people, the evidence that joins their records, and clerical review.

import { call, usePagedList, useResponse } from "./api.js?v=";
import { Histogram } from "./charts.js?v=";
import { SourceFilter, namesIn } from "./customers.js?v=";
import { Unresolved } from "./freshness.js?v=";
import { html, useEffect, useRef, useState } from "./lib.js?v=";
import { Empty, ErrorMessage, Loaded, NoRun, PagedList, Panel, Progress, Records, Sources, Status, Table, Text, Title, Waiting, counted, link, number, plain, when, withoutRun } from "./parts.js?v=";

const POLL = 1000;
const REVIEW_PAGE = 20;
const MAX_LIMIT = 1000; // of the API
const isUnfinished = (run) => ["waiting", "running"].includes(run.status);
export const percent = (probability) => (probability > 0.9999 ? "over 99.99%" : `${(probability * 100).toFixed(probability > 0.99 ? 2 : 0)}%`);
const signed = (weight) => `${weight > 0 ? "+" : weight < 0 ? "−" : ""}${Math.abs(weight).toFixed(1)}`;
/** The score of a pair in words. A pair that only a rule joins has no weight. */
const scoreOf = ({ weight, probability }) => (probability === null ? "By a match rule" : `Match weight ${signed(weight)}, ${percent(probability)} likely`);

/** The view of all runs. */
export function Matching({ go }) {
  const latest = useResponse("matching/runs", { query: { limit: 25 }, every: (runs) => (runs.some(isUnfinished) ? POLL : null) });
  const [error, setError] = useState(null);
  const [starting, setStarting] = useState(false);
  const start = async () => {
    setStarting(true);
    setError(null);
    try {
      const { body } = await call("matching/runs", { method: "POST", json: {}, headers: { "Idempotency-Key": crypto.randomUUID() } });
      go(`/matching/${body.id}`);
    } catch (problem) {
      setError(problem);
      setStarting(false);
    }
  };
  return html`
    <${Title} aside=${html`<button class="button primary" disabled=${starting} onClick=${start}>${starting ? "Starting…" : "Start a run"}</button>`}>
      Matching
    <//>
    <p class="lead">A matching run compares the records of all sources and finds people with several ids. Counts
      <a href=${link("/", { by: "entity" })}>by person</a> use the active run. Uncertain pairs are listed for <a href=${link("/review")}>review</a>.</p>
    ${error && html`<${ErrorMessage} error=${error} />`}
    <${Panel} wide title="Runs" note="Newest first.">
      <${Loaded} response=${latest} lines=${5}>
        ${(runs) =>
          runs.length
            ? html`<${Table} caption="Matching runs" columns=${RUN_COLUMNS} rows=${runs} keyOf=${(run) => run.id} />`
            : html`<${Empty} title="No runs yet">Start a run to find people with several ids. It takes seconds for thousands of records, and minutes for millions.<//>`}
      <//>
    <//>
  `;
}

const RUN_COLUMNS = [
  ["Run", (run) => html`<a href=${link(`/matching/${run.id}`)}>${run.id}</a>`],
  ["Status", (run) => html`<${Status} of=${run.status} />${run.active ? html` <span class="chip">active</span>` : ""}`],
  ["Records", (run) => number(run.records), "right"],
  ["Pairs", (run) => number(run.pairs), "right"],
  ["People", (run) => number(run.entities), "right"],
  ["Started", (run) => when(run.started_at ?? run.created_at)],
];

/** The view of one run: its progress or its results. */
export function Run({ id }) {
  const response = useResponse(`matching/runs/${encodeURIComponent(id)}`, { every: (run) => (isUnfinished(run) ? POLL : null) });
  return html`
    <${Title} above=${html`<a href=${link("/matching")}>Matching</a>`}>Run ${id}<//>
    <${Loaded} response=${response} lines=${6}>${(run) => html`<${RunDetails} run=${run} reload=${response.reload} />`}<//>
  `;
}

function RunDetails({ run, reload }) {
  const done = run.status === "done";
  const counts = [["Records", run.records], ["Scored pairs", run.pairs], ["People", run.entities]];
  return html`
    <p class="facts" aria-live="polite">
      <${Status} of=${run.status} /> ${run.active ? html`<span class="chip">active</span> ` : ""}
      ${isUnfinished(run) ? run.stage ?? "waiting to start" : `finished ${when(run.finished_at)}`}
    </p>
    ${done && run.kept && !run.active && html`<${Activation} id=${run.id} done=${reload} />`}
    ${isUnfinished(run) && html`<${Progress} label="Matching" share=${run.progress || null} />`}
    ${run.reason && html`<div class="error" role="alert"><strong>The run failed</strong><p><${Text}>${run.reason}<//></p></div>`}
    <dl class="tiles small">
      ${counts.filter(([, value]) => value ?? false).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd><strong>${number(value)}</strong></dd></div>`)}
    </dl>
    ${done &&
    html`<div class="panels">
      <${Panel} wide title="Match weights" note="Number of scored pairs by match weight, on a logarithmic scale. A weight of +1 more means twice the odds.">
        ${run.histogram?.length ? html`<${Histogram} bins=${run.histogram} />` : html`<${Empty} title="No pairs">No candidate pairs were found.<//>`}
      <//>
      <${Panel} title="Pairs near the threshold" note="The most uncertain pairs of the run.">
        ${run.near_threshold?.length
          ? html`<${Table} caption="Pairs near the threshold" columns=${NEAR_COLUMNS} rows=${run.near_threshold.slice(0, 6)} keyOf=${(pair) => `${pair.record_a}-${pair.record_b}`} />
              <p><a href=${link("/review")}>Review these pairs</a></p>`
          : html`<${Empty} title="No uncertain pairs">No match weight is near the threshold.<//>`}
      <//>
      <${Changes} id=${run.id} />
    </div>`}
  `;
}

/** The button that makes a run the active one. */
function Activation({ id, done }) {
  const [error, setError] = useState(null);
  const [working, setWorking] = useState(false);
  const activate = async () => {
    setWorking(true);
    setError(null);
    try {
      await call(`matching/runs/${id}/activate`, { method: "POST" });
      done();
    } catch (problem) {
      setError(problem);
      setWorking(false);
    }
  };
  return html`
    <div class="controls"><button class="button" disabled=${working} onClick=${activate}>${working ? "Activating…" : "Activate this run"}</button></div>
    ${error && html`<${ErrorMessage} error=${error} />`}
  `;
}

const NEAR_COLUMNS = [
  ["Records", (pair) => `${pair.record_a} and ${pair.record_b}`],
  ["Weight", (pair) => signed(pair.weight), "right"],
  ["Probability", (pair) => percent(pair.probability), "right"],
];

/** Entities that were merged or split since the previous finished run. */
function Changes({ id }) {
  const runs = useResponse("matching/runs", { query: { limit: 100 } });
  const before = runs.body?.find((run) => run.status === "done" && run.id < id);
  const response = useResponse(before && `matching/runs/${id}/changes`, { query: { since: before?.id } });
  if (!before) return null;
  const group = (title, count, changes) =>
    html`<h3>${title}: ${number(count)}</h3>
      ${changes.slice(0, 10).map(
        (change) => html`<p key=${change.entity_id}><a href=${link(`/people/${change.entity_id}`)}>person ${change.entity_id}</a>: records ${change.record_ids.join(", ")}</p>`,
      )}`;
  return html`<${Panel} title=${`Changes since run ${before.id}`}>
    <${Loaded} response=${response} lines=${3}>
      ${(body) => html`${group("Merged", body.merged_count, body.merged)}${group("Split", body.split_count, body.split)}`}
    <//>
  <//>`;
}

/** The view of the people of the active run. */
export function People({ query, sources, go }) {
  const [has, lacks] = [namesIn(query.in, sources), namesIn(query.not_in, sources)];
  const filter = { in: has.join(","), not_in: lacks.join(","), min_records: query.min_records ?? "2" };
  const list = usePagedList("entities", { query: filter, limit: 25 });
  const change = (changed) => go("/people", { ...filter, ...changed });
  return html`
    <${Title} aside=${html`<a class="button" href=${link("/people/lookup")}>Look up a person</a>`}>People<//>
    <${Unresolved} />
    <div class="panels beside">
      <${Panel} title="Sources">
        <${SourceFilter} sources=${sources} has=${has} lacks=${lacks} choose=${change} />
        <label class="facts">Minimum number of records
          <select value=${filter.min_records} onChange=${(event) => change({ min_records: event.target.value })}>
            ${["1", "2", "3", "5", "10"].map((least) => html`<option key=${least} value=${least}>${least}</option>`)}
          </select>
        </label>
      <//>
      <${Panel} wide title="People found by matching" note="A person may have several customer ids.">
        <${PagedList} list=${list} lines=${8} empty=${html`<${Empty} title="No people">No people match these filters.<//>`}>
          ${(people) => html`<${Table} caption="People" columns=${PEOPLE_COLUMNS} rows=${people} keyOf=${(person) => person.id} />`}
        <//>
      <//>
    </div>
  `;
}

const PEOPLE_COLUMNS = [
  ["Person", (person) => html`<a href=${link(`/people/${person.id}`)}>${person.id}</a>`],
  ["Name", (person) => html`<${Text}>${person.golden?.name ?? "–"}<//>`, "long"],
  ["Email", (person) => html`<${Text}>${person.golden?.email ?? "–"}<//>`, "long"],
  ["Sources", (person) => html`<${Sources} names=${person.sources} />`],
  ["Records", (person) => number(person.records), "right"],
  ["Customer ids", (person) => number(person.customer_ids.length), "right"],
];

/** The view of one person: the golden record beside all records, and the evidence that joins them. */
export function Person({ id }) {
  const response = useResponse(`entities/${encodeURIComponent(id)}`);
  return html`
    <${Title} above=${html`<a href=${link("/people")}>People</a>`}>Person ${id}<//>
    <${Unresolved} />
    <${Loaded} response=${response} lines=${8}>
      ${(person) =>
        html`<${Panel} wide title=${counted(person.total_records, "record")} note=${`${shownOf(person)}Golden record: the chosen value of each field, and why. Differences are highlighted.`}>
            <${Records} records=${person.records} golden=${person.golden} />
          <//>
          <div class="panels">
            <${Panel} wide title="Evidence" note="Match rules and match weights that join the records. A weight of +1 doubles the odds.">
              ${person.edges.length
                ? byPair(person.edges).map((pair) => html`<${Evidence} key=${pair.title} ...${pair} />`)
                : html`<${Empty} title="A single record">Matching found no other record of this person.<//>`}
            <//>
            <${Panel} title="Decisions" note="Decisions about these records from review.">
              <${Decisions} decisions=${person.decisions ?? []} reload=${response.reload} />
            <//>
          </div>`}
    <//>
  `;
}

/** The note about the records that are shown, if there are too many to show all. */
function shownOf({ records, total_records }) {
  return records.length < total_records ? `${number(records.length)} are shown: one of each group of exact duplicates, and the latest. ` : "";
}

/** Groups edges by pair of records: [{title, rules, score}]. */
function byPair(edges) {
  const pairs = new Map();
  for (const edge of edges) {
    const title = `Records ${edge.record_a} and ${edge.record_b}`;
    const pair = pairs.get(title) ?? { title, rules: [], score: null };
    if (edge.rule) pair.rules.push(edge.rule);
    else pair.score = edge;
    pairs.set(title, pair);
  }
  return [...pairs.values()];
}

/** The evidence for and against a match of two records: the match rules, and the match weight of each comparison. */
export function Evidence({ title, rules = [], score }) {
  const compared = (score?.fields ?? []).filter((field) => field.level !== "missing").sort((a, b) => b.weight - a.weight);
  const missing = (score?.fields ?? []).filter((field) => field.level === "missing");
  return html`<div class="evidence">
    <p><strong>${title}</strong>${rules.map((rule) => html` <span class="chip" key=${rule}>${plain(rule)}</span>`)}${" "}
      ${score && html`<span class="note">${scoreOf(score)}</span>`}</p>
    ${compared.length > 0 &&
    html`<ul class="levels">
      ${compared.map(
        (field) =>
          html`<li key=${field.field} class=${field.weight >= 0 ? "for" : "against"}>
            <span>${plain(field.field)}</span><span>${field.level === "else" ? "differs" : field.level}</span><span class="weight">${signed(field.weight)}</span>
          </li>`,
      )}
    </ul>`}
    ${missing.length > 0 && html`<p class="note">Not compared, because a value is missing: ${missing.map((field) => plain(field.field)).join(", ")}.</p>`}
  </div>`;
}

function Decisions({ decisions, reload }) {
  const [error, setError] = useState(null);
  const revoke = (id) => call(`matching/decisions/${id}`, { method: "DELETE" }).then(reload, setError);
  if (!decisions.length) return html`<${Empty} title="No decisions">These records were joined by matching only.<//>`;
  return html`${error && html`<${ErrorMessage} error=${error} />`}
    <ul class="plain">
      ${decisions.map(
        (decision) =>
          html`<li key=${decision.id}>Records ${decision.record_ids.join(" and ")}: <strong>${decision.verdict}</strong>, ${when(decision.created_at)}
            ${decision.note && html`<br /><${Text}>${decision.note}<//>`}
            ${decision.dormant && html` <span class="note">no effect, because its records were deleted</span>`}
            ${decision.applied === false && html` <span class="note">not applied yet, or contradicts another decision</span>`}
            ${decision.revoked_at
              ? html` <span class="note">undone</span>`
              : html` <button class="button small" onClick=${() => revoke(decision.id)}>Undo</button>`}</li>`,
      )}
    </ul>`;
}

const keyOf = (pair) => `${pair.record_a.id}-${pair.record_b.id}`;

/** The view of clerical review: the most uncertain pairs, one at a time. */
export function Review() {
  const [queue, setQueue] = useState([]);
  const [more, setMore] = useState(true); // whether the API may have further pairs
  const [error, setError] = useState(null);
  const [actionError, setActionError] = useState(null);
  const [decided, setDecided] = useState([]);
  const [skipped, setSkipped] = useState([]);
  const busy = useRef(false);
  const isOpen = (pair) => !skipped.includes(keyOf(pair));
  const pair = queue.find(isOpen);
  const waiting = !pair && more;
  const load = () => {
    setError(null);
    // The API still lists the skipped pairs first.
    const limit = Math.min(REVIEW_PAGE + skipped.length, MAX_LIMIT);
    call("matching/review", { query: { limit } }).then(({ body }) => (setQueue(body), setMore(body.some(isOpen))), setError);
  };
  useEffect(() => {
    if (waiting) load();
  }, [waiting]);
  const run = async (action) => {
    if (busy.current) return;
    busy.current = true;
    setActionError(null);
    await action().catch(setActionError);
    busy.current = false;
  };
  const decide = (verdict) =>
    pair &&
    run(async () => {
      const { body } = await call("matching/decisions", { method: "POST", json: { record_ids: [pair.record_a.id, pair.record_b.id], verdict } });
      setDecided((before) => [...before, { id: body.id, verdict, pair }]);
      setQueue((before) => before.filter((other) => other !== pair));
      setMore(true);
    });
  const undo = () =>
    decided.length &&
    !waiting &&
    run(async () => {
      const last = decided.at(-1);
      await call(`matching/decisions/${last.id}`, { method: "DELETE" });
      setDecided((before) => before.slice(0, -1));
      setQueue((before) => [last.pair, ...before]);
    });
  const skip = () => pair && (setSkipped((before) => [...before, keyOf(pair)]), setMore(true));
  useKeys({ s: () => decide("same"), d: () => decide("different"), n: skip, u: undo });
  const undoButton = html`<button class="button" disabled=${!decided.length} onClick=${undo}>Undo <kbd>U</kbd></button>`;
  const done = html`<p class="note" aria-live="polite">${decided.length ? `${counted(decided.length, "pair")} decided. Last decision: ${decided.at(-1).verdict}.` : ""}</p>`;
  if (withoutRun(error)) return html`<${Title}>Review<//><${NoRun} />`;
  if (error) return html`<${Title}>Review<//><${ErrorMessage} error=${error} retry=${load} />`;
  if (waiting) return html`<${Title}>Review<//><${Waiting} lines=${8} />`;
  return html`
    <${Title}>Review<//>
    ${actionError && html`<${ErrorMessage} error=${actionError} />`}
    ${pair
      ? html`<${Panel} wide title="Are these the same person?" note=${`${scoreOf(pair)}. The most uncertain pairs come first.`} key=${keyOf(pair)}>
          <${Records} records=${[pair.record_a, pair.record_b]} label="The two records" />
          <div class="controls verdict">
            <button class="button primary" onClick=${() => decide("same")}>Same person <kbd>S</kbd></button>
            <button class="button primary" onClick=${() => decide("different")}>Different people <kbd>D</kbd></button>
            <button class="button" onClick=${skip}>Skip <kbd>N</kbd></button>
            ${undoButton}
          </div>
          ${done}
          <${Evidence} score=${pair} rules=${pair.constraint_name ? [`constraint: ${plain(pair.constraint_name)}`] : []} title="Evidence for and against" />
        <//>`
      : html`<${Empty} title="Nothing to decide">
            ${skipped.length ? html`You skipped ${counted(skipped.length, "pair")}. <button class="button small" onClick=${() => setSkipped([])}>Show skipped pairs</button>` : "All uncertain pairs have been decided."}
          <//>
          <div class="controls">${undoButton}</div>${done}`}
  `;
}

/** Runs one of `actions` when its key is pressed, except in form fields and with modifier keys. */
function useKeys(actions) {
  const latest = useRef();
  latest.current = actions;
  useEffect(() => {
    const press = (event) => {
      const typing = event.target.closest?.("input, select, textarea");
      if (typing || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
      latest.current[event.key.toLowerCase()]?.();
    };
    document.addEventListener("keydown", press);
    return () => document.removeEventListener("keydown", press);
  }, []);
}
