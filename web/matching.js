// Matching: runs, the people that they find, why their records belong together, and the pairs that a person decides on.

import { call, useAnswer, usePages } from "./api.js?v=";
import { Histogram } from "./charts.js?v=";
import { SourceFilter, namesIn } from "./customers.js?v=";
import { html, useEffect, useRef, useState } from "./lib.js?v=";
import { Answer, Empty, Fault, NoRun, Pages, Panel, Progress, Records, Sources, Status, Table, Text, Title, Waiting, counted, link, number, plain, when, withoutRun } from "./parts.js?v=";

const POLL = 1000;
const REVIEW_PAGE = 20;
const MOST = 1000; // that the API gives at once
const underWay = (run) => ["waiting", "running"].includes(run.status);
export const percent = (probability) => (probability > 0.9999 ? "over 99.99 %" : `${(probability * 100).toFixed(probability > 0.99 ? 2 : 0)} %`);
const signed = (weight) => `${weight > 0 ? "+" : weight < 0 ? "−" : ""}${Math.abs(weight).toFixed(1)}`;
/** What speaks for a pair, in words: nothing was weighed where a rule alone does. */
const evidence = ({ weight, probability }) => (probability === null ? "By a rule" : `Weight ${signed(weight)}: ${percent(probability)} likely`);

