// The charts. Positions come from d3's scales and the layout of @upsetjs/venn.js; regions are links, so that they can be
// used with a keyboard.

import { html, layout, max, mean, min, range, scaleBand, scaleLinear, scaleSymlog, useMemo, useState } from "./lib.js?v=";
import { counted, link, number, regionQuery, useWidth } from "./parts.js?v=";

const ROW = 34;
const DOT = 24;
const FIRST_ROWS = 16;
const COUNT_WIDTH = 84;

const listed = (names) => (names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names.at(-1)}` : names[0]);

/** "Only in hubspot and internal: 12 customers". */
const described = ({ sources, count }, noun) => `Only in ${listed(sources)}: ${counted(count, ...noun)}`;

/**
 * An UpSet plot with one region in each row: its sources and the number of its customers. `regions` are those of the API,
 * the largest first; `total` is the number of all regions. Each row links to its customers.
 */
export function UpSet({ regions, total, sources, by, noun }) {
  const [box, width] = useWidth();
  const [all, setAll] = useState(false);
  const shown = all ? regions : regions.slice(0, FIRST_ROWS);
  const longest = max(sources, (name) => name.length);
  const head = Math.min(150, 18 + longest * 4.6);
  const left = sources.length * DOT + 16;
  const right = Math.max(width, left + COUNT_WIDTH + 60);
  const x = scaleLinear([0, max(regions, (region) => region.count)], [0, right - left - COUNT_WIDTH]);
  const y = scaleBand(shown.map((region) => region.sources.join()), [head, head + shown.length * ROW]).padding(0.35);
  const column = (source) => 12 + sources.indexOf(source) * DOT;
  return html`<div ref=${box} class="chart" tabindex="0" role="region" aria-label="UpSet plot">
    <svg width=${right} height=${head + shown.length * ROW} role="group" aria-label="Regions: number of customers in each combination of sources">
      ${sources.map(
        (source) =>
          html`<text key=${source} class="tick" transform=${`translate(${column(source) + 3} ${head - 6}) rotate(-42)`}>${source}</text>`,
      )}
      ${shown.map((region) => {
        const key = region.sources.join();
        const middle = y(key) + y.bandwidth() / 2;
        const columns = sources.filter((source) => region.sources.includes(source)).map(column);
        const length = Math.max(2, x(region.count));
        return html`<a key=${key} class="region" href=${link("/customers", regionQuery(region.sources, sources, by))} aria-label=${described(region, noun)}>
          <title>${described(region, noun)}</title>
          <rect class="hit" x="0" y=${middle - ROW / 2} width=${right} height=${ROW} rx="4" />
          ${sources.map((source) => html`<circle class="off" key=${source} cx=${column(source)} cy=${middle} r="4" />`)}
          <line class="on" x1=${columns[0]} x2=${columns.at(-1)} y1=${middle} y2=${middle} />
          ${columns.map((at) => html`<circle class="on" key=${at} cx=${at} cy=${middle} r="6" />`)}
          <rect class="bar" x=${left} y=${y(key)} width=${length} height=${y.bandwidth()} rx="2" />
          <text class="count" x=${left + length + 8} y=${middle}>${number(region.count)}</text>
        </a>`;
      })}
    </svg>
    ${regions.length > shown.length &&
    html`<button class="button more" onClick=${() => setAll(true)}>Show ${total > regions.length ? "the largest" : "all"} ${number(regions.length)} regions</button>`}
    ${total > regions.length && html`<p class="note">${number(total - regions.length)} smaller regions are not shown.</p>`}
  </div>`;
}

const VENN = { width: 380, height: 310, padding: 30 };

/** A Venn diagram of two or three sources. Its areas are approximate. Each region links to its customers. */
export function Venn({ regions, sources, by, noun }) {
  const areas = useMemo(() => vennAreas(regions, sources), [regions]);
  return html`<div class="chart venn">
    <svg viewBox=${`0 0 ${VENN.width} ${VENN.height}`} role="group" aria-label="Venn diagram of the sources">
      ${areas
        .filter((area) => area.sources.length === 1)
        .map(({ sources: [source], circles: [circle] }) => html`<circle key=${source} class=${`set set-${sources.indexOf(source)}`} cx=${circle.x} cy=${circle.y} r=${circle.radius} />`)}
      ${areas
        .filter((area) => area.count)
        .map(
          (area) =>
            html`<a key=${area.sources.join()} class="area" href=${link("/customers", regionQuery(area.sources, sources, by))} aria-label=${described(area, noun)}>
              <title>${described(area, noun)}</title>
              <path d=${area.path} fill-rule="evenodd" />
              <text class="count" x=${area.text.x} y=${area.text.y}>${number(area.count)}</text>
            </a>`,
        )}
      ${nameplates(areas).map(({ name, ...at }) => html`<text key=${name} class="name" ...${at}>${name}</text>`)}
    </svg>
  </div>`;
}

/** Positions of the circles' names: away from the other circles, or above the outer edge if the circles are side by side. */
function nameplates(areas) {
  const circles = areas.filter((area) => area.sources.length === 1).map((area) => area.circles[0]);
  const middle = { x: mean(circles, (circle) => circle.x), y: mean(circles, (circle) => circle.y) };
  return circles.map(({ set, x, y, radius }) => {
    const [right, down] = [x - middle.x, y - middle.y];
    if (Math.abs(down) > Math.abs(right) * 0.2 || !right) {
      const inner = [Math.min(x + radius * 0.2, middle.x - 8), Math.max(x - radius * 0.2, middle.x + 8)];
      const across = Math.abs(right) < radius * 0.1 ? ["middle", x] : right < 0 ? ["end", inner[0]] : ["start", inner[1]];
      return { name: set, "text-anchor": across[0], x: across[1], y: down > 0 ? y + radius + 20 : y - radius - 9 };
    }
    const outer = right < 0 ? { "text-anchor": "start", x: x - radius } : { "text-anchor": "end", x: x + radius };
    return { name: set, ...outer, y: y - radius - 9 };
  });
}

function vennAreas(regions, sources) {
  const subsets = sources.reduce((sets, source) => [...sets, ...sets.map((set) => [...set, source])], [[]]).slice(1);
  const has = (whole, part) => part.every((source) => whole.includes(source));
  const data = subsets.map((sets) => ({
    sets,
    size: regions.filter((region) => has(region.sources, sets)).reduce((sum, region) => sum + region.count, 0),
  }));
  // Empty sources have no circle.
  const drawn = data.filter((area) => has(data.filter((one) => one.sets.length === 1 && one.size).flatMap((one) => one.sets), area.sets));
  return layout(drawn, VENN).map((area) => ({
    sources: area.data.sets,
    count: regions.find((region) => region.sources.length === area.data.sets.length && has(region.sources, area.data.sets))?.count ?? 0,
    circles: area.circles,
    path: area.distinctPath,
    text: area.text ?? { x: 0, y: 0 },
  }));
}

/** Bars with the number of customers in each source, and in this source only. `counts` are {source, total, only}. */
export function SourceBars({ counts, sources, by, noun }) {
  const x = scaleLinear([0, max(counts, (one) => one.total) || 1], [0, 100]);
  return html`<div class="source-bars">
    ${counts.map(
      ({ source, total, only }) =>
        html`<div key=${source}>
          <div class="line">
            <a href=${link("/customers", { in: source, by })}>${source}</a>
            <span><strong>${number(total)}</strong> ${noun[total === 1 ? 0 : 1]}</span>
          </div>
          <svg class="source-bar" width="100%" height="14" aria-hidden="true">
            <rect class="shared" width=${`${x(total)}%`} height="14" rx="2" />
            <rect class="bar" width=${`${x(only)}%`} height="14" rx="2" />
          </svg>
          <a class="only" href=${link("/customers", regionQuery([source], sources, by))}>${number(only)} only in this source</a>
        </div>`,
    )}
  </div>`;
}

/** A histogram of match weights: {weight, pairs}. The scale is logarithmic, because the few pairs near 0 matter most. */
export function Histogram({ bins }) {
  const [box, width] = useWidth();
  const [height, left, bottom] = [200, 52, 34];
  const [lowest, highest] = [min(bins, (bin) => bin.weight), max(bins, (bin) => bin.weight)];
  const pairs = new Map(bins.map((bin) => [bin.weight, bin.pairs]));
  const sorted = range(lowest, highest + 1).map((weight) => ({ weight, pairs: pairs.get(weight) ?? 0 }));
  const x = scaleBand(sorted.map((bin) => bin.weight), [left, Math.max(280, width)]).padding(0.12);
  const y = scaleSymlog([0, max(sorted, (bin) => bin.pairs) || 1], [height - bottom, 10]);
  const ticks = [0, 1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7].filter((tick) => tick <= y.domain()[1]);
  const every = Math.ceil((sorted.length * 30) / Math.max(280, width));
  return html`<div ref=${box} class="chart">
    <svg width=${Math.max(280, width)} height=${height} role="img" aria-label="Pairs of records by match weight">
      ${ticks.map(
        (tick) =>
          html`<g key=${tick}><line class="grid" x1=${left} x2=${Math.max(280, width)} y1=${y(tick)} y2=${y(tick)} />
            <text class="tick" text-anchor="end" x=${left - 8} y=${y(tick) + 4}>${number(tick)}</text></g>`,
      )}
      ${sorted.map(
        (bin) =>
          html`<g key=${bin.weight}>
            <rect class=${bin.weight < 0 ? "shared" : "bar"} x=${x(bin.weight)} y=${y(bin.pairs)} width=${x.bandwidth()} height=${height - bottom - y(bin.pairs)}>
              <title>Match weight ${bin.weight}: ${counted(bin.pairs, "pair")}</title>
            </rect>
            ${bin.weight % every === 0 && html`<text class="tick" text-anchor="middle" x=${x(bin.weight) + x.bandwidth() / 2} y=${height - bottom + 16}>${bin.weight}</text>`}
          </g>`,
      )}
      <text class="tick" x=${left} y=${height - 2}>← different people</text>
      <text class="tick" text-anchor="end" x=${Math.max(280, width)} y=${height - 2}>same person →</text>
    </svg>
  </div>`;
}
