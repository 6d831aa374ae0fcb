// Everything beside the timeline: the index of videos, labels and scores, lists, the comparison, keys.

function drawIndex() {
  const several = videos.length > 1;
  byId("index").hidden = !several;
  document.querySelector(".layout").classList.toggle("several", several);
  if (!several) return;
  const cards = byId("cards");
  if (!cards.childElementCount) cards.append(...videos.map((video) => make("li", {}, cardOf(video))));
  videos.forEach((video, number) => {
    const button = cards.children[number].firstElementChild;
    button.setAttribute("aria-current", video === view.video);
    button.querySelector(".counts").textContent = countsOf(video);
  });
}

function cardOf(video) {
  const picture = video.thumbnail
    ? make("img", { src: video.thumbnail, alt: "", loading: "lazy" })
    : make("span", { className: "blank", "aria-hidden": "true" }, "no picture");
  const words = make("span", {}, make("span", { className: "label" }, video.name), make("span", { className: "counts" }));
  return make("button", { type: "button", title: video.name, onclick: () => openVideo(video) }, picture, words);
}

function countsOf(video) {
  const summary = summaryOf(video);
  const parts = video.detections.length ? [counted(summary.shown, "detection")] : [];
  if (EDIT) {
    const done = editor.present.reviewed.has(video.name) ? ", reviewed" : "";
    return [...parts, counted(editor.annotationsOf(video).length, "annotation") + done].join(" · ");
  }
  if (video.matches) {
    const found = summary.found.size;
    const missed = video.truth.filter((one) => one.label !== DATA.ambiguous).length - found;
    parts.push(`${counted(found, "hit")}, ${missed} missed`);
  } else if (DATA.truth) parts.push("not annotated");
  return parts.join(" · ");
}

/** The slider of a label, or of all of them: its range holds every score. */
function sliderOf(name, described) {
  const scores = DATA.score_range;
  return make("input", { type: "range", min: scores[0], max: scores[1], step: 0.005, "data-label": name, "aria-label": described });
}

function drawClasses() {
  const rows = byId("class-rows");
  const scored = videos.some((video) => video.detections.length);
  byId("reset-scores").hidden = !scored;
  byId("classes-heading").textContent = scored ? "Labels and scores" : "Labels";
  byId("add-label").hidden = !EDIT;
  byId("outcome-choice").hidden = !videos.some((video) => video.matches);
  if (rows.dataset.labels !== JSON.stringify(labels())) {
    rows.dataset.labels = JSON.stringify(labels());
    rows.replaceChildren(...labels().map((label, number) => classRow(label, number, scored)));
    if (scored && labels().length > 1) rows.append(allRow());
  }
  const counts = new Map();
  for (const one of view.video.detections) {
    const [shown, all] = counts.get(one.label) ?? [0, 0];
    counts.set(one.label, [shown + reaches(one), all + 1]);
  }
  for (const row of rows.querySelectorAll(".class-row[data-row]")) {
    const label = labels()[Number(row.dataset.row)];
    const [shown, all] = counts.get(label) ?? [0, 0];
    row.querySelector("input[type=checkbox]").checked = !view.hidden.has(label);
    if (!scored) continue;
    row.querySelector(".count").textContent = `${shown} of ${all}`;
    const slider = row.querySelector("input[type=range]");
    if (document.activeElement !== slider) slider.value = leastScore(label);
    slider.setAttribute("aria-valuetext", `${label} from score ${leastScore(label).toFixed(2)}`);
    row.querySelector("output").textContent = `≥ ${leastScore(label).toFixed(2)}`;
  }
}

function classRow(label, number, scored) {
  const box = make("input", { type: "checkbox", onchange: (event) => {
    if (event.target.checked) view.hidden.delete(label);
    else view.hidden.add(label);
    changed();
  } });
  const swatch = make("span", { className: "swatch" });
  swatch.style.background = colourOf(label);
  const key = EDIT && number < 9 ? [make("kbd", { title: `Key for ${label}` }, String(number + 1))] : [];
  const name = make("label", {}, box, swatch, make("span", { className: "label" }, label), ...key);
  const row = make("div", { className: "class-row", "data-row": number }, name);
  row.classList.toggle("plain", !scored);
  if (!scored) return row;
  name.append(make("span", { className: "count" }));
  const slider = sliderOf(label, `Lowest score of ${label}`);
  slider.addEventListener("input", () => {
    view.scores.set(label, Number(slider.value));
    changed();
  });
  row.append(slider, make("output"));
  return row;
}

