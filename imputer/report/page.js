"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const body = byId("rows");
  const rows = Array.from(body.rows);
  const viewer = byId("viewer");
  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
  const titles = { source: "Source", synthetic: "Synthetic", deviation: "Deviation of the samples" };
  let shown = rows; // in the order of the table
  let place = 0; // in `shown`, of the case that is open
  let opened = 0; // counts cases, so that a picture that comes late is not drawn into the next one

  function make(name, attributes, ...inside) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
    element.append(...inside);
    return element;
  }

  // The table: sorting and filtering.
  function valueOf(row, key) {
    return row.querySelector("." + key).dataset.value;
  }

  function sortBy(heading) {
    const { key, kind } = heading.dataset;
    // Of numbers the greatest is what one looks for, so it comes first.
    const first = kind === "number" ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const direction = heading.getAttribute("aria-sort") === first ? other : first;
    document.querySelectorAll("thead th[aria-sort]").forEach((each) => each.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    const keyed = rows.map((row) => [valueOf(row, key), row]);
    keyed.sort(([one, rowOne], [two, rowTwo]) => {
      const before = rowOne.dataset.place - rowTwo.dataset.place;
      if (one === "" || two === "") return (one === "") - (two === "") || before; // what is not known stands last
      return sign * (kind === "number" ? one - two : collator.compare(one, two)) || before;
    });
    rows.splice(0, rows.length, ...keyed.map((pair) => pair[1]));
    body.append(...rows);
    filter();
  }

  const words = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));

  function filter() {
    const wanted = byId("find").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const only = byId("only").checked;
    shown = rows.filter((row) => {
      const fits = (!only || "flagged" in row.dataset) && wanted.every((word) => words.get(row).includes(word));
      row.hidden = !fits;
      return fits;
    });
    byId("count").textContent = `${shown.length} of ${rows.length} shown`;
  }

  // A case: built when it is opened, thrown away with the next one.
  function dataOf(row) {
    return JSON.parse(byId("case-" + row.dataset.place).textContent);
  }

  function open(row) {
    const data = dataOf(row);
    place = shown.indexOf(row);
    opened += 1;
    byId("viewer-title").textContent = data.contrast ? `${data.name} · ${data.contrast}` : data.name;
    byId("previous").disabled = place <= 0;
    byId("next").disabled = place < 0 || place >= shown.length - 1;
    const parts = [];
    byId("sliders").replaceChildren();
    if (data.pictures) parts.push(...pictures(data));
    else parts.push(make("p", { class: "empty" }, "There is no picture of this case."));
    if (data.flags.length) parts.push(flags(data.flags));
    if (data.pictures) parts.push(histograms(data.pictures.volumes));
    if (data.facts.length) parts.push(facts(data.facts));
    byId("body").replaceChildren(...parts);
    viewer.scrollTop = 0;
    if (viewer.open) return; // the focus stays on the button that led here
    viewer.showModal();
    (byId("sliders").querySelector("input") || byId("close")).focus();
  }

  function step(by) {
    const button = by < 0 ? byId("previous") : byId("next");
    if (shown[place + by]) open(shown[place + by]);
    if (button.disabled) byId("close").focus();
  }

  function canvas(data, scale) {
    return make("canvas", { width: data.width * scale, height: data.height * scale, role: "img" });
  }

  function slider(text, name, max, value) {
    const input = make("input", { type: "range", min: "0", max: String(max), value: String(value), step: "1", name });
    const said = make("output", { "aria-hidden": "true" });
    return { input, said, label: make("label", { class: "slider" }, make("span", {}, text), input, said) };
  }

  function pictures(data) {
    const set = data.pictures;
    const has = Object.fromEntries(set.volumes.map((volume) => [volume.name, volume]));
    const scale = Math.max(1, Math.round(320 / Math.max(set.width, set.height)));
    const strips = {};
    const views = []; // [canvas, name]
    const figures = make("div", { class: "figures" });
    const order = has.source && has.synthetic ? ["source", "compare", "synthetic"] : set.volumes.map((each) => each.name);
    if (has.deviation && order.includes("compare")) order.push("deviation");
    for (const name of order) {
      const view = canvas(set, scale);
      views.push([view, name]);
      const title = name === "compare" ? "Source | synthetic" : titles[name];
      const frame = make("div", { class: "frame" }, view);
      [...set.letters].forEach((letter, side) => {
        frame.append(make("span", { class: side ? "letter right" : "letter left", "aria-hidden": "true" }, letter));
      });
      figures.append(make("figure", { class: name }, frame, make("figcaption", {}, title)));
    }
    const across = slider("Slice", "slice", set.slices.length - 1, Math.floor(set.slices.length / 2));
    const between = slider("Source to synthetic", "compare", 100, 50);
    const controls = byId("sliders");
    if (set.slices.length > 1) controls.append(across.label);
    if (order.includes("compare")) controls.append(between.label);

    function draw() {
      const at = Number(across.input.value);
      const share = Number(between.input.value);
      const slice = `${set.plane} slice ${set.slices[at]} of ${set.of}`;
      across.said.textContent = `${set.slices[at]} / ${set.of}`;
      between.said.textContent = `${share} %`;
      across.input.setAttribute("aria-valuetext", slice);
      between.input.setAttribute("aria-valuetext", `${share} percent synthetic`);
      for (const [view, name] of views) {
        const to = view.getContext("2d");
        const whole = view.width;
        const cut = name === "compare" ? Math.round(whole * (1 - share / 100)) : 0;
        const paint = (strip, from, until) => {
          if (!strip || until <= from) return;
          const width = (until - from) / scale;
          to.drawImage(strip, from / scale, at * set.height, width, set.height, from, 0, until - from, view.height);
        };
        to.clearRect(0, 0, view.width, view.height);
        if (name === "compare") {
          paint(strips.source, 0, cut);
          paint(strips.synthetic, cut, whole);
          to.fillStyle = "#ffd23f";
          if (cut > 0 && cut < whole) to.fillRect(cut - 1, 0, 2, view.height);
        } else paint(strips[name], 0, whole);
        const what = name === "compare" ? "Source on the left, synthetic on the right of the line" : titles[name];
        view.setAttribute("aria-label", `${what}, ${slice}`);
      }
    }

    const mine = opened;
    for (const volume of set.volumes) {
      const image = new Image();
      image.src = "data:image/jpeg;base64," + volume.strip;
      image.decode().then(
        () => {
          strips[volume.name] = image;
          if (mine === opened) draw();
        },
        () => {},
      );
    }
    across.input.addEventListener("input", draw);
    between.input.addEventListener("input", draw);
    draw();
    const found = [figures];
    if (!has.source) found.push(make("p", { class: "empty" }, "The source is not here, so the synthetic volume is shown alone."));
    return found;
  }

  function flags(list) {
    const items = list.map(([kind, label, text]) => make("li", {}, make("span", { class: "badge " + kind }, label), " " + text));
    return make("section", { class: "block" }, make("h3", {}, "Flags"), make("ul", { class: "flaglist" }, ...items));
  }

  function number(value) {
    return Math.abs(value) >= 100 || Number.isInteger(value) ? String(Math.round(value)) : value.toPrecision(3);
  }

  function histograms(volumes) {
    const space = "http://www.w3.org/2000/svg";
    const drawn = volumes.map((volume) => {
      // The lowest bins are mostly air; drawn to scale they would flatten all tissue.
      const tops = volume.shares.slice(1);
      const most = Math.max(...tops.slice(2), 1e-6);
      const points = tops.map((share, bin) => {
        const y = (40 - 40 * Math.min(1, share / most)).toFixed(2);
        return `${bin},${y} ${bin + 1},${y}`;
      });
      const svg = document.createElementNS(space, "svg");
      svg.setAttribute("viewBox", `0 0 ${tops.length} 40`);
      svg.setAttribute("preserveAspectRatio", "none");
      svg.setAttribute("role", "img");
      svg.setAttribute("class", volume.name);
      svg.setAttribute("aria-label", `Histogram, ${titles[volume.name]}: grey values from ${number(volume.low)} to ${number(volume.high)}`);
      const area = document.createElementNS(space, "polygon");
      area.setAttribute("points", `0,40 ${points.join(" ")} ${tops.length},40`);
      svg.append(area);
      const ends = make("div", { class: "ends", "aria-hidden": "true" }, make("span", {}, number(volume.low)), make("span", {}, number(volume.high)));
      return make("figure", {}, make("figcaption", {}, titles[volume.name]), svg, ends);
    });
    const about = make("p", { class: "about" }, "Number of voxels by grey value; of the lowest of 64 bins, mostly air, the first is left out and the next two are cut off at the top.");
    return make("section", { class: "block" }, make("h3", {}, "Histograms"), make("div", { class: "histograms" }, ...drawn), about);
  }

  function facts(list) {
    const items = list.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)));
    return make("section", { class: "block" }, make("h3", {}, "How it was made"), make("dl", { class: "facts" }, ...items));
  }

  document.querySelectorAll("thead th[data-key]").forEach((heading) => {
    heading.querySelector("button").addEventListener("click", () => sortBy(heading));
  });
  byId("find").addEventListener("input", filter);
  byId("only").addEventListener("change", filter);
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row && !String(getSelection())) {
      row.querySelector("button.open").focus(); // where the focus comes back to
      open(row);
    }
  });
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("close", () => {
    byId("body").replaceChildren();
    byId("sliders").replaceChildren();
    const row = shown[place];
    if (row) row.querySelector("button.open").focus();
  });
  filter(); // a browser may have kept what was typed
})();
