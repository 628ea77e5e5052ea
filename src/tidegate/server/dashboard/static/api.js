// The admin API: every answer as a value, every failure as an Error with its text.

export class Failure extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

export async function ask(path, options = {}) {
  const response = await fetch(path, { headers: { Accept: "application/json" }, ...options });
  if (response.status === 401) {
    location.assign("/");
    throw new Failure(401, "logged out");
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok && response.status !== 503) {
    throw new Failure(response.status, body.error ?? `status ${response.status}`);
  }
  return body;
}

export function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== "" && value != null);
  const text = new URLSearchParams(given).toString();
  return text ? `?${text}` : "";
}

export function post(path, value) {
  const json = value !== undefined;
  return ask(path, {
    method: "POST",
    headers: json ? { "Content-Type": "application/json" } : {},
    body: json ? JSON.stringify(value) : undefined,
  });
}
