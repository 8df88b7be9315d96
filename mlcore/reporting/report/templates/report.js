"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);
  const form = document.querySelector(".filters");
  const points = all(".query");
  const list = byId("pictured");
  let current = -1;

  const chosen = (name) => new Set(all(`input[name=${name}]:checked`).map((box) => box.value));
  const visible = (point) => !point.classList.contains("off");

  function filter() {
    const conditions = chosen("condition");
    const outcomes = chosen("outcome");
    for (const element of all("[data-condition]")) {
      const outcome = element.dataset.outcome;
      const off = !conditions.has(element.dataset.condition) || (outcome && !outcomes.has(outcome));
      element.classList.toggle("off", Boolean(off));
    }
    let right = 0, wrong = 0;
    data.counts.forEach((count, condition) => {
      if (conditions.has(String(condition))) { right += count[0]; wrong += count[1]; }
    });
    const shown = (outcomes.has("right") ? right : 0) + (outcomes.has("wrong") ? wrong : 0);
    const share = right + wrong ? `${right} of ${right + wrong} queries of these conditions are right` : "no condition is selected";
    byId("count").textContent = `${shown} of ${data.num_queries} queries on the map; ${share}.`;
    if (current < 0 || !visible(points[current])) { show(-1); step(1); }
  }

  function show(place) {
    if (current >= 0) { points[current].classList.remove("on"); points[current].setAttribute("aria-selected", "false"); }
    current = place;
    const line = byId("error");
    line.toggleAttribute("hidden", place < 0);
    byId("shown").hidden = place < 0;
    if (place < 0) { list.removeAttribute("aria-activedescendant"); return; }
    const query = data.queries[place];
    const point = points[place];
    point.classList.add("on");
    point.setAttribute("aria-selected", "true");
    list.setAttribute("aria-activedescendant", point.id);
    for (const [name, value] of Object.entries({x1: query.x, y1: query.y, x2: query.rx, y2: query.ry})) line.setAttribute(name, value);
    byId("shown-query").src = data.images[query.image];
    byId("shown-query").alt = `query ${query.name}`;
    byId("shown-reference").src = data.images[query.reference_image];
    byId("shown-reference").alt = `retrieved reference ${query.reference}`;
    byId("shown-text").textContent = query.text;
  }

  function step(by) {
    const order = points.map((_, place) => place).filter((place) => visible(points[place]));
    if (!order.length) return;
    const at = order.indexOf(current);
    show(order[at < 0 ? (by > 0 ? 0 : order.length - 1) : (at + by + order.length) % order.length]);
  }

  function nearest(event) {
    const svg = byId("places");
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const reach = 24 * svg.viewBox.baseVal.width / svg.getBoundingClientRect().width;
    let best = -1, least = reach * reach;
    points.forEach((point, place) => {
      const query = data.queries[place];
      const far = (query.x - at.x) ** 2 + (query.y - at.y) ** 2;
      if (far < least && visible(point)) { least = far; best = place; }
    });
    if (best >= 0 && best !== current) show(best);
  }

  form.hidden = false;
  form.addEventListener("change", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  byId("places").addEventListener("pointermove", nearest);
  byId("places").addEventListener("click", nearest);
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  list.addEventListener("focus", () => { if (current < 0) step(1); });
  list.addEventListener("keydown", (event) => {
    const move = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
    if (move) step(move);
    else if (event.key === "Home") { show(-1); step(1); }
    else if (event.key === "End") { show(-1); step(-1); }
    else if (event.key === "Escape") show(-1);
    else return;
    event.preventDefault();
  });
  addEventListener("beforeprint", () => all("details").forEach((one) => { one.open = true; }));
  filter();
})();
