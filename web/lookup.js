// Looking somebody up: what is known of a person is typed, and who they most likely are is shown, with the reasons.

import { call, useAnswer } from "./api.js?v=";
import { html, useEffect, useRef, useState } from "./lib.js?v=";
import { Reason, percent } from "./matching.js?v=";
import { Empty, Fault, NoRun, Panel, Text, Title, Waiting, counted, link, plain, withoutRun } from "./parts.js?v=";

/** What may be typed: the API's name, and how a browser helps to type it. */
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

/** The question and its answer, for who follows a match and comes back. In memory alone: they are about a person. */
let last = { typed: {} };

/** The number of the latest question: an answer to an earlier one is not shown. */
let latest = 0;

export function Lookup() {
  const [{ typed, matches, error, refused, busy }, setState] = useState(last);
  const anybody = useAnswer("entities", { query: { limit: 1 } });
  const show = (state) => setState((last = { typed: last.typed, ...state }));
  const find = async (event) => {
    event?.preventDefault();
    const known = Object.fromEntries(Object.entries(typed).filter(([, value]) => value.trim()));
    if (!Object.keys(known).length) return show({ refused: true });
    const asked = ++latest;
    const answered = (state) => asked === latest && show(state);
    show({ busy: true });
    return call("entities/lookup", { method: "POST", json: known }).then(
      ({ body }) => answered({ matches: body.matches }),
      (problem) => answered({ error: problem }),
    );
  };
  const type = ({ target }) => show({ matches, error, busy, typed: { ...last.typed, [target.name]: target.value } });
  const answer = useRef();
  useEffect(() => {
    // On a phone the answer is below the form.
    if (matches && answer.current.getBoundingClientRect().top > innerHeight * 0.7) answer.current.scrollIntoView();
  }, [matches]);
  const title = html`<${Title} above=${html`<a href=${link("/people")}>People</a>`}>Who is this?<//>`;
  if (withoutRun(error, anybody.error)) return html`${title}<${NoRun} />`;
  return html`
    ${title}
    <div class="panels beside">
      <${Panel} title="What is known" note="All that you have: an email or a phone, or a name with one thing more. Nothing is stored.">
        <form class="fields" onSubmit=${find}>
          ${FIELDS.map(
            ([name, help]) =>
              html`<label key=${name}>
                <span>${plain(name)}</span>
                <input name=${name} type="text" autocomplete="off" maxlength="255" ...${help} value=${typed[name] ?? ""} onInput=${type} />
              </label>`,
          )}
          ${refused && html`<p class="bad" role="alert">Type something that is known.</p>`}
          <div class="controls">
            <button class="button primary" disabled=${busy}>${busy ? "Looking…" : "Look up"}</button>
            <button class="button" type="button" disabled=${busy} onClick=${() => show({ typed: {} })}>Clear</button>
          </div>
        </form>
      <//>
      <${Panel} wide title="Who they may be" note=${html`<span class="answer" role="status" ref=${answer}>${matches ? said(matches) : ""}</span>`}>
        ${error ? html`<${Fault} error=${error} retry=${find} />` : busy ? html`<${Waiting} lines=${6} />` : html`<${Found} matches=${matches} />`}
      <//>
    </div>
  `;
}

const said = (matches) => `${counted(matches.length, "person", "people")}${matches.length > 1 ? ", the most likely first" : ""}`;

function Found({ matches }) {
  if (!matches) return html`<${Empty} title="Nobody was looked for yet">Type what is known of a person: it is compared with everybody's records.<//>`;
  if (!matches.length) return html`<${Empty} title="Nobody like this">No record is like what was typed. Another email, phone or way to write the name may be.<//>`;
  return matches.map((match, place) => html`<${Match} key=${match.entity_id} match=${match} open=${place === 0} />`);
}

/** Somebody they may be: who that is, how likely, and why. */
function Match({ match, open }) {
  const { name = "without a name", ...known } = match.golden;
  return html`<article class="match">
    <div class="line">
      <h3><a href=${link(`/people/${match.entity_id}`)}><${Text}>${name}<//></a> <small class="note">person ${match.entity_id}</small></h3>
      <strong class="likely">${percent(match.probability)} likely</strong>
    </div>
    <dl class="known">
      ${Object.entries(known).map(([field, value]) => html`<div key=${field}><dt>${plain(field)}</dt><dd><${Text}>${value}<//></dd></div>`)}
    </dl>
    <details open=${open}>
      <summary>Why</summary>
      <${Reason} title=${`What was typed and record ${match.record_id}`} rules=${match.rule ? [match.rule] : []} score=${match} />
    </details>
  </article>`;
}
