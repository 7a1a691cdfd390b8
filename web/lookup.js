// The view of the lookup: finds people that match the given details, with the evidence.

import { call, useResponse } from "./api.js?v=";
import { html, useEffect, useRef, useState } from "./lib.js?v=";
import { Evidence, percent } from "./matching.js?v=";
import { Empty, ErrorMessage, NoRun, Panel, Text, Title, Waiting, counted, link, plain, withoutRun } from "./parts.js?v=";

/** The fields of the form: the API's name, and attributes of the input. */
const FIELDS = [
  ["name", {}],
  ["email", { inputmode: "email" }],
  ["phone", { inputmode: "tel" }],
  ["date_of_birth", { type: "date" }],
  ["company", {}],
  ["address", {}],
  ["postcode", {}],
  ["city", {}],
  ["country", {}],
];

/** The last search, which is shown again after going back. It is kept in memory only, because it is personal data. */
let last = { typed: {} };

/** Number of the latest request. Responses to earlier requests are ignored. */
let latest = 0;

export function Lookup() {
  const [{ typed, matches, error, isEmpty, busy }, setState] = useState(last);
  const entities = useResponse("entities", { query: { limit: 1 } });
  const show = (state) => setState((last = { typed: last.typed, ...state }));
  const find = async (event) => {
    event?.preventDefault();
    const details = Object.fromEntries(Object.entries(typed).filter(([, value]) => value.trim()));
    if (!Object.keys(details).length) return show({ isEmpty: true });
    const request = ++latest;
    const showLatest = (state) => request === latest && show(state);
    show({ busy: true });
    return call("entities/lookup", { method: "POST", json: details }).then(
      ({ body }) => showLatest({ matches: body.matches }),
      (problem) => showLatest({ error: problem }),
    );
  };
  const type = ({ target }) => show({ matches, error, busy, typed: { ...last.typed, [target.name]: target.value } });
  const result = useRef();
  useEffect(() => {
    // On a phone the matches are below the form.
    if (matches && result.current.getBoundingClientRect().top > innerHeight * 0.7) result.current.scrollIntoView();
  }, [matches]);
  const title = html`<${Title} above=${html`<a href=${link("/people")}>People</a>`}>Person lookup<//>`;
  if (withoutRun(error, entities.error)) return html`${title}<${NoRun} />`;
  return html`
    ${title}
    <div class="panels beside">
      <${Panel} title="Details" note="Enter an email or a phone number, or a name and one more detail. Nothing is stored.">
        <form class="fields" onSubmit=${find}>
          ${FIELDS.map(
            ([name, help]) =>
              html`<label key=${name}>
                <span>${plain(name)}</span>
                <input name=${name} type="text" autocomplete="off" maxlength="255" ...${help} value=${typed[name] ?? ""} onInput=${type} />
              </label>`,
          )}
          ${isEmpty && html`<p class="bad" role="alert">Enter at least one detail.</p>`}
          <div class="controls">
            <button class="button primary" disabled=${busy}>${busy ? "Searching…" : "Look up"}</button>
            <button class="button" type="button" disabled=${busy} onClick=${() => show({ typed: {} })}>Clear</button>
          </div>
        </form>
      <//>
      <${Panel} wide title="Matches" note=${html`<span class="result" role="status" ref=${result}>${matches ? summary(matches) : ""}</span>`}>
        ${error ? html`<${ErrorMessage} error=${error} retry=${find} />` : busy ? html`<${Waiting} lines=${6} />` : html`<${Results} matches=${matches} />`}
      <//>
    </div>
  `;
}

const summary = (matches) => `${counted(matches.length, "person", "people")}${matches.length > 1 ? ", the most likely first" : ""}`;

function Results({ matches }) {
  if (!matches) return html`<${Empty} title="No search yet">Enter the details of a person to compare them with all records.<//>`;
  if (!matches.length) return html`<${Empty} title="No matches">No records match these details. Try another email, phone number or spelling of the name.<//>`;
  return matches.map((match, index) => html`<${Match} key=${match.entity_id} match=${match} open=${index === 0} />`);
}

/** One match: the person, the probability and the evidence. */
function Match({ match, open }) {
  const { name = "No name", ...fields } = match.golden;
  return html`<article class="match">
    <div class="line">
      <h3><a href=${link(`/people/${match.entity_id}`)}><${Text}>${name}<//></a> <small class="note">person ${match.entity_id}</small></h3>
      <strong class="likely">${percent(match.probability)} likely</strong>
    </div>
    <dl class="known">
      ${Object.entries(fields).map(([field, value]) => html`<div key=${field}><dt>${plain(field)}</dt><dd><${Text}>${value}<//></dd></div>`)}
    </dl>
    <details open=${open}>
      <summary>Evidence</summary>
      <${Evidence} title=${`Your details and record ${match.record_id}`} rules=${match.rule ? [match.rule] : []} score=${match} />
    </details>
  </article>`;
}
