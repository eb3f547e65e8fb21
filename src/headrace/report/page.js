"use strict";
const table = document.getElementById("rows");
if (table) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const words = rows.map((row) => row.textContent.toLowerCase());
  const tools = document.getElementById("tools");
  const input = document.getElementById("filter");
  const said = document.getElementById("matches");
  tools.hidden = false;

  input.addEventListener("input", () => {
    const sought = input.value.trim().toLowerCase().split(/\s+/);
    let shown = 0;
    rows.forEach((row, index) => {
      row.hidden = !sought.every((word) => words[index].includes(word));
      shown += row.hidden ? 0 : 1;
    });
    said.textContent = input.value.trim() ? `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows` : "";
  });

  const cellAt = (row, column) => {
    let at = 0;
    for (const cell of row.cells) {
      if (at === column) return cell.colSpan > 1 ? null : cell;
      at += cell.colSpan;
    }
    return null;
  };
  const keyOf = (row, column) => {
    const cell = cellAt(row, column);
    if (!cell || cell.dataset.none !== undefined) return null;
    return cell.dataset.n === undefined ? cell.textContent.trim().toLowerCase() : Number(cell.dataset.n);
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  };
  table.querySelectorAll("th button").forEach((button, column) => {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const down = head.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const keyed = rows.map((row, index) => [keyOf(row, column), index, row]);
      keyed.sort(([a, i], [b, j]) => {
        if (a === null || b === null) return (a === null) - (b === null) || i - j;
        return (down ? compare(b, a) : compare(a, b)) || i - j;
      });
      body.append(...keyed.map(([, , row]) => row));
    });
  });
}