function allRow() {
  const slider = sliderOf("", "Lowest score of all labels");
  const value = make("output");
  slider.value = DATA.otherwise;
  slider.addEventListener("input", () => {
    for (const label of labels()) view.scores.set(label, Number(slider.value));
    value.textContent = `≥ ${Number(slider.value).toFixed(2)}`;
    changed();
  });
  return make("div", { className: "class-row all" }, make("span", {}, "All labels"), slider, value);
}

function drawSelection() {
  const body = byId("selection-body");
  const one = view.selected;
  const key = one ? [one.kind, one.id ?? one.row, one.start, one.end, one.label, one.outcome, labels().length].join("|") : "";
  if (body.dataset.key === key && body.childElementCount) return;
  body.dataset.key = key;
  byId("loop").disabled = !one;
  if (!one) {
    const nothing = videos.some((video) => video.detections.length) || !EDIT
      ? "Click a bar, or go to the next one." : "Press i and o where an action starts and ends.";
    body.replaceChildren(make("p", { className: "quiet" }, nothing));
    return;
  }
  const focused = document.activeElement?.closest("#selection-body") ? document.activeElement.id : null;
  body.replaceChildren(...(EDIT && one.kind === "action" ? formOf(one) : factsOf(one)));
  if (focused) byId(focused)?.focus();
}

