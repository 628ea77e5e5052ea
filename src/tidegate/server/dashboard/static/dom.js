// Elements, without ever reading text as HTML: what peers sent stays text.

export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value == null || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child != null));
  return made;
}

export function table(caption, heads, rows) {
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el(
      "table",
      {},
      el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, rows.map((cells) => el("tr", {}, cells.map(cell)))),
    ),
  );
}

function cell(value) {
  if (value instanceof HTMLTableCellElement) return value;
  return el("td", {}, value instanceof Node ? value : String(value ?? "-"));
}

// Asks before something is done that cannot be undone; resolves to true or false.
export function confirmed(question, action) {
  return new Promise((resolve) => {
    const dialog = el(
      "dialog",
      { "aria-label": action, onclose: () => { resolve(dialog.returnValue === "yes"); dialog.remove(); } },
      el("p", {}, question),
      el(
        "form",
        { method: "dialog", class: "row" },
        el("button", { value: "no", class: "plain" }, "Cancel"),
        el("button", { value: "yes", class: "danger" }, action),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}

export const number = (value) => (value ?? 0).toLocaleString("en", { maximumFractionDigits: 1 });

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${value.toFixed(unit ? 1 : 0)} ${units[unit]}`;
}

export function seconds(value) {
  if (value == null) return "-";
  if (value < 60) return `${value.toFixed(value < 10 ? 1 : 0)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min`;
  return `${Math.floor(value / 3600)} h ${Math.floor((value % 3600) / 60)} min`;
}

export const time = (unix) => new Date(unix * 1000).toLocaleTimeString();
