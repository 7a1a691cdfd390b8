// The page: its frame, which view an address shows, the theme, and who is signed in.

import * as auth from "./auth.js?v=";
import { Customer, Customers } from "./customers.js?v=";
import { html, render, useEffect, useState } from "./lib.js?v=";
import { Lookup } from "./lookup.js?v=";
import { Matching, People, Person, Review, Run } from "./matching.js?v=";
import { Overview } from "./overview.js?v=";
import { Empty, Fault, Title, link } from "./parts.js?v=";
import { Upload, Uploads } from "./uploads.js?v=";

/** Which view an address shows: its path, with groups for the ids in it. */
const ROUTES = [
  [/^\/$/, Overview],
  [/^\/customers$/, Customers],
  [/^\/customers\/(-?\d+)$/, Customer],
  [/^\/uploads$/, Uploads],
  [/^\/uploads\/(\d+)$/, Upload],
  [/^\/matching$/, Matching],
  [/^\/matching\/(\d+)$/, Run],
  [/^\/people$/, People],
  [/^\/people\/lookup$/, Lookup],
  [/^\/people\/(-?\d+)$/, Person],
  [/^\/review$/, Review],
];

const PLACES = [
  ["/", "Overview"],
  ["/customers", "Customers"],
  ["/uploads", "Uploads"],
  ["/matching", "Matching"],
  ["/people", "People"],
  ["/review", "Review"],
];

const THEMES = { light: "dark", dark: "light" };

function where() {
  const [path, search] = location.hash.replace(/^#/, "").split("?");
  return { path: path || "/", query: Object.fromEntries(new URLSearchParams(search)) };
}

function go(path, query) {
  location.hash = link(path, query);
}

function Page({ config }) {
  const [place, setPlace] = useState(where);
  const [signedIn, setSignedIn] = useState(auth.signedIn);
  useEffect(() => {
    const moved = () =>
      setPlace((before) => {
        const now = where();
        if (now.path !== before.path) requestAnimationFrame(enter);
        return now;
      });
    const signedOut = () => setSignedIn(false);
    window.addEventListener("hashchange", moved);
    window.addEventListener("signed-out", signedOut);
    return () => {
      window.removeEventListener("hashchange", moved);
      window.removeEventListener("signed-out", signedOut);
    };
  }, []);
  return html`
    <a class="skip" href="#content" onClick=${(event) => (event.preventDefault(), enter())}>To the content</a>
    <header class="top">
      <a class="brand" href=${link("/")}><${Mark} /><span>Customers, counted once</span></a>
      <nav aria-label="Views">
        ${PLACES.map(([path, name]) => html`<a key=${path} href=${link(path)} aria-current=${path === `/${place.path.split("/")[1]}` ? "page" : undefined}>${name}</a>`)}
      </nav>
      <div class="tools">
        ${signedIn && html`<${Find} />`}
        <${Theme} />
        ${auth.needed() && signedIn && html`<button class="button small" onClick=${auth.signOut}>Sign out</button>`}
      </div>
    </header>
    <main id="content">${signedIn ? html`<${View} place=${place} config=${config} />` : html`<${SignIn} />`}</main>
  `;
}

function View({ place, config }) {
  for (const [pattern, Shown] of ROUTES) {
    const found = pattern.exec(place.path);
    if (found) return html`<${Shown} key=${place.path} id=${found[1]} query=${place.query} sources=${config.sources} go=${go} />`;
  }
  return html`<${Title}>Not here<//><${Empty} title="There is no such view"><a href=${link("/")}>To the overview</a><//>`;
}

/** A new view is read from its title on. */
function enter() {
  window.scrollTo(0, 0);
  document.querySelector("h1")?.focus({ preventScroll: true });
}

function SignIn() {
  return html`<${Title}>Sign in<//>
    <${Empty} title="This deployment asks who you are">
      <button class="button primary" onClick=${auth.signIn}>Sign in</button>
    <//>`;
}

/** Leads to a customer by id. */
function Find() {
  const [refused, setRefused] = useState(false);
  const find = (event) => {
    event.preventDefault();
    const id = event.target.elements.customer.value.trim();
    setRefused(!/^-?\d+$/.test(id));
    if (/^-?\d+$/.test(id)) go(`/customers/${id}`);
  };
  return html`<form class="find" role="search" onSubmit=${find}>
    <input name="customer" type="search" inputmode="numeric" placeholder="Customer id" aria-label="Customer id" aria-invalid=${refused} autocomplete="off" />
    ${refused && html`<span class="hint" role="alert">An id is a whole number.</span>`}
  </form>`;
}

function Theme() {
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const [theme, setTheme] = useState(document.documentElement.dataset.theme ?? system);
  const change = () => {
    const next = THEMES[theme];
    document.documentElement.dataset.theme = next;
    try {
      localStorage.setItem("dedup.theme", next);
    } catch {
      // It holds until the page is left.
    }
    setTheme(next);
  };
  return html`<button class="icon" aria-label=${`Use the ${THEMES[theme]} theme`} title=${`Use the ${THEMES[theme]} theme`} onClick=${change}>
    <svg viewBox="0 0 24 24" width="20" height="20" aria-hidden="true"><circle cx="12" cy="12" r="8" fill="none" stroke="currentColor" stroke-width="2" /><path d="M12 4a8 8 0 0 1 0 16z" fill="currentColor" /></svg>
  </button>`;
}

const Mark = () =>
  html`<svg viewBox="0 0 32 32" width="26" height="26" aria-hidden="true"><circle class="set-0" cx="12" cy="16" r="9" /><circle class="set-1" cx="20" cy="16" r="9" /></svg>`;

const box = document.getElementById("page");
try {
  const answer = await fetch("app/config.json");
  if (!answer.ok) throw new Error(`The page's configuration can't be read (status ${answer.status}).`);
  const config = await answer.json();
  let refused = null;
  await auth.begin(config.sign_in).catch((error) => (refused = error));
  render(html`${refused && html`<${Fault} error=${refused} />`}<${Page} config=${config} />`, box);
} catch (error) {
  render(html`<main><${Fault} error=${error} retry=${() => location.reload()} /></main>`, box);
}
