"use strict";
// Light and dark: what the system says, until somebody says otherwise.
{
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const say = () => { button.textContent = isDark() ? "Light colours" : "Dark colours"; };
  button.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; say(); });
  system.addEventListener("change", say);
  button.hidden = false;
  say();
}

// A link into a part that is folded unfolds it; paper has no folds.
{
  const unfold = () => {
    const part = document.getElementById(location.hash.slice(1));
    const folded = part && part.querySelector(":scope > details");
    if (folded) folded.open = true;
  };
  for (const link of document.querySelectorAll("nav a")) link.addEventListener("click", () => setTimeout(unfold));
  addEventListener("hashchange", unfold);
  addEventListener("beforeprint", () => {
    for (const folded of document.querySelectorAll("details")) folded.open = true;
  });
}

// Tables: a column's heading sorts, a box above filters the rows of a long one.
{
  const MIN_SORTED = 3, MIN_FILTERED = 8;

  const element = (tag, name, text) => {
    const made = document.createElement(tag);
    made.className = name;
    made.textContent = text;
    return made;
  };
  const words = (row, column) => {
    let end = 0;
    for (const cell of row.cells) if ((end += cell.colSpan) > column) return cell.textContent.trim();
    return "";
  };
  const number = (text) => {
    const found = text.replaceAll("−", "-").replaceAll(",", "").match(/[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?/i);
    return found ? Number(found[0]) : NaN;
  };

  // What has no number stands last, whichever way the others do.
  const compare = (column, isNumber, sign) => (first, second) => {
    const [a, b] = [words(first, column), words(second, column)];
    if (!isNumber) return sign * a.localeCompare(b, undefined, { numeric: true });
    const [x, y] = [number(a), number(b)];
    return Number.isNaN(x) - Number.isNaN(y) || sign * (x - y) || 0;
  };

  const sortable = (table, body, rows) => {
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    let next = 0;
    for (const head of heads) {
      const column = next;
      next += head.colSpan;
      if (!head.textContent.trim()) continue;
      const isNumber = head.classList.contains("number");
      const button = element("button", "sort", "");
      button.type = "button";
      button.title = "Sort";
      button.append(...head.childNodes);
      head.append(button);
      const orders = isNumber ? ["descending", "ascending"] : ["ascending", "descending"];
      button.addEventListener("click", () => {
        const order = orders[orders.indexOf(head.getAttribute("aria-sort")) + 1];
        for (const other of heads) other.removeAttribute("aria-sort");
        if (order) head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        body.append(...(order ? [...rows].sort(compare(column, isNumber, sign)) : rows));
        table.classList.toggle("rearranged", Boolean(order));
      });
    }
  };

  const filterable = (table, rows) => {
    const line = element("p", "filter", "");
    const label = element("label", "", "Filter rows ");
    const box = element("input", "", "");
    const count = element("span", "hint", "");
    box.type = "search";
    box.autocomplete = "off";
    box.spellcheck = false;
    if (table.caption) box.setAttribute("aria-label", `Filter rows: ${table.caption.textContent.trim()}`);
    count.setAttribute("role", "status");
    label.append(box);
    line.append(label, count);
    const texts = rows.map((row) => row.textContent.toLowerCase());
    box.addEventListener("input", () => {
      const wanted = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      let found = 0;
      rows.forEach((row, index) => {
        row.hidden = !wanted.every((word) => texts[index].includes(word));
        found += !row.hidden;
      });
      count.textContent = wanted.length ? `${found} of ${rows.length} rows` : "";
      table.classList.toggle("filtered", wanted.length > 0);
    });
    const around = table.parentElement;
    const scrolls = around.classList.contains("scroll") && !around.classList.contains("card");
    (scrolls ? around : table).before(line);
  };

  for (const table of document.querySelectorAll("table")) {
    if (!table.tHead || table.tBodies.length !== 1) continue;
    const rows = [...table.tBodies[0].rows];
    if (rows.length >= MIN_FILTERED) filterable(table, rows);
    if (rows.length >= MIN_SORTED) sortable(table, table.tBodies[0], rows);
  }
}
