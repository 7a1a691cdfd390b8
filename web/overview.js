// How many customers there are, and which sources have them.

import { useAnswer } from "./api.js?v=";
import { SourceBars, UpSet, Venn } from "./charts.js?v=";
import { html } from "./lib.js?v=";
import { Answer, ByChoice, Empty, NoRun, Panel, Title, link, number, withoutRun } from "./parts.js?v=";

/** Regions that are asked for: with 63 sources there may be tens of thousands. */
const LARGEST = 200;

/** What is counted, in the singular and the plural. */
export const nounOf = (by) => (by === "entity" ? ["person", "people"] : ["customer", "customers"]);

/** The first view. */
export function Overview({ query, sources, go }) {
  const by = query.by;
  const noun = nounOf(by);
  const totals = useAnswer("deduplication/analyze", { query: { limit: 1, by } });
  const regions = useAnswer("deduplication/regions", { query: { limit: LARGEST, by } });
  const compared = useAnswer("deduplication/compare-sources", { query: { limit: 1, by } });
  const nothing = totals.body?.total_records === 0;
  const title = html`<${Title} aside=${html`<${ByChoice} by=${by} choose=${(chosen) => go("/", { by: chosen })} />`}>
    How many customers do we have?
  <//>`;
  // Whichever of the three refuses first speaks for all of them.
  if (withoutRun(totals.error, regions.error, compared.error)) return html`${title}<${NoRun} />`;
  return html`
    ${title}
    <${Answer} answer=${totals} lines=${2}>
      ${(body) => html`<${Totals} of=${body} by=${by} />`}
    <//>
    ${nothing
      ? html`<${Empty} title="No records yet">
          <a href=${link("/uploads")}>Upload a file</a> of one of your systems: its customers appear here as soon as it is loaded.
        <//>`
      : !totals.error &&
        html`<div class="panels overview">
          <${Panel} wide title="Who has whom" note=${`${noun[1][0].toUpperCase()}${noun[1].slice(1)} in exactly the marked sources and in no other. Choose a bar to see them.`}>
            <${Answer} answer=${regions} lines=${6}>
              ${(body) => body.length > 0 && html`<${UpSet} regions=${body} total=${regions.total} sources=${sources} by=${by} noun=${noun} />`}
            <//>
          <//>
          ${sources.length > 1 &&
          sources.length < 4 &&
          html`<${Panel} title="Overlap" note="Areas are as near to the counts as circles can be.">
            <${Answer} answer=${regions} lines=${6}>
              ${(body) => body.length > 0 && html`<${Venn} regions=${body} sources=${sources} by=${by} noun=${noun} />`}
            <//>
          <//>`}
          <${Panel} full=${sources.length < 4} title="By source" note="In full colour: in no other source.">
            <${Answer} answer=${compared} lines=${5}>
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
    ["Records", of.total_records, "as the sources sent them"],
    [people ? "People" : "Customers", of.unique_customers, people ? "each counted once, whatever their ids" : "distinct customer ids"],
    ["Duplicates", of.duplicates_found, people ? "records beyond each person's first" : "records beyond each customer's first"],
  ];
  return html`<dl class="tiles">
    ${tiles.map(([name, value, note]) => html`<div key=${name}><dt>${name}</dt><dd><strong>${number(value)}</strong><small>${note}</small></dd></div>`)}
  </dl>`;
}
