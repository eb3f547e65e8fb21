"use strict";
// The table of rows: search, sorting, filters by the values of charts, and pages. Without this script all rows are there.
const table = document.getElementById("rows");
if (table) {
  const PAGE = 50;
  const body = table.tBodies[0];
  const heads = Array.from(table.tHead.rows[0].cells);
  const names = heads.map((head) => head.textContent);
  let order = Array.from(body.rows);
  const position = new Map(order.map((row, index) => [row, index]));
  const words = new Map();
  const picks = new Map();
  let page = 0;
  let matching = order;
  const make = (tag, text, into) => {
    const made = document.createElement(tag);
    made.textContent = text;
    if (into) into.append(made);
    return made;
  };
  const button = (text, into, act) => {
    const made = make("button", text, into);
    made.type = "button";
    made.addEventListener("click", act);
    return made;
  };
  const figure = (number) => number.toLocaleString("en");
  const tools = document.getElementById("tools");
  const input = document.getElementById("filter");
  const said = document.getElementById("matches");
  const chips = document.getElementById("chips");
  const pager = document.getElementById("pager");

  const cellAt = (row, column) => {
    let at = 0;
    for (const cell of row.cells) {
      if (at === column) return cell.colSpan > 1 ? null : cell;
      at += cell.colSpan;
    }
    return null;
  };
  const wordsOf = (row) => {
    if (!words.has(row)) words.set(row, row.textContent.toLowerCase());
    return words.get(row);
  };
  const fits = (row, pick) => {
    if (pick.kind !== undefined) return row.dataset.kind === pick.kind;
    const cell = row.dataset.kind === undefined ? cellAt(row, pick.column) : null;
    if (!cell || cell.dataset.none !== undefined) return false;
    if (pick.value !== undefined) {
      const parts = cell.querySelectorAll(".word");
      if (parts.length) return Array.from(parts).some((part) => part.textContent === pick.value);
      const whole = cell.querySelector(".full") || cell;
      return whole.textContent === pick.value;
    }
    if (cell.dataset.n === undefined) return false;
    const number = Number(cell.dataset.n);
    if (pick.low !== undefined && pick.low === pick.high) return number === pick.low;
    return (pick.low === undefined || number >= pick.low) && (pick.high === undefined || number < pick.high);
  };
  // Of the picks of one column any is enough, of several columns one of each is needed.
  const picked = (row) => {
    const columns = new Map();
    for (const pick of picks.values()) columns.set(pick.column, columns.get(pick.column) || fits(row, pick));
    return Array.from(columns.values()).every(Boolean);
  };

  const show = () => {
    const pages = Math.max(1, Math.ceil(matching.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    const there = new Set(matching.slice(page * PAGE, (page + 1) * PAGE));
    for (const row of order) row.hidden = !there.has(row);
    pager.hidden = pages === 1;
    previous.disabled = page === 0;
    next.disabled = page === pages - 1;
    const first = matching.length ? page * PAGE + 1 : 0;
    where.textContent = `${figure(first)} to ${figure(Math.min((page + 1) * PAGE, matching.length))} of ${figure(matching.length)}`;
  };
  const filter = () => {
    const sought = input.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    matching = order.filter((row) => picked(row) && sought.every((word) => wordsOf(row).includes(word)));
    const all = matching.length === order.length;
    said.textContent = all ? "" : `${figure(matching.length)} of the ${figure(order.length)} rows on this page`;
    page = 0;
    show();
  };
  const turn = (by) => {
    page += by;
    show();
    table.parentElement.scrollTop = 0;
    tools.scrollIntoView({ block: "nearest" });
  };
  const previous = button("Previous", pager, () => turn(-1));
  const where = make("span", "", pager);
  const next = button("Next", pager, () => turn(1));
  input.addEventListener("input", filter);
  tools.hidden = false;

  // Sorting.
  const keyOf = (row, column) => {
    const cell = cellAt(row, column);
    if (!cell || cell.dataset.none !== undefined) return null;
    return cell.dataset.n === undefined ? cell.textContent.trim().toLowerCase() : Number(cell.dataset.n);
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  };
  const sort = (head, column) => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const keyed = order.map((row) => [keyOf(row, column), position.get(row), row]);
    keyed.sort(([a, i], [b, j]) => {
      if (a === null || b === null) return (a === null) - (b === null) || i - j;
      return (down ? compare(b, a) : compare(a, b)) || i - j;
    });
    order = keyed.map(([, , row]) => row);
    body.append(...order);
    filter();
  };
  heads.forEach((head, column) => {
    head.textContent = "";
    button(names[column], head, () => sort(head, column));
  });

  // Filters by what is clicked in a chart.
  const toggle = (source, key, pick, label) => {
    if (picks.has(key)) {
      picks.get(key).chip.remove();
      picks.get(key).source.removeAttribute("aria-pressed");
      picks.delete(key);
    } else {
      const chip = button(`${label} ×`, chips, () => toggle(source, key, pick, label));
      chip.setAttribute("aria-label", `Remove the filter ${label}`);
      source.setAttribute("aria-pressed", "true");
      picks.set(key, { ...pick, chip, source });
    }
    filter();
  };
  const pickable = (source, key, pick, label) => {
    const act = () => {
      toggle(source, key, pick, label);
      if (picks.has(key)) document.getElementById("items").scrollIntoView();
    };
    source.setAttribute("role", "button");
    source.setAttribute("tabindex", "0");
    source.setAttribute("aria-label", `${label}: show the items`);
    source.addEventListener("click", act);
    source.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      act();
    });
  };
  const numberOf = (text) => (text === undefined ? undefined : Number(text));
  document.querySelectorAll("[data-pick]").forEach((part, index) => {
    const column = Number(part.dataset.pick);
    const low = numberOf(part.dataset.low);
    const high = numberOf(part.dataset.high);
    const title = part.querySelector("title");
    const value = title ? title.textContent.slice(0, title.textContent.lastIndexOf(":")) : part.cells[0].textContent;
    const source = title ? part : part.cells[0];
    pickable(source, index, { column, value: part.dataset.value, low, high }, `${names[column]}: ${value}`);
  });
  document.querySelectorAll("[data-kind-of]").forEach((part) => {
    const kind = part.dataset.kindOf;
    pickable(part.cells ? part.cells[0] : part, `kind ${kind}`, { column: "kind", kind }, `failed: ${kind}`);
  });
  document.querySelectorAll("[data-script]").forEach((part) => { part.hidden = false; });
  filter();
}
// What is folded is wanted on paper too, but for the texts of the rows.
const opened = [];
window.addEventListener("beforeprint", () => {
  document.querySelectorAll("details:not([open])").forEach((each) => {
    if (each.closest(".rows")) return;
    each.open = true;
    opened.push(each);
  });
});
window.addEventListener("afterprint", () => { while (opened.length) opened.pop().open = false; });
