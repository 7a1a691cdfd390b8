// What the page needs of others, as one module: `make web-lib` bundles it into ../lib.js.
export { html } from "htm/preact";
export { render } from "preact";
export { useCallback, useEffect, useId, useMemo, useRef, useState } from "preact/hooks";
export { max, mean, min, range } from "d3-array";
export { format } from "d3-format";
export { csvParseRows } from "d3-dsv";
export { scaleBand, scaleLinear, scaleSymlog } from "d3-scale";
export { layout } from "@upsetjs/venn.js";
