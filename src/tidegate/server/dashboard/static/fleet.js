// Whether lists show the server that is asked, or all nodes of its fleet.

import { ask } from "./api.js";
import { el, number } from "./dom.js";

let all = false; // stays from page to page
let several = null; // whether there are other nodes; asked once

export const scope = () => (all ? { scope: "fleet" } : {});

// A check box, hidden where there is one node; `changed` is called when lists are to be read again.
export function choice(changed) {
  const box = el("input", { type: "checkbox", checked: all });
  const label = el("label", { class: "check", hidden: true }, box, "All nodes");
  box.addEventListener("change", () => { all = box.checked; changed(); });
  several ??= ask("/nodes").then((page) => page.nodes.length > 1, () => { several = null; return false; });
  several.then((found) => { label.hidden = !found; });
  return label;
}

// On which nodes something is, and how many of it.
export const spread = (counts) => el("td", { class: "wrap mono" },
  Object.keys(counts).sort().map((node) => `${node} (${number(counts[node])})`).join(", "));

export const missing = (page) => (page.complete === false ? " Not all nodes have answered: there may be more." : "");