function factsOf(one) {
  const facts = [["label", one.label], ["from", `${clock(one.start)} to ${clock(one.end)}`], ["lasts", `${(one.end - one.start).toFixed(1)} s`]];
  if (one.kind === "detection") facts.push(["score", one.score.toFixed(3)]);
  if (one.kind === "action") facts.push(["is", "an annotation"]);
  if (one.outcome) facts.push(["tIoU", outcomeWords(one)]);
  const list = make("dl", { className: "facts" }, ...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  const accept = make("button", { type: "button", className: "main", onclick: () => editor.accept(one) }, "Accept ", make("kbd", {}, "a"));
  return EDIT && one.kind === "detection" ? [list, make("div", { className: "buttons" }, accept)] : [list];
}

function outcomeWords(one) {
  if (one.kind === "action") return one.outcome === "missed" ? "missed" : "found";
  const overlap = view.video.matches.overlap[one.row];
  const other = one.outcome === "wrong" ? ` (annotated: ${view.video.truth[view.video.matches.nearest[one.row]].label})` : "";
  return `${overlap.toFixed(2)}, ${WORDS[one.outcome]}${other}`;
}

function formOf(one) {
  const label = make("select", { id: "chosen-label", onchange: () => editor.setLabel(label.value) },
    ...labels().map((name) => make("option", { value: name }, name)));
  label.value = one.label;
  const time = (end) => {
    const input = make("input", { id: `chosen-${end}`, type: "number", step: "any", min: 0, max: lengthOf(view.video), value: one[end] });
    input.addEventListener("change", () => {
      const value = rounded(Number(input.value));
      const fits = input.value !== "" && value >= 0 && value <= lengthOf(view.video) && (end === "start" ? value < one.end : value > one.start);
      if (fits) editor.change(one, { [end]: value });
      else {
        input.value = one[end];
        notice("A start must be before its end, and both within the video.", { bad: true });
      }
    });
    return input;
  };
  const fields = [["label", "chosen-label", label], ["start, s", "chosen-start", time("start")], ["end, s", "chosen-end", time("end")]];
  const list = make("dl", { className: "facts" }, ...fields.flatMap(([name, id, field]) => [
    make("dt", {}, make("label", { htmlFor: id }, name)), make("dd", {}, field),
  ]));
  const here = (end) => () => setEnd(end);
  return [list, make("div", { className: "buttons" },
    make("button", { type: "button", id: "start-here", className: "small", title: "Start at the playhead (Shift+I)", onclick: here("start") }, "Start here"),
    make("button", { type: "button", id: "end-here", className: "small", title: "End at the playhead (Shift+O)", onclick: here("end") }, "End here"),
    make("button", { type: "button", id: "delete", className: "small", title: "Delete", onclick: () => editor.remove(one) }, "Delete"))];
}

/** Set an end of the selected annotation to the playhead. */
function setEnd(end) {
  const one = view.selected;
  if (one?.kind !== "action") return;
  const at = rounded(player.time);
  if (end === "start" ? at < one.end : at > one.start) editor.change(one, { [end]: at });
  else notice(`The ${end} must be ${end === "start" ? "before the end" : "after the start"}.`, { bad: true });
}

const tableRows = new WeakMap();

/** A list of bars as a table; rows are made once, and kept while their bar is. */
function drawRows(place, items, headings, empty) {
  const focused = document.activeElement?.closest(".rows") === place ? document.activeElement.closest("tr")?.item : null;
  const shown = items.slice(0, MOST_ROWS);
  if (view.selected && items.includes(view.selected) && !shown.includes(view.selected)) shown.push(view.selected);
  const body = make("tbody", {}, ...shown.map(rowOf));
  const head = make("thead", {}, make("tr", {}, ...headings.map(([name, kind]) => (
    name ? make("th", { scope: "col", className: kind }, name) : make("td")
  ))));
  const more = items.length - shown.length;
  const rest = more > 0 ? [make("p", { className: "quiet" }, `${more} more are on the timeline.`)] : [];
  const scrolled = place.scrollTop;
  place.replaceChildren(...(items.length ? [make("table", {}, head, body), ...rest] : [make("p", { className: "quiet" }, empty)]));
  place.scrollTop = scrolled;
  if (focused) [...body.children].find((row) => row.item === focused)?.querySelector("button")?.focus();
}

function rowOf(one) {
  let row = tableRows.get(one);
  if (!row || row.colour !== colourOf(one.label)) {
    row = makeRow(one);
    tableRows.set(one, row);
  }
  const current = one === view.selected;
  if (row.hasAttribute("aria-current") !== current) {
    if (current) row.setAttribute("aria-current", "true");
    else row.removeAttribute("aria-current");
  }
  const words = row.querySelector(".outcome");
  if (words && row.outcome !== one.outcome) {
    row.outcome = one.outcome;
    words.textContent = one.outcome === "found" ? "" : (WORDS[one.outcome] ?? "");
    words.className = `outcome ${one.outcome === "hit" ? "good-word" : "bad-word"}`;
  }
  return row;
}

function makeRow(one) {
  const dot = make("span", { className: "dot", "aria-hidden": "true" });
  dot.style.background = colourOf(one.label);
  const when = make("button", { type: "button", onclick: () => select(one) }, `${clock(one.start)}–${clock(one.end)}`);
  const cells = [make("td", {}, when), make("td", {}, dot, make("span", { className: "label" }, one.label))];
  if (one.kind === "detection") cells.push(make("td", { className: "number" }, one.score.toFixed(2)));
  else if (!EDIT) cells.push(make("td"));
  if (EDIT && one.kind === "detection") {
    cells.push(make("td", {}, make("button", { type: "button", className: "accept", "aria-label": `Accept ${describe(one)}`, onclick: () => editor.accept(one) }, "Accept")));
  } else if (view.video.matches) cells.push(make("td", { className: "outcome" }));
  const row = make("tr", {}, ...cells);
  row.item = one;
  row.colour = colourOf(one.label);
  return row;
}

function drawLists(shown) {
  const detected = videos.some((video) => video.detections.length);
  byId("annotation-list").hidden = !EDIT;
  byId("detection-list").hidden = EDIT && !detected;
  if (EDIT) {
    const headings = [["time", ""], ["label", ""]];
    drawRows(byId("annotation-rows"), shown.actions, headings, "None yet in this video.");
  }
  const last = EDIT ? [["", ""]] : view.video.matches ? [["result", ""]] : [];
  const headings = [["time", ""], ["label", ""], ["score", "number"], ...last];
  const missed = EDIT ? [] : shown.actions.filter((one) => !detected || one.outcome === "missed");
  const items = [...shown.detections, ...missed].sort((a, b) => a.start - b.start);
  drawRows(byId("detection-rows"), items, headings, "None with these scores and labels.");
}

function drawComparison() {
  const judged = videos.filter((video) => video.matches);
  byId("comparison").hidden = !judged.length;
  if (!judged.length) return;
  const some = view.scope === "one" ? judged.filter((video) => video === view.video) : judged;
  const table = confusionOf(some);
  const sum = (key) => [...table.columns.values()].reduce((total, column) => total + (column.get(key) ?? 0), 0);
  const hits = [...table.hits.values()].reduce((a, b) => a + b, 0);
  const detections = [...table.columns.keys()].reduce((total, label) => total + [...table.columns.get(label).values()].reduce((a, b) => a + b, 0), 0);
  const missed = [...table.missed.values()].reduce((a, b) => a + b, 0);
  const share = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(0)} %` : "none");
  byId("comparison-sum").textContent = `${counted(hits, "hit")}, ${counted(detections - hits, "false alarm")}, ${missed} missed. ` +
    `Precision ${share(hits, detections)}, recall ${share(hits, hits + missed)}.`;
  drawConfusion(table, sum);
}

const TWICE = "\u0000twice", NOTHING = "\u0000nothing";

/** Counts of shown detections by label and what is annotated there, and the actions that none found. */
function confusionOf(some) {
  const add = (map, key, count = 1) => map.set(key, (map.get(key) ?? 0) + count);
  const columns = new Map(labels().map((label) => [label, new Map()]));
  const [hits, missed] = [new Map(), new Map()];
  for (const video of some) {
    const { counts, found } = summaryOf(video);
    for (const [cell, count] of counts) {
      const [label, outcome, annotated] = JSON.parse(cell);
      const row = { hit: label, double: TWICE, false: NOTHING, wrong: annotated }[outcome];
      add(columns.get(label), row, count);
      if (outcome === "hit") add(hits, label, count);
    }
    for (const one of video.truth) if (one.label !== DATA.ambiguous && !found.has(one.row)) add(missed, one.label);
  }
  return { columns, hits, missed };
}

function drawConfusion({ columns, missed }, sum) {
  const key = JSON.stringify([[...columns].map(([label, column]) => [label, ...column]), [...missed]]);
  const table = byId("confusion");
  if (table.dataset.key === key) return;
  table.dataset.key = key;
  const cell = (count, name = "") => make("td", { className: `${name} ${count ? "" : "zero"}` }, count ? String(count) : "·");
  const head = make("tr", {}, make("td"), ...labels().map((label) => make("th", { scope: "col" }, label)), make("th", { scope: "col", className: "edge" }, "missed"));
  const rows = labels().filter((label) => sum(label) || missed.has(label)).map((label) => make("tr", {},
    make("th", { scope: "row" }, label),
    ...labels().map((other) => cell(columns.get(other).get(label) ?? 0, other === label ? "hit" : "")),
    cell(missed.get(label) ?? 0, "edge")));
  const extra = [[NOTHING, "nothing there"], [TWICE, "found already"]].map(([row, name]) => make("tr", {},
    make("th", { scope: "row" }, name), ...labels().map((label) => cell(columns.get(label).get(row) ?? 0)), make("td", { className: "edge" })));
  table.replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows, ...extra));
}

function drawAnnotate() {
  if (!EDIT) return;
  const choice = byId("new-label");
  if (!labels().includes(editor.newLabel)) editor.newLabel = labels()[0] ?? null;
  if (choice.dataset.labels !== JSON.stringify(labels())) {
    choice.dataset.labels = JSON.stringify(labels());
    choice.replaceChildren(...labels().map((label) => make("option", { value: label }, label)));
  }
  choice.value = editor.newLabel ?? "";
  byId("mark-out").disabled = editor.markedIn === null;
  byId("mark-in").setAttribute("aria-pressed", editor.markedIn !== null);
  byId("undo").disabled = !editor.past.length;
  byId("redo").disabled = !editor.future.length;
  byId("accept-all").hidden = !videos.some((video) => video.detections.length);
  byId("reviewed").checked = editor.present.reviewed.has(view.video.name);
}

function drawLegend() {
  const judged = Boolean(view.video.matches);
  const entries = [];
  if (judged) entries.push(["✓", "hit"], ["✕", "false alarm"], ["≠", "wrong label"], ["2×", "found already"], ["dashed", "missed"]);
  if (EDIT && videos.some((video) => video.detections.length)) entries.push(["dashed", "detection"], ["solid", "annotation"]);
  if (judged) entries.push(["lower row", "annotations"]);
  byId("legend").replaceChildren(...entries.map(([mark, words]) => make("span", {}, make("b", {}, mark), words)));
}
