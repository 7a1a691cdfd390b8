// How far people are up to date: the records that matching has not resolved yet.

import { useResponse } from "./api.js?v=";
import { html } from "./lib.js?v=";
import { counted } from "./parts.js?v=";

const POLL = 2000;

/** A line with the number of records that wait for matching; nothing if there are none. */
export function Unresolved() {
  const { body } = useResponse("matching/status", { every: (status) => (status.unresolved_records > 0 ? POLL : null) });
  if (!body?.unresolved_records) return null;
  return html`<p class="facts note">${counted(body.unresolved_records, "record")} waiting to be matched</p>`;
}
