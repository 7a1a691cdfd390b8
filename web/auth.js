// Sign-in by OpenID, authorization code with PKCE (RFC 7636), where the deployment says so.

const SESSION = "dedup.session";
const PENDING = "dedup.sign-in";
const SCOPES = "openid dedup/read dedup/write dedup/publish dedup/admin";
const EARLY_SECONDS = 60;

let provider = null;

/** Takes `sign_in` of config.json ({url, client_id} or null) and finishes a sign-in that just came back. Throws Error. */
export async function begin(signIn) {
  provider = signIn;
  const here = new URL(location.href);
  const state = here.searchParams.get("state");
  if (!provider || !state) return;
  const pending = read(PENDING);
  sessionStorage.removeItem(PENDING);
  history.replaceState(null, "", here.pathname + (pending?.hash ?? ""));
  if (pending?.state !== state) throw new Error("The sign-in did not begin in this tab. Please try again.");
  const refused = here.searchParams.get("error_description") ?? here.searchParams.get("error");
  if (refused) throw new Error(refused);
  await fetchTokens({
    grant_type: "authorization_code",
    code: here.searchParams.get("code"),
    redirect_uri: address(),
    code_verifier: pending.verifier,
  });
}

/** Whether people sign in here at all. */
export const needed = () => provider !== null;

/** Whether somebody is signed in. */
export const signedIn = () => provider === null || read(SESSION) !== null;

/** The access token for the next request, made anew when it is about to end; null where there is none. */
export async function token() {
  const session = provider && read(SESSION);
  if (!session) return null;
  if (Date.now() / 1000 < session.ends - EARLY_SECONDS) return session.access_token;
  if (!session.refresh_token) return forget();
  try {
    await fetchTokens({ grant_type: "refresh_token", refresh_token: session.refresh_token });
  } catch {
    return forget();
  }
  return read(SESSION).access_token;
}

/** Leaves for the provider's sign-in page; it comes back to the view that is shown now. */
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

/** Forgets the tokens and ends the provider's session too. */
export function signOut() {
  forget();
  location.assign(
    `${provider.url}/logout?${new URLSearchParams({ client_id: provider.client_id, logout_uri: address() })}`,
  );
}

/** Forgets the tokens: null. */
export function forget() {
  sessionStorage.removeItem(SESSION);
  return null;
}

async function fetchTokens(fields) {
  const answer = await fetch(`${provider.url}/oauth2/token`, {
    method: "POST",
    body: new URLSearchParams({ client_id: provider.client_id, ...fields }),
  });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(`The sign-in was refused: ${body.error_description ?? body.error ?? answer.status}`);
  const refresh = body.refresh_token ?? fields.refresh_token;
  const session = {
    access_token: body.access_token,
    refresh_token: refresh,
    ends: Date.now() / 1000 + (body.expires_in ?? 3600),
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
