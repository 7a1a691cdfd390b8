// The overview: the number of customers and the overlap of the sources.

import { useResponse } from "./api.js?v=";
import { SourceBars, UpSet, Venn } from "./charts.js?v=";
import { Unresolved } from "./freshness.js?v=";
import { html } from "./lib.js?v=";
import { ByChoice, Empty, Loaded, NoRun, Panel, Title, link, number, withoutRun } from "./parts.js?v=";

/** Most regions to load: with 63 sources there may be tens of thousands. */
const LARGEST = 200;

/** The singular and plural of what is counted. */
export const nounOf = (by) => (by === "entity" ? ["person", "people"] : ["customer", "customers"]);

/** The start view. */
export function Overview({ query, sources, go }) {
  const by = query.by;
  const noun = nounOf(by);
  const totals = useResponse("deduplication/analyze", { query: { limit: 1, by } });
  const regions = useResponse("deduplication/regions", { query: { limit: LARGEST, by } });
  const compared = useResponse("deduplication/compare-sources", { query: { limit: 1, by } });
  const nothing = totals.body?.total_records === 0;
  const title = html`<${Title} aside=${html`<${ByChoice} by=${by} choose=${(chosen) => go("/", { by: chosen })} />`}>
    Customers across sources
  <//>`;
  // All three requests fail without an active run; one error is enough to know it.
  if (withoutRun(totals.error, regions.error, compared.error)) return html`${title}<${NoRun} />`;
  return html`
    ${title}
    ${by === "entity" && html`<${Unresolved} />`}
    <${Loaded} response=${totals} lines=${2}>
      ${(body) => html`<${Totals} of=${body} by=${by} />`}
    <//>
    ${nothing
      ? html`<${Empty} title="No records yet">
          <a href=${link("/uploads")}>Upload a file</a> of one of your systems to count its customers.
        <//>`
      : !totals.error &&
        html`<div class="panels overview">
          <${Panel} wide title="Overlap" note=${`${noun[1][0].toUpperCase()}${noun[1].slice(1)} in exactly the marked sources and in no other. Select a bar to list them.`}>
            <${Loaded} response=${regions} lines=${6}>
              ${(body) => body.length > 0 && html`<${UpSet} regions=${body} total=${regions.total} sources=${sources} by=${by} noun=${noun} />`}
            <//>
          <//>
          ${sources.length > 1 &&
          sources.length < 4 &&
          html`<${Panel} title="Venn diagram" note="Areas are approximate.">
            <${Loaded} response=${regions} lines=${6}>
              ${(body) => body.length > 0 && html`<${Venn} regions=${body} sources=${sources} by=${by} noun=${noun} />`}
            <//>
          <//>`}
          <${Panel} full=${sources.length < 4} title="By source" note=${`The strong colour shows ${noun[1]} in no other source.`}>
            <${Loaded} response=${compared} lines=${5}>
              ${(body) => {
                const counts = sources.map((source) => ({
                  source,
                  total: body[`${source}_count`],
                  only: body[`only_in_${source}_count`],
                }));
                return html`<${SourceBars} counts=${counts} sources=${sources} by=${by} noun=${noun} />`;
              }}
            <//>
          <//>
        </div>`}
  `;
}

function Totals({ of, by }) {
  const people = by === "entity";
  const tiles = [
    ["Records", of.total_records, "as sent by the sources"],
    [people ? "People" : "Customers", of.unique_customers, people ? "counted once, even with several ids" : "distinct customer ids"],
    ["Duplicates", of.duplicates_found, `additional records of ${people ? "people" : "customers"} already counted`],
  ];
  return html`<dl class="tiles">
    ${tiles.map(([name, value, note]) => html`<div key=${name}><dt>${name}</dt><dd><strong>${number(value)}</strong><small>${note}</small></dd></div>`)}
  </dl>`;
}
