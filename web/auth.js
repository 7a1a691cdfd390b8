// Sign-in with OpenID Connect: authorization code with PKCE (RFC 7636). Used if the deployment has a provider.

const SESSION = "dedup.session";
const PENDING = "dedup.sign-in";
const SCOPES = "openid dedup/read dedup/write dedup/publish dedup/admin";
const REFRESH_BEFORE_SECONDS = 60;

let provider = null;

/** Sets the provider, `sign_in` of config.json ({url, client_id} or null), and completes a sign-in after its redirect. Throws Error. */
export async function initialise(signIn) {
  provider = signIn;
  const here = new URL(location.href);
  const state = here.searchParams.get("state");
  if (!provider || !state) return;
  const pending = read(PENDING);
  sessionStorage.removeItem(PENDING);
  history.replaceState(null, "", here.pathname + (pending?.hash ?? ""));
  if (pending?.state !== state) throw new Error("The sign-in was not started in this tab. Sign in again.");
  const refused = here.searchParams.get("error_description") ?? here.searchParams.get("error");
  if (refused) throw new Error(refused);
  await fetchTokens({
    grant_type: "authorization_code",
    code: here.searchParams.get("code"),
    redirect_uri: address(),
    code_verifier: pending.verifier,
  });
}

/** Whether this deployment has a sign-in. */
export const needed = () => provider !== null;

/** Whether the user is signed in, or does not have to be. */
export const signedIn = () => provider === null || read(SESSION) !== null;

/** Returns the access token, refreshed if it expires soon; null without a session. */
export async function token() {
  const session = provider && read(SESSION);
  if (!session) return null;
  if (Date.now() / 1000 < session.expires - REFRESH_BEFORE_SECONDS) return session.access_token;
  if (!session.refresh_token) return forget();
  try {
    await fetchTokens({ grant_type: "refresh_token", refresh_token: session.refresh_token });
  } catch {
    return forget();
  }
  return read(SESSION).access_token;
}

/** Redirects to the provider's sign-in page, which redirects back to the current view. */
export async function signIn() {
  const state = random(24);
  const verifier = random(48);
  sessionStorage.setItem(PENDING, JSON.stringify({ state, verifier, hash: location.hash }));
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
  location.assign(
    `${provider.url}/oauth2/authorize?${new URLSearchParams({
      response_type: "code",
      client_id: provider.client_id,
      redirect_uri: address(),
      scope: SCOPES,
      state,
      code_challenge: base64url(new Uint8Array(digest)),
      code_challenge_method: "S256",
    })}`,
  );
}

/** Deletes the tokens and ends the provider's session. */
export function signOut() {
  forget();
  location.assign(
    `${provider.url}/logout?${new URLSearchParams({ client_id: provider.client_id, logout_uri: address() })}`,
  );
}

/** Deletes the tokens. Returns null. */
export function forget() {
  sessionStorage.removeItem(SESSION);
  return null;
}

async function fetchTokens(fields) {
  const response = await fetch(`${provider.url}/oauth2/token`, {
    method: "POST",
    body: new URLSearchParams({ client_id: provider.client_id, ...fields }),
  });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(`Sign-in failed: ${body.error_description ?? body.error ?? response.status}`);
  const refresh = body.refresh_token ?? fields.refresh_token;
  const session = {
    access_token: body.access_token,
    refresh_token: refresh,
    expires: Date.now() / 1000 + (body.expires_in ?? 3600),
  };
  sessionStorage.setItem(SESSION, JSON.stringify(session));
}

const address = () => location.origin + location.pathname;
const random = (bytes) => base64url(crypto.getRandomValues(new Uint8Array(bytes)));

function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replace(/[+/=]/g, (sign) => ({ "+": "-", "/": "_", "=": "" })[sign]);
}

function read(key) {
  try {
    return JSON.parse(sessionStorage.getItem(key));
  } catch {
    return null;
  }
}
