// The page: its frame, routing, the theme, and sign-in.

import * as auth from "./auth.js?v=";
import { Customer, Customers } from "./customers.js?v=";
import { html, render, useEffect, useState } from "./lib.js?v=";
import { Lookup } from "./lookup.js?v=";
import { Matching, People, Person, Review, Run } from "./matching.js?v=";
import { Overview } from "./overview.js?v=";
import { Empty, ErrorMessage, Title, customerPath, link } from "./parts.js?v=";
import { Upload, Uploads } from "./uploads.js?v=";

/** The view of each path. Groups match the ids in it. */
const ROUTES = [
  [/^\/$/, Overview],
  [/^\/customers$/, Customers],
  [/^\/customers\/([^/]+)$/, Customer],
  [/^\/uploads$/, Uploads],
  [/^\/uploads\/(\d+)$/, Upload],
  [/^\/matching$/, Matching],
  [/^\/matching\/(\d+)$/, Run],
  [/^\/people$/, People],
  [/^\/people\/lookup$/, Lookup],
  [/^\/people\/(-?\d+)$/, Person],
  [/^\/review$/, Review],
];

const NAVIGATION = [
  ["/", "Overview"],
  ["/customers", "Customers"],
  ["/uploads", "Uploads"],
  ["/matching", "Matching"],
  ["/people", "People"],
  ["/review", "Review"],
];

const THEMES = { light: "dark", dark: "light" };

function currentRoute() {
  const [path, search] = location.hash.replace(/^#/, "").split("?");
  return { path: path || "/", query: Object.fromEntries(new URLSearchParams(search)) };
}

function go(path, query) {
  location.hash = link(path, query);
}

function Page({ config }) {
  const [route, setRoute] = useState(currentRoute);
  const [signedIn, setSignedIn] = useState(auth.signedIn);
  useEffect(() => {
    const navigated = () =>
      setRoute((before) => {
        const now = currentRoute();
        if (now.path !== before.path) requestAnimationFrame(focusContent);
        return now;
      });
    const signedOut = () => setSignedIn(false);
    window.addEventListener("hashchange", navigated);
    window.addEventListener("signed-out", signedOut);
    return () => {
      window.removeEventListener("hashchange", navigated);
      window.removeEventListener("signed-out", signedOut);
    };
  }, []);
  return html`
    <a class="skip" href="#content" onClick=${(event) => (event.preventDefault(), focusContent())}>Skip to content</a>
    <header class="top">
      <a class="brand" href=${link("/")}><${Mark} /><span>Customer Deduplication</span></a>
      <nav aria-label="Views">
        ${NAVIGATION.map(([path, name]) => html`<a key=${path} href=${link(path)} aria-current=${path === `/${route.path.split("/")[1]}` ? "page" : undefined}>${name}</a>`)}
      </nav>
      <div class="tools">
        ${signedIn && html`<${CustomerSearch} />`}
        <${Theme} />
        ${auth.needed() && signedIn && html`<button class="button small" onClick=${auth.signOut}>Sign out</button>`}
      </div>
    </header>
    <main id="content">${signedIn ? html`<${View} route=${route} config=${config} />` : html`<${SignIn} />`}</main>
  `;
}

function View({ route, config }) {
  for (const [pattern, Shown] of ROUTES) {
    const found = pattern.exec(route.path);
    if (found) return html`<${Shown} key=${route.path} id=${found[1] && decoded(found[1])} query=${route.query} sources=${config.sources} go=${go} />`;
  }
  return html`<${Title}>Page not found<//><${Empty} title="This page does not exist"><a href=${link("/")}>Go to the overview</a><//>`;
}

/** Returns a part of the path without percent-encoding. A part that is not encoded correctly is returned unchanged. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** Moves the focus to the title of the view, so that screen readers start there. */
function focusContent() {
  window.scrollTo(0, 0);
  document.querySelector("h1")?.focus({ preventScroll: true });
}

function SignIn() {
  return html`<${Title}>Sign in<//>
    <${Empty} title="Sign in to continue">
      <button class="button primary" onClick=${auth.signIn}>Sign in</button>
    <//>`;
}

/** A form that opens a customer by id. */
function CustomerSearch() {
  const find = (event) => {
    event.preventDefault();
    const id = event.target.elements.customer.value.trim();
    if (id) go(customerPath(id));
  };
  return html`<form class="find" role="search" onSubmit=${find}>
    <input name="customer" type="search" maxlength="255" placeholder="Customer id" aria-label="Customer id" autocomplete="off" />
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
      // Storage may be forbidden: then the choice lasts until the page is closed.
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
  const response = await fetch("app/config.json");
  if (!response.ok) throw new Error(`The page's configuration could not be loaded (status ${response.status}).`);
  const config = await response.json();
  let signInError = null;
  await auth.initialise(config.sign_in).catch((error) => (signInError = error));
  render(html`${signInError && html`<${ErrorMessage} error=${signInError} />`}<${Page} config=${config} />`, box);
} catch (error) {
  render(html`<main><${ErrorMessage} error=${error} retry=${() => location.reload()} /></main>`, box);
}
