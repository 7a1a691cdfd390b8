// Set questions with the customers that they select, and one customer's records side by side.

import { useAnswer, usePages } from "./api.js?v=";
import { html } from "./lib.js?v=";
import { nounOf } from "./overview.js?v=";
import { ByChoice, Choice, Empty, Pages, Panel, Records, Sources, Title, counted, link } from "./parts.js?v=";

/** The names in a comma-separated list that are sources. */
export const namesIn = (text, sources) => (text ?? "").split(",").filter((name) => sources.includes(name));

/** For each source: must have the customer, must not, or either. */
export function SourceFilter({ sources, has, lacks, choose }) {
  const put = (source, wish) => {
    const without = (names) => names.filter((name) => name !== source);
    choose({
      in: (wish === "in" ? [...without(has), source] : without(has)).join(","),
      not_in: (wish === "out" ? [...without(lacks), source] : without(lacks)).join(","),
    });
  };
  return html`<div class="filter">
    ${sources.map(
      (source) =>
        html`<div class="filter-row" key=${source}>
          <span>${source}</span>
          <${Choice}
            label=${source}
            options=${[["in", "in"], ["any", "either"], ["out", "not in"]]}
            value=${has.includes(source) ? "in" : lacks.includes(source) ? "out" : "any"}
            choose=${(wish) => put(source, wish)}
          />
        </div>`,
    )}
  </div>`;
}

/** The customers in some sources and not in others. */
export function Customers({ query, sources, go }) {
  const { by } = query;
  const [has, lacks] = [namesIn(query.in, sources), namesIn(query.not_in, sources)];
  const asked = { in: has.join(","), not_in: lacks.join(","), by };
  const pages = usePages("deduplication/customers", { query: asked, limit: 100, pick: (body) => body.customer_ids });
  const noun = nounOf(by);
  const change = (changed) => go("/customers", { ...asked, ...changed });
  return html`
    <${Title} aside=${html`<${ByChoice} by=${by} choose=${(chosen) => change({ by: chosen })} />`}>
      ${question(has, lacks, noun)}
    <//>
    <div class="panels beside">
      <${Panel} title="Sources" note="Any combination is a question.">
        <${SourceFilter} sources=${sources} has=${has} lacks=${lacks} choose=${change} />
      <//>
      <${Panel} wide title=${pages.first ? counted(pages.first.count, ...noun) : "…"}>
        <${Pages} pages=${pages} lines=${8} empty=${html`<${Empty} title="Nobody">No ${noun[0]} is in exactly this combination of sources.<//>`}>
          ${(ids) =>
            html`<ul class="ids">
              ${ids.map((id) => html`<li key=${id}><a href=${link(by === "entity" ? `/people/${id}` : `/customers/${id}`)}>${id}</a></li>`)}
            </ul>`}
        <//>
      <//>
    </div>
  `;
}

function question(has, lacks, [, many]) {
  const name = many[0].toUpperCase() + many.slice(1);
  if (!has.length && !lacks.length) return `All ${many}`;
  return [name, has.length && `in ${has.join(" and ")}`, lacks.length && `not in ${lacks.join(" or ")}`].filter(Boolean).join(" ");
}

/** One customer. */
export function Customer({ id }) {
  const path = `customers/${encodeURIComponent(id)}`;
  const pages = usePages(path, { limit: 20, pick: (body) => body.records });
  const entities = pages.first?.entity_ids ?? [];
  return html`
    <${Title} above=${html`<a href=${link("/customers")}>Customers</a>`}>Customer ${id}<//>
    <${Pages} pages=${pages} lines=${8} empty=${html`<${Empty} title="No records">This customer has none.<//>`}>
      ${(records) =>
        html`<${Panel} title=${counted(records.length, "record")} note="Marked: what differs.">
          <p class="facts">In <${Sources} names=${pages.first.sources} /></p>
          ${entities.length > 0 &&
          html`<p class="facts">
            Matching says this is ${entities.map((entity) => html`<a key=${entity} href=${link(`/people/${entity}`)}>person ${entity}</a> `)}
          </p>`}
          <${Records} records=${records} />
        <//>`}
    <//>
  `;
}
