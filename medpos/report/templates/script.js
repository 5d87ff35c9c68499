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

  // Pictures: gray values and entropy are pictures, truth and prediction are label maps; slices stand below one another.
  const rgb = (color) => [1, 3, 5].map((n) => parseInt(color.slice(n, n + 2), 16));
  const painted = (colors) => Object.fromEntries(Object.entries(colors).map(([index, color]) => [index, rgb(color)]));
  const colors = Object.fromEntries(Object.entries(JSON.parse(list.dataset.colors)).map(([data, of]) => [data, painted(of)]));
  const [missed, extra] = [rgb(list.dataset.missed), rgb(list.dataset.extra)];
  const unknown = [255, 255, 255];
  const ignored = 255;
  const parts = ["image", "truth", "prediction", "difference"];

  const inflate = async (text) => {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };
  const picture = async (source) => {
    if (!source) return null;
    const found = Object.assign(new Image(), { src: source });
    await found.decode();
    return found;
  };
  const load = async (node) => {
    const { image, entropy, labels, width, height, slices, of } = node.dataset;
    const [gray, unsure, both] = await Promise.all([picture(image), picture(entropy), inflate(labels)]);
    const truth = both.subarray(0, both.length / 2);
    const prediction = both.subarray(both.length / 2).map((bits, n) => bits ^ truth[n]);
    return { gray, unsure, truth, prediction, width: +width, height: +height, slices: JSON.parse(slices), colors: colors[of] };
  };

  const canvasOf = (width, height) => Object.assign(document.createElement("canvas"), { width, height });
  // Paint the pixels of one slice: color(index) gives [red, green, blue, opacity from 0 to 1], or nothing.
  const layer = (view, color) => {
    const canvas = canvasOf(view.width, view.height);
    const pixels = new ImageData(view.width, view.height);
    for (let n = 0; n < view.width * view.height; n += 1) {
      const found = color(n);
      if (found) pixels.data.set([found[0], found[1], found[2], 255 * found[3]], 4 * n);
    }
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return canvas;
  };
  const organs = (view, map, look) => (n) => {
    if (!map[n]) return null;
    const [x, y] = [n % view.width, Math.floor(n / view.width)];
    const edge = (x > 0 && map[n - 1] !== map[n]) || (x < view.width - 1 && map[n + 1] !== map[n])
      || (y > 0 && map[n - view.width] !== map[n]) || (y < view.height - 1 && map[n + view.width] !== map[n]);
    return [...(view.colors[map[n]] || unknown), edge && look.contours ? 1 : look.opacity];
  };
  const errors = (view, truth, prediction) => (n) => {
    const [t, p] = [truth[n], prediction[n]];
    if (t === p || t === ignored) return null;
    if (!p) return [...missed, 1];
    if (!t) return [...extra, 1];
    const chequer = (Math.floor(n / view.width / 2) + Math.floor((n % view.width) / 2)) % 2;
    return [...(chequer ? extra : missed), 1];
  };
  // Draw one part of a slice at a place of a canvas.
  const draw = (canvas, view, part, at, look, place = [0, 0, canvas.width, canvas.height]) => {
    const context = canvas.getContext("2d");
    const slice = [0, at * view.height, view.width, view.height];
    const size = view.width * view.height;
    const [truth, prediction] = [view.truth, view.prediction].map((map) => map.subarray(at * size, (at + 1) * size));
    context.drawImage(view.gray, ...slice, ...place);
    if (part === "truth" || part === "prediction") {
      context.drawImage(layer(view, organs(view, part === "truth" ? truth : prediction, look)), ...place);
    } else if (part !== "image") {
      context.fillStyle = "rgb(0 0 0 / .55)";
      context.fillRect(...place);
    }
    if (part === "difference") context.drawImage(layer(view, errors(view, truth, prediction)), ...place);
    if (part === "uncertainty" && view.unsure) {
      const tinted = canvasOf(view.width, view.height);
      const tint = tinted.getContext("2d");
      tint.drawImage(view.unsure, ...slice, 0, 0, view.width, view.height);
      tint.globalCompositeOperation = "multiply";
      tint.fillStyle = "rgb(255 150 40)";
      tint.fillRect(0, 0, view.width, view.height);
      context.globalCompositeOperation = "lighter";
      context.drawImage(tinted, ...place);
      context.globalCompositeOperation = "source-over";
    }
  };

  // The cards, one after the other, so that the page answers meanwhile.
  const middle = (view) => Math.floor(view.slices.length / 2);
  const preview = async (node) => {
    const view = await load(node);
    const across = Math.min(view.width, 150);
    const down = Math.max(1, Math.round((across * view.height) / view.width));
    const canvas = node.querySelector("canvas");
    Object.assign(canvas, { width: 2 * across + 2, height: 2 * down + 2 });
    parts.forEach((part, n) => draw(canvas, view, part, middle(view), { opacity: 0.35, contours: true },
      [(n % 2) * (across + 2), Math.floor(n / 2) * (down + 2), across, down]));
  };
  const previewAll = async () => {
    for (const node of cards.map((card) => card.node)) await preview(node);
    list.dataset.drawn = "yes";
  };

  // One case, large.
  const viewer = one("viewer");
  let current = null;
  let view = null;
  const paint = () => {
    const at = Number(one("slice").value);
    const look = { opacity: one("opacity").value / 100, contours: one("contours").checked };
    const slice = view.slices.length ? `, slice ${view.slices[at]}` : "";
    one("slice-name").textContent = view.slices[at] || "";
    one("opacity-name").textContent = `${one("opacity").value} %`;
    for (const canvas of all("canvas[data-part]", viewer)) {
      canvas.closest("figure").hidden = canvas.dataset.part === "uncertainty" && !view.unsure;
      Object.assign(canvas, { width: view.width, height: view.height });
      draw(canvas, view, canvas.dataset.part, at, look);
      canvas.setAttribute("aria-label", `${canvas.dataset.part} of ${current.dataset.name}${slice}`);
    }
    const address = new URLSearchParams({ case: current.dataset.name });
    if (cards.filter((card) => card.name === current.dataset.name).length > 1) address.set("model", current.dataset.model);
    if (slice) address.set("slice", view.slices[at]);
    one("link").href = `#${address}`;
    history.replaceState(null, "", `#${address}`);
  };
  // Open a case at the slice with a number, or at the nearest one that the page has; without a number at the middle one.
  const open = async (node, slice = null) => {
    current = node;
    const loaded = await load(node);
    if (current !== node) return;
    view = loaded;
    const far = (z) => Math.abs(z - slice);
    const nearest = view.slices.reduce((best, z, n) => (far(z) < far(view.slices[best]) ? n : best), 0);
    one("slice").max = Math.max(view.slices.length - 1, 0);
    one("slice").value = slice === null ? middle(view) : nearest;
    one("slice-label").hidden = one("slice-hint").hidden = view.slices.length < 2;
    one("viewer-title").textContent = `${node.dataset.name}, ${node.querySelector(".dice").textContent}`;
    one("viewer-detail").replaceChildren(...[...node.querySelector(".detail").children].map((part) => part.cloneNode(true)));
    one("panels").style.setProperty("--ratio", view.width / view.height);
    paint();
    if (!viewer.open) viewer.showModal();
  };
  const step = (by) => {
    const nodes = shown();
    const next = nodes[nodes.indexOf(current) + by];
    if (next) open(next);
  };
  const scroll = (by) => {
    one("slice").value = Number(one("slice").value) + by;
    paint();
  };
  const openAddress = () => {
    const address = new URLSearchParams(location.hash.slice(1));
    const fits = (card) => card.name === address.get("case") && [null, card.model].includes(address.get("model"));
    const found = cards.find(fits);
    if (found) open(found.node, address.has("slice") ? Number(address.get("slice")) : null);
  };
  list.addEventListener("click", (event) => {
    const node = event.target.closest(".card");
    if (node) open(node);
  });
  one("previous").addEventListener("click", () => step(-1));
  one("next").addEventListener("click", () => step(1));
  one("close").addEventListener("click", () => viewer.close());
  ["slice", "opacity", "contours"].forEach((name) => one(name).addEventListener("input", paint));
  viewer.addEventListener("close", () => {
    history.replaceState(null, "", "#cases");
    if (current) current.querySelector("button").focus();
  });
  viewer.addEventListener("keydown", (event) => {
    if (event.target.type === "range") return; // which has its own use for the arrows
    const [by, slices] = [{ ArrowLeft: -1, ArrowRight: 1 }[event.key], { ArrowUp: -1, ArrowDown: 1 }[event.key]];
    if (by || (slices && view.slices.length > 1)) event.preventDefault();
    if (by) step(by);
    else if (slices && view.slices.length > 1) scroll(slices);
  });
  one("panels").addEventListener("wheel", (event) => {
    if (view.slices.length < 2 || !event.deltaY) return;
    event.preventDefault();
    scroll(Math.sign(event.deltaY));
  }, { passive: false });
  addEventListener("hashchange", openAddress);
  openAddress();
  previewAll();

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