/** All runs, and a button for another one. */
export function Matching({ go }) {
  const latest = useAnswer("matching/runs", { query: { limit: 25 }, every: (runs) => (runs.some(underWay) ? POLL : null) });
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
    <p class="lead">A run compares the records of all sources and finds who is one person under different ids. Its people are what is counted
      <a href=${link("/", { by: "entity" })}>by person</a>; what it is unsure of is in <a href=${link("/review")}>review</a>.</p>
    ${error && html`<${Fault} error=${error} />`}
    <${Panel} wide title="Runs" note="The newest first.">
      <${Answer} answer=${latest} lines=${5}>
        ${(runs) =>
          runs.length
            ? html`<${Table} caption="Matching runs" columns=${RUN_COLUMNS} rows=${runs} keyOf=${(run) => run.id} />`
            : html`<${Empty} title="No runs yet">Start one: it takes seconds for thousands of records, minutes for millions.<//>`}
      <//>
    <//>
  `;
}

const RUN_COLUMNS = [
  ["Run", (run) => html`<a href=${link(`/matching/${run.id}`)}>${run.id}</a>`],
  ["Status", (run) => html`<${Status} of=${run.status} />${run.active ? html` <span class="chip">in force</span>` : ""}`],
  ["Records", (run) => number(run.records), "right"],
  ["Pairs", (run) => number(run.pairs), "right"],
  ["People", (run) => number(run.entities), "right"],
  ["Started", (run) => when(run.started_at ?? run.created_at)],
];

/** One run: how far it is, or what it found. */
export function Run({ id }) {
  const answer = useAnswer(`matching/runs/${encodeURIComponent(id)}`, { every: (run) => (underWay(run) ? POLL : null) });
  return html`
    <${Title} above=${html`<a href=${link("/matching")}>Matching</a>`}>Run ${id}<//>
    <${Answer} answer=${answer} lines=${6}>${(run) => html`<${RunFound} run=${run} />`}<//>
  `;
}

function RunFound({ run }) {
  const done = run.status === "done";
  const counts = [["Records", run.records], ["Pairs looked at", run.pairs], ["People", run.entities]];
  return html`
    <p class="facts" aria-live="polite">
      <${Status} of=${run.status} /> ${run.active ? html`<span class="chip">in force</span> ` : ""}
      ${underWay(run) ? run.stage ?? "waiting for its turn" : `finished ${when(run.finished_at)}`}
    </p>
    ${underWay(run) && html`<${Progress} label="Matching" share=${run.progress || null} />`}
    ${run.reason && html`<div class="fault" role="alert"><strong>It failed</strong><p><${Text}>${run.reason}<//></p></div>`}
    <dl class="tiles small">
      ${counts.filter(([, value]) => value ?? false).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd><strong>${number(value)}</strong></dd></div>`)}
    </dl>
    ${done &&
    html`<div class="panels">
      <${Panel} wide title="Pairs by weight" note="How much speaks for one person, in powers of two; the count is on a logarithmic scale.">
        ${run.histogram?.length ? html`<${Histogram} bins=${run.histogram} />` : html`<${Empty} title="No pairs">No two records were alike enough to be compared.<//>`}
      <//>
      <${Panel} title="Near the threshold" note="The pairs that the run was least sure of.">
        ${run.near_threshold?.length
          ? html`<${Table} caption="Pairs near the threshold" columns=${NEAR_COLUMNS} rows=${run.near_threshold.slice(0, 6)} keyOf=${(pair) => `${pair.record_a}-${pair.record_b}`} />
              <p><a href=${link("/review")}>Review these pairs</a></p>`
          : html`<${Empty} title="None">Every pair was clear.<//>`}
      <//>
      <${Changes} id=${run.id} />
    </div>`}
  `;
}

const NEAR_COLUMNS = [
  ["Records", (pair) => `${pair.record_a} and ${pair.record_b}`],
  ["Weight", (pair) => signed(pair.weight), "right"],
  ["Probability", (pair) => percent(pair.probability), "right"],
];

/** What came together and what came apart since the finished run before. */
function Changes({ id }) {
  const runs = useAnswer("matching/runs", { query: { limit: 100 } });
  const before = runs.body?.find((run) => run.status === "done" && run.id < id);
  const answer = useAnswer(before && `matching/runs/${id}/changes`, { query: { since: before?.id } });
  if (!before) return null;
  const group = (title, count, changes) =>
    html`<h3>${title}: ${number(count)}</h3>
      ${changes.slice(0, 10).map(
        (change) => html`<p key=${change.entity_id}><a href=${link(`/people/${change.entity_id}`)}>person ${change.entity_id}</a>: records ${change.record_ids.join(", ")}</p>`,
      )}`;
  return html`<${Panel} title=${`Since run ${before.id}`}>
    <${Answer} answer=${answer} lines=${3}>
      ${(body) => html`${group("Came together", body.merged_count, body.merged)}${group("Came apart", body.split_count, body.split)}`}
    <//>
  <//>`;
}

/** The people that the run in force found. */
export function People({ query, sources, go }) {
  const [has, lacks] = [namesIn(query.in, sources), namesIn(query.not_in, sources)];
  const asked = { in: has.join(","), not_in: lacks.join(","), min_records: query.min_records ?? "2" };
  const pages = usePages("entities", { query: asked, limit: 25 });
  const change = (changed) => go("/people", { ...asked, ...changed });
  return html`
    <${Title} aside=${html`<a class="button" href=${link("/people/lookup")}>Look someone up</a>`}>People<//>
    <div class="panels beside">
      <${Panel} title="Sources">
        <${SourceFilter} sources=${sources} has=${has} lacks=${lacks} choose=${change} />
        <label class="facts">Records at least
          <select value=${asked.min_records} onChange=${(event) => change({ min_records: event.target.value })}>
            ${["1", "2", "3", "5", "10"].map((least) => html`<option key=${least} value=${least}>${least}</option>`)}
          </select>
        </label>
      <//>
      <${Panel} wide title="Each one person, by matching" note="With the records that belong together.">
        <${Pages} pages=${pages} lines=${8} empty=${html`<${Empty} title="Nobody">No person is in this combination of sources with so many records.<//>`}>
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
  ["Ids", (person) => number(person.customer_ids.length), "right"],
];

/** One person: the golden record beside all records, and why they belong together. */
export function Person({ id }) {
  const answer = useAnswer(`entities/${encodeURIComponent(id)}`);
  return html`
    <${Title} above=${html`<a href=${link("/people")}>People</a>`}>Person ${id}<//>
    <${Answer} answer=${answer} lines=${8}>
      ${(person) =>
        html`<${Panel} wide title=${counted(person.total_records, "record")} note=${`${shownOf(person)}Golden: what is taken for true of each field, and by which rule. Marked: what differs from it.`}>
            <${Records} records=${person.records} golden=${person.golden} />
          <//>
          <div class="panels">
            <${Panel} wide title="Why these are one person" note="What spoke for each pair; weights are powers of two.">
              ${person.edges.length
                ? byPair(person.edges).map((pair) => html`<${Reason} key=${pair.title} ...${pair} />`)
                : html`<${Empty} title="One record alone">Nothing else was found to be the same person.<//>`}
            <//>
            <${Panel} title="Decisions" note="What a person said about these records.">
              <${Decisions} decisions=${person.decisions ?? []} reload=${answer.reload} />
            <//>
          </div>`}
    <//>
  `;
}

/** Of very many records, which the API shows. */
function shownOf({ records, total_records }) {
  return records.length < total_records ? `Of these, ${number(records.length)} are shown: none that only repeats another, and the latest. ` : "";
}

/** The edges of each two records together: [{title, rules, score}]. */
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

/** Why two records are, or may be, of one person: the rules, and each field's part in the weight. */
export function Reason({ title, rules = [], score }) {
  const known = (score?.fields ?? []).filter((field) => field.level !== "missing").sort((a, b) => b.weight - a.weight);
  const missing = (score?.fields ?? []).filter((field) => field.level === "missing");
  return html`<div class="reason">
    <p><strong>${title}</strong>${rules.map((rule) => html` <span class="chip" key=${rule}>${plain(rule)}</span>`)}${" "}
      ${score && html`<span class="note">${evidence(score)}</span>`}</p>
    ${known.length > 0 &&
    html`<ul class="levels">
      ${known.map(
        (field) =>
          html`<li key=${field.field} class=${field.weight >= 0 ? "for" : "against"}>
            <span>${plain(field.field)}</span><span>${field.level === "else" ? "differs" : field.level}</span><span class="weight">${signed(field.weight)}</span>
          </li>`,
      )}
    </ul>`}
    ${missing.length > 0 && html`<p class="note">Not known of both: ${missing.map((field) => plain(field.field)).join(", ")}.</p>`}
  </div>`;
}

function Decisions({ decisions, reload }) {
  const [error, setError] = useState(null);
  const revoke = (id) => call(`matching/decisions/${id}`, { method: "DELETE" }).then(reload, setError);
  if (!decisions.length) return html`<${Empty} title="None">Matching alone put them together.<//>`;
  return html`${error && html`<${Fault} error=${error} />`}
    <ul class="plain">
      ${decisions.map(
        (decision) =>
          html`<li key=${decision.id}>Records ${decision.record_ids.join(" and ")}: <strong>${decision.verdict}</strong>, ${when(decision.created_at)}
            ${decision.note && html`<br /><${Text}>${decision.note}<//>`}
            ${decision.dormant && html` <span class="note">not in effect: its records are gone</span>`}
            ${decision.revoked_at
              ? html` <span class="note">taken back</span>`
              : html` <button class="button small" onClick=${() => revoke(decision.id)}>Take back</button>`}</li>`,
      )}
    </ul>`;
}

const keyOf = (pair) => `${pair.record_a.id}-${pair.record_b.id}`;

/** The pairs that matching was least sure of, one at a time, for a person to decide. */
export function Review() {
  const [queue, setQueue] = useState([]);
  const [more, setMore] = useState(true); // whether the API may have others, once none of these is open
  const [error, setError] = useState(null);
  const [refusal, setRefusal] = useState(null);
  const [decided, setDecided] = useState([]);
  const [skipped, setSkipped] = useState([]);
  const busy = useRef(false);
  const isOpen = (pair) => !skipped.includes(keyOf(pair));
  const pair = queue.find(isOpen);
  const waiting = !pair && more;
  const load = () => {
    setError(null);
    // Those that were passed over are the API's first still.
    const limit = Math.min(REVIEW_PAGE + skipped.length, MOST);
    call("matching/review", { query: { limit } }).then(({ body }) => (setQueue(body), setMore(body.some(isOpen))), setError);
  };
  useEffect(() => {
    if (waiting) load();
  }, [waiting]);
  const run = async (work) => {
    if (busy.current) return;
    busy.current = true;
    setRefusal(null);
    await work().catch(setRefusal);
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
  const done = html`<p class="note" aria-live="polite">${decided.length ? `${counted(decided.length, "pair")} decided; the last one: ${decided.at(-1).verdict}.` : ""}</p>`;
  if (withoutRun(error)) return html`<${Title}>Review<//><${NoRun} />`;
  if (error) return html`<${Title}>Review<//><${Fault} error=${error} retry=${load} />`;
  if (waiting) return html`<${Title}>Review<//><${Waiting} lines=${8} />`;
  return html`
    <${Title}>Review<//>
    ${refusal && html`<${Fault} error=${refusal} />`}
    ${pair
      ? html`<${Panel} wide title="Are these one person?" note=${`${evidence(pair)}. The most uncertain first.`} key=${keyOf(pair)}>
          <${Records} records=${[pair.record_a, pair.record_b]} label="The two records" />
          <div class="controls verdict">
            <button class="button primary" onClick=${() => decide("same")}>Same person <kbd>S</kbd></button>
            <button class="button primary" onClick=${() => decide("different")}>Different people <kbd>D</kbd></button>
            <button class="button" onClick=${skip}>Next <kbd>N</kbd></button>
            ${undoButton}
          </div>
          ${done}
          <${Reason} score=${pair} rules=${pair.constraint_name ? [`held back: ${plain(pair.constraint_name)}`] : []} title="What speaks for it, and what against" />
        <//>`
      : html`<${Empty} title="Nothing to decide">
            ${skipped.length ? html`You passed over ${counted(skipped.length, "pair")}. <button class="button small" onClick=${() => setSkipped([])}>Show them again</button>` : "Every pair that matching was unsure of has been decided."}
          <//>
          <div class="controls">${undoButton}</div>${done}`}
  `;
}

/** Runs `actions` by key, while nothing is being typed and no other key is held. */
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
