"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (id) => document.getElementById(id);

  // Tables: a click on a column's title sorts by it; what is missing stays last in both orders.
  const sort = (table, n) => {
    const heads = all("thead th", table);
    const rising = heads[n].getAttribute("aria-sort") !== "ascending";
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[n].setAttribute("aria-sort", rising ? "ascending" : "descending");
    const numeric = heads[n].classList.contains("number");
    const value = (row) => (numeric ? Number(row.cells[n].dataset.sort) : row.cells[n].dataset.sort);
    const missing = (v) => numeric && !Number.isFinite(v);
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (missing(x) || missing(y)) return missing(x) - missing(y);
      const order = numeric ? x - y : x.localeCompare(y, "en", { numeric: true });
      return rising ? order : -order;
    };
    table.tBodies[0].append(...[...table.rows].slice(1).sort(compare));
  };
  for (const table of all("table.sortable")) {
    all("thead button", table).forEach((button, n) => button.addEventListener("click", () => sort(table, n)));
  }
  // Say so where a table or figure is wider than the window.
  const hint = () => all(".more + .scroll").forEach((part) => {
    part.previousElementSibling.hidden = part.scrollWidth <= part.clientWidth + 1;
  });
  const resized = new ResizeObserver(hint);
  all(".more + .scroll").forEach((part) => resized.observe(part));
  for (const field of all("input.filter")) {
    const rows = all("tbody tr", one(field.dataset.table));
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      for (const row of rows) {
        row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
        count += !row.hidden;
      }
      field.closest(".controls").querySelector("[role=status]").textContent = `${count} of ${rows.length} rows`;
    });
  }
  addEventListener("beforeprint", () => all("details").forEach((part) => { part.open = true; }));

  // Cases.
  const list = one("cards");
  if (!list || list.tagName !== "UL") return;
  const cards = all(".card", list).map((node) => ({ node, ...node.dataset, dice: JSON.parse(node.dataset.dice) }));
  const chosen = (id) => (one(id) ? one(id).value : "");
  const shown = () => all(".card:not([hidden])", list);

  const update = () => {
    const [order, organ, phase, model] = ["order", "organ", "phase", "model"].map(chosen);
    const words = chosen("text").toLowerCase().split(/\s+/).filter(Boolean);
    const score = (card) => (typeof card.dice[organ] === "number" ? card.dice[organ] : null);
    let count = 0;
    for (const card of cards) {
      const fits = organ in card.dice && (!phase || card.phase === phase) && (!model || card.model === model)
        && words.every((word) => card.text.includes(word));
      card.node.hidden = !fits;
      count += fits;
      card.node.querySelector(".dice b").textContent = score(card) === null ? "-" : score(card).toFixed(3);
    }
    const compare = (a, b) => {
      if (order === "name") return a.name.localeCompare(b.name, "en", { numeric: true });
      const [x, y] = [score(a), score(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return order === "best" ? y - x : x - y;
    };
    list.append(...cards.sort(compare).map((card) => card.node));
    one("shown").textContent = `${count} of ${cards.length} cases`;
  };
  one("controls").addEventListener("input", update);
  one("controls").addEventListener("submit", (event) => event.preventDefault());

  // One case, large.
  const viewer = one("viewer");
  let current = null;
  const open = (node) => {
    current = node;
    viewer.style.cssText = node.style.cssText;
    const about = `${node.dataset.name}, ${node.querySelector(".dice").textContent}`;
    one("viewer-title").textContent = about;
    all("[data-part]", viewer).forEach((panel) => panel.setAttribute("aria-label", `${panel.dataset.part} of ${node.dataset.name}`));
    one("viewer-detail").replaceChildren(...[...node.querySelector(".detail").children].map((part) => part.cloneNode(true)));
    if (!viewer.open) viewer.showModal();
  };
  const step = (by) => {
    const nodes = shown();
    const next = nodes[nodes.indexOf(current) + by];
    if (next) open(next);
  };
  list.addEventListener("click", (event) => {
    const node = event.target.closest(".card");
    if (node) open(node);
  });
  one("previous").addEventListener("click", () => step(-1));
  one("next").addEventListener("click", () => step(1));
  one("close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("close", () => current && current.querySelector("button").focus());
  viewer.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) { event.preventDefault(); step(by); }
  });

  // Arrow keys among the cards; up and down keep the column.
  list.addEventListener("keydown", (event) => {
    const nodes = shown();
    const at = nodes.indexOf(event.target.closest(".card"));
    const width = nodes.filter((node) => node.offsetTop === nodes[0].offsetTop).length;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - width, ArrowDown: at + width, Home: 0, End: nodes.length - 1 }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    if (nodes[to]) nodes[to].querySelector("button").focus();
  });
})();
