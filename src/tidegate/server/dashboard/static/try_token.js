// Tokens signed in this page, with a secret that stays in it.

const encode = (bytes) =>
  btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const utf8 = (text) => new TextEncoder().encode(text);
const HOUR = 3600;

// Whether this page may sign: browsers let only pages of this machine, or over TLS.
export const canSign = () => Boolean(globalThis.crypto?.subtle);

// Returns a JSON Web Token (RFC 7519) that is good for an hour.
export async function sign(secret, claims) {
  const parts = [{ alg: "HS256", typ: "JWT" }, { ...claims, exp: Math.floor(Date.now() / 1000) + HOUR }];
  const text = parts.map((part) => encode(utf8(JSON.stringify(part)))).join(".");
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const key = await crypto.subtle.importKey("raw", utf8(secret), algorithm, false, ["sign"]);
  return `${text}.${encode(new Uint8Array(await crypto.subtle.sign("HMAC", key, utf8(text))))}`;
}
