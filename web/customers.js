// The views of customers: the customers of a set question, and one customer with all records.

import { usePagedList } from "./api.js?v=";
import { Unresolved } from "./freshness.js?v=";
import { html } from "./lib.js?v=";
import { nounOf } from "./overview.js?v=";
import { ByChoice, Choice, Empty, PagedList, Panel, Records, Sources, Title, counted, customerPath, link } from "./parts.js?v=";

/** Returns the names of sources in a comma-separated list. Unknown names are ignored. */
export const namesIn = (text, sources) => (text ?? "").split(",").filter((name) => sources.includes(name));

/** A filter by sources. Each source is required (in `has`), excluded (in `lacks`), or ignored. */
export function SourceFilter({ sources, has, lacks, choose }) {
  const set = (source, state) => {
    const without = (names) => names.filter((name) => name !== source);
    choose({
      in: (state === "in" ? [...without(has), source] : without(has)).join(","),
      not_in: (state === "out" ? [...without(lacks), source] : without(lacks)).join(","),
    });
  };
  return html`<div class="filter">
    ${sources.map(
      (source) =>
        html`<div class="filter-row" key=${source}>
          <span>${source}</span>
          <${Choice}
            label=${source}
            options=${[["in", "in"], ["any", "any"], ["out", "not in"]]}
            value=${has.includes(source) ? "in" : lacks.includes(source) ? "out" : "any"}
            choose=${(state) => set(source, state)}
          />
        </div>`,
    )}
  </div>`;
}

/** The view of the customers (or people) of a set question. */
export function Customers({ query, sources, go }) {
  const { by } = query;
  const [has, lacks] = [namesIn(query.in, sources), namesIn(query.not_in, sources)];
  const filter = { in: has.join(","), not_in: lacks.join(","), by };
  const list = usePagedList("deduplication/customers", { query: filter, limit: 100, pick: (body) => body.customer_ids });
  const noun = nounOf(by);
  const change = (changed) => go("/customers", { ...filter, ...changed });
  return html`
    <${Title} aside=${html`<${ByChoice} by=${by} choose=${(chosen) => change({ by: chosen })} />`}>
      ${titleOf(has, lacks, noun)}
    <//>
    ${by === "entity" && html`<${Unresolved} />`}
    <div class="panels beside">
      <${Panel} title="Sources" note="Combine sources to filter the list.">
        <${SourceFilter} sources=${sources} has=${has} lacks=${lacks} choose=${change} />
      <//>
      <${Panel} wide title=${list.first ? counted(list.first.count, ...noun) : "…"}>
        <${PagedList} list=${list} lines=${8} empty=${html`<${Empty} title=${`No ${noun[1]}`}>No ${noun[1]} match this combination of sources.<//>`}>
          ${(ids) =>
            html`<ul class="ids">
              ${ids.map((id) => html`<li key=${id}><a href=${link(by === "entity" ? `/people/${id}` : customerPath(id))}>${id}</a></li>`)}
            </ul>`}
        <//>
      <//>
    </div>
  `;
}

function titleOf(has, lacks, [, many]) {
  const name = many[0].toUpperCase() + many.slice(1);
  if (!has.length && !lacks.length) return `All ${many}`;
  const parts = [has.length && `in ${has.join(" and ")}`, lacks.length && `not in ${lacks.join(" or ")}`];
  return `${name} ${parts.filter(Boolean).join(", ")}`;
}

/** The view of one customer. */
export function Customer({ id }) {
  const path = `customers/${encodeURIComponent(id)}`;
  const list = usePagedList(path, { limit: 20, pick: (body) => body.records });
  const entities = list.first?.entity_ids ?? [];
  return html`
    <${Title} above=${html`<a href=${link("/customers")}>Customers</a>`}>Customer ${id}<//>
    <${PagedList} list=${list} lines=${8} empty=${html`<${Empty} title="No records">This customer has no records.<//>`}>
      ${(records) =>
        html`<${Panel} title=${counted(records.length, "record")} note="Differences are highlighted.">
          <p class="facts">Sources: <${Sources} names=${list.first.sources} /></p>
          ${entities.length > 0 &&
          html`<p class="facts">
            Found by matching: ${entities.map((entity) => html`<a key=${entity} href=${link(`/people/${entity}`)}>person ${entity}</a> `)}
          </p>`}
          <${Records} records=${records} />
        <//>`}
    <//>
  `;
}
