"use strict";
// The lineage as a graph: columns of things, what a version came out of at the left, what came out of it at the right.
// Neighbours are loaded on request, and only what is in view is in the page, so 10,000 things are no more
// than 100. Everything is a link or a button; arrow keys lead from thing to thing, + and - zoom.
(() => {
  const COLUMN = 250, ROW = 42, WIDTH = 206, HEIGHT = 32, MARGIN = 200, MOST_DRAWN = 400;

  const makeGraph = () => ({ nodes: new Map(), columns: new Map(), near: new Map() });

  const columnOf = (graph, number) => {
    if (!graph.columns.has(number)) graph.columns.set(number, []);
    return graph.columns.get(number);
  };

  // Adds what an answer of the API has; a thing that is there keeps its place.
  const add = (graph, answer) => {
    const step = answer.direction === "up" ? -1 : 1;
    const byId = new Map(answer.nodes.map((node) => [node.id, node]));
    const place = (id, number, after) => {
      if (graph.nodes.has(id)) return;
      const column = columnOf(graph, number);
      const at = after === undefined ? column.length : Math.min(column.length, after);
      graph.nodes.set(id, { ...byId.get(id), column: number });
      column.splice(at, 0, id);
    };
    answer.roots.forEach((id) => place(id, 0));
    const next = new Map();
    for (const edge of answer.edges) {
      const [from, to] = step < 0 ? [edge.source, edge.target] : [edge.target, edge.source];
      if (!next.has(from)) next.set(from, []);
      next.get(from).push(to);
    }
    const join = (from, to) => {
      if (!graph.near.has(from)) graph.near.set(from, new Set());
      graph.near.get(from).add(to);
    };
    // Breadth first, so that a thing is in the nearest column.
    const waiting = [...answer.roots], seen = new Set(waiting);
    for (let at = 0; at < waiting.length; at += 1) {
      const from = waiting[at], column = graph.nodes.get(from).column + step;
      const last = Math.max(-1, ...(next.get(from) ?? []).map((id) => columnOf(graph, column).indexOf(id)));
      let after = last < 0 ? undefined : last + 1;
      for (const to of next.get(from) ?? []) {
        if (!graph.nodes.has(to)) {
          place(to, column, after);
          if (after !== undefined) after += 1;
        }
        // Here and not for every edge: two runs may have one id, and what only the other leads to has no place.
        join(from, to);
        join(to, from);
        if (!seen.has(to)) waiting.push(to);
        seen.add(to);
      }
    }
  };

  // Where each column is, and how large the sheet is, before zooming.
  const measured = (graph) => {
    const numbers = [...graph.columns.keys()].sort((one, other) => one - other);
    const rows = Math.max(0, ...[...graph.columns.values()].map((ids) => ids.length));
    const lefts = new Map(numbers.map((number, place) => [number, place * COLUMN + 10]));
    return { lefts, width: numbers.length * COLUMN + 10, height: rows * ROW + 10 };
  };

  // The things in a part of the sheet, with their places: a few of each column, however many it has.
  const visible = (graph, part) => {
    const found = [], { lefts } = measured(graph);
    for (const [number, left] of lefts) {
      if (left + WIDTH < part.left - MARGIN || left > part.right + MARGIN) continue;
      const ids = graph.columns.get(number);
      const first = Math.max(0, Math.floor((part.top - MARGIN) / ROW));
      const last = Math.min(ids.length, Math.ceil((part.bottom + MARGIN) / ROW));
      for (let row = first; row < last && found.length < MOST_DRAWN; row += 1)
        found.push({ id: ids[row], left, top: row * ROW + 10, row });
    }
    return found;
  };

  globalThis.modelwayGraph = { makeGraph, add, measured, visible };
  const section = document.getElementById("graph");
  if (!section) return;

  const { api, first, here, airflow } = section.dataset;
  const view = section.querySelector(".graph-view"), sheet = section.querySelector(".graph-sheet");
  const lines = section.querySelector(".graph-lines"), outcome = section.querySelector("[role=status]");
  const graph = makeGraph(), loaded = new Map(), drawn = new Map();
  let scale = 1, focused = null;
  const say = (text) => { outcome.textContent = text; };
  const segment = (text) => encodeURIComponent(text);

  const hrefOf = (node) => {
    const name = node.id.slice(node.kind.length + 1);
    if (node.kind === "version") {
      const at = name.lastIndexOf("@");
      return `${here}/models/${segment(name.slice(0, at))}/versions/${name.slice(at + 1)}`;
    }
    if (node.kind === "endpoint") return `${here}/endpoints/${segment(name)}`;
    if (node.kind !== "run") return null;
    const at = node.name.indexOf("/");
    return `${airflow}/dags/${segment(node.name.slice(0, at))}/runs/${segment(node.name.slice(at + 1))}`;
  };

  const call = async (url) => {
    const answer = await fetch(url, { credentials: "same-origin", headers: { accept: "application/json" } });
    if (answer.ok) return answer.json();
    const detail = await answer.json().catch(() => ({}));
    throw new Error(answer.status === 401 ? "Your session has ended: sign in to Airflow again." : detail.detail ?? answer.status);
  };

  const expand = async (id, direction) => {
    const key = `${direction} ${id}`, before = loaded.get(key)?.count ?? 0, most = before ? 500 : 50;
    say("Loading …");
    try {
      const query = new URLSearchParams({ node: id, direction, skip: before, most });
      const answer = await call(`${api}/lineage?${query}`);
      const was = graph.nodes.size;
      // Its root is here already, in the column where it was found.
      add(graph, { ...answer, roots: [id] });
      loaded.set(key, { count: before + most, whole: answer.is_whole });
      say(`${graph.nodes.size - was} more, ${graph.nodes.size} in all${answer.is_whole ? "" : "; there are further ones"}.`);
    } catch (error) {
      say(`Not loaded: ${error.message}`);
    }
    draw();
    focusOn(id);
  };

  const expander = (node, direction) => {
    const state = loaded.get(`${direction} ${node.id}`);
    if (state?.whole) return null;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = state ? "…" : "+";
    const what = direction === "up" ? "what it came out of" : "what came out of it";
    button.setAttribute("aria-label", `${state ? "More of" : "Show"} ${what}: ${node.kind} ${node.name}`);
    button.title = button.getAttribute("aria-label");
    button.addEventListener("click", () => expand(node.id, direction));
    return button;
  };

  const makeNode = (spot) => {
    const node = graph.nodes.get(spot.id), box = document.createElement("div"), href = hrefOf(node);
    box.className = `graph-node k-${node.kind}`;
    box.style.left = `${spot.left}px`;
    box.style.top = `${spot.top}px`;
    const name = document.createElement(href ? "a" : "span");
    if (href) name.href = href; else name.tabIndex = -1;
    if (node.kind === "run") name.dataset.airflow = "";
    const kind = document.createElement("small");
    kind.textContent = `${node.kind} `;
    name.append(kind, node.name);
    name.title = `${node.kind} ${node.name}`;
    name.className = "graph-name";
    const up = node.column <= 0 ? expander(node, "up") : null, down = node.column >= 0 ? expander(node, "down") : null;
    box.append(...[up, name, down].filter(Boolean));
    box.addEventListener("focusin", () => { focused = spot.id; });
    box.addEventListener("keydown", (event) => move(event, spot));
    return box;
  };

  const draw = () => {
    const { width, height, lefts } = measured(graph);
    sheet.style.width = `${width * scale}px`;
    sheet.style.height = `${height * scale}px`;
    const part = { left: view.scrollLeft / scale, top: view.scrollTop / scale };
    part.right = part.left + view.clientWidth / scale;
    part.bottom = part.top + view.clientHeight / scale;
    const spots = visible(graph, part), wanted = new Map(spots.map((spot) => [spot.id, spot]));
    if (focused && !wanted.has(focused)) wanted.set(focused, spotOf(focused, lefts));
    const layer = section.querySelector(".graph-layer");
    layer.style.transform = `scale(${scale})`;
    for (const [id, box] of drawn) if (!wanted.has(id)) { box.remove(); drawn.delete(id); }
    for (const [id, spot] of wanted) {
      const state = JSON.stringify([spot.left, spot.top, loaded.get(`up ${id}`), loaded.get(`down ${id}`)]);
      if (drawn.get(id)?.dataset.state === state) continue;
      const box = makeNode(spot);
      box.dataset.state = state;
      drawn.get(id)?.remove();
      drawn.set(id, box);
      layer.append(box);
    }
    drawLines(wanted, lefts);
  };

  const spotOf = (id, lefts) => {
    const number = graph.nodes.get(id).column, row = graph.columns.get(number).indexOf(id);
    return { id, left: lefts.get(number), top: row * ROW + 10, row };
  };

  const drawLines = (spots, lefts) => {
    const paths = [];
    for (const [id, spot] of spots)
      for (const other of graph.near.get(id) ?? []) {
        const end = spots.get(other) ?? (paths.length < MOST_DRAWN ? spotOf(other, lefts) : null);
        if (!end || (spots.has(other) && id > other)) continue;
        const [one, two] = spot.left <= end.left ? [spot, end] : [end, spot];
        const x1 = one.left + WIDTH, x2 = two.left, y1 = one.top + HEIGHT / 2, y2 = two.top + HEIGHT / 2;
        const path = one.left === two.left ? `C${x1 + 40} ${y1} ${x1 + 40} ${y2} ${x1} ${y2}`
          : `C${x1 + 30} ${y1} ${x2 - 30} ${y2} ${x2} ${y2}`;
        paths.push(`M${x1} ${y1}${path}`);
        if (paths.length >= 2 * MOST_DRAWN) break;
      }
    lines.setAttribute("d", paths.join(""));
  };

  const focusOn = (id) => {
    const { lefts } = measured(graph), spot = spotOf(id, lefts);
    focused = id;
    const left = spot.left * scale, top = spot.top * scale;
    if (left < view.scrollLeft || left + WIDTH * scale > view.scrollLeft + view.clientWidth) view.scrollLeft = left - 40;
    if (top < view.scrollTop || top + HEIGHT * scale > view.scrollTop + view.clientHeight) view.scrollTop = top - 40;
    draw();
    drawn.get(id)?.querySelector(".graph-name").focus({ preventScroll: true });
  };

  const move = (event, spot) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const column = graph.nodes.get(spot.id).column, ids = graph.columns.get(column);
    const aside = (number) => {
      const others = graph.columns.get(number) ?? [];
      return others.find((id) => graph.near.get(spot.id)?.has(id)) ?? others[Math.min(spot.row, others.length - 1)];
    };
    const to = {
      ArrowDown: () => ids[spot.row + 1], ArrowUp: () => ids[spot.row - 1],
      ArrowLeft: () => aside(column - 1), ArrowRight: () => aside(column + 1),
      Home: () => ids[0], End: () => ids[ids.length - 1],
    }[event.key]?.();
    if (!to) return;
    event.preventDefault();
    focusOn(to);
  };

  const zoom = (by) => {
    // So small that more could not be read: what is in view stays a few hundred things.
    scale = Math.min(2, Math.max(0.4, scale * by));
    say(`${Math.round(scale * 100)} %`);
    draw();
  };

  section.hidden = false;
  section.querySelector("[data-zoom=in]").addEventListener("click", () => zoom(1.25));
  section.querySelector("[data-zoom=out]").addEventListener("click", () => zoom(0.8));
  section.addEventListener("keydown", (event) => {
    if (event.key === "+") zoom(1.25);
    if (event.key === "-") zoom(0.8);
  });
  let waits = false;
  view.addEventListener("scroll", () => {
    if (!waits) requestAnimationFrame(() => { waits = false; draw(); });
    waits = true;
  });
  addEventListener("resize", draw);
  (async () => {
    say("Loading …");
    try {
      const answer = await call(first);
      for (const side of [answer.upstream, answer.downstream]) {
        add(graph, side);
        // Of an answer that was not cut off, only what is at its last step may have further neighbours.
        const isCut = side.nodes.length >= Number(section.dataset.most), steps = Number(section.dataset.steps);
        for (const { id } of side.nodes)
          if (side.is_whole || (!isCut && Math.abs(graph.nodes.get(id).column) < steps))
            loaded.set(`${side.direction} ${id}`, { count: 0, whole: true });
      }
      say("");
      draw();
      const root = answer.upstream.roots[0], spot = spotOf(root, measured(graph).lefts);
      view.scrollLeft = spot.left - (view.clientWidth - WIDTH) / 2;
      draw();
    } catch (error) {
      say(`The graph was not loaded: ${error.message}`);
    }
  })();
})();
