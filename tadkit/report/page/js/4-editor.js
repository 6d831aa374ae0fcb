// The annotations that a reader makes: every change is a new state, so that it can be undone.

const FORMAT = "tadkit 1";
const SHORTEST_S = 0.04;
/** A hand moves a little when it clicks; that is no drag. */
const DRAG_PX = 3;
let lastId = 0;

const editor = {
  past: [],
  future: [],
  /** Labels; annotations, and what else is written, by video name; and names of the reviewed videos. */
  present: null,
  drag: null,
  markedIn: null,
  newLabel: null,

  initial() {
    return {
      labels: DATA.labels,
      annotations: new Map(videos.map((video) => [video.name, video.truth.map((one) => annotation(one))])),
      records: new Map(videos.map(({ name, subset, fps, duration, exact }) => [name, { subset, fps, duration: exact ? duration : null }])),
      reviewed: new Set(videos.filter((video) => video.annotated).map((video) => video.name)),
    };
  },

  annotationsOf(video) {
    return this.present.annotations.get(video.name);
  },

  /** Make a state the present one. */
  commit(change) {
    this.past.push(this.present);
    this.future = [];
    this.present = { ...this.present, ...change };
    this.after();
  },

  /** Replace the annotations of the open video. */
  replace(annotations) {
    this.commit({ annotations: new Map(this.present.annotations).set(view.video.name, annotations) });
  },

  step(from, to) {
    if (!from.length) return;
    const left = this.present;
    to.push(left);
    this.present = from.pop();
    this.after();
    const elsewhere = videos.filter(
      ({ name }) => name !== view.video.name && left.annotations.get(name) !== this.present.annotations.get(name),
    );
    if (elsewhere.length) notice(`That changed ${elsewhere.map(({ name }) => name).join(", ")}.`);
  },
  undo() {
    this.step(this.past, this.future);
  },
  redo() {
    this.step(this.future, this.past);
  },

  after() {
    if (view.selected?.kind === "action" && !this.annotationsOf(view.video).includes(view.selected)) {
      view.selected = this.annotationsOf(view.video).find((one) => one.id === view.selected.id) ?? null;
      if (!view.selected) setLooping(false);
    }
    this.save();
    changed();
  },

  add(start, end, label, { selected = true } = {}) {
    const one = annotation({ start, end, label });
    this.replace([...this.annotationsOf(view.video), one]);
    if (selected) select(one, { seek: false });
    return one;
  },

  change(one, parts) {
    const next = Object.freeze({ ...one, ...parts });
    if (!(next.end - next.start > 0)) return;
    this.replace(this.annotationsOf(view.video).map((other) => (other === one ? next : other)));
  },

  remove(one) {
    view.selected = null;
    setLooping(false);
    this.replace(this.annotationsOf(view.video).filter((other) => other !== one));
    notice(`Deleted ${describe(one)}.`, { action: { name: "Undo", run: () => (this.undo(), notice("")) } });
  },

  /** Whether an annotation of the same label has the detection's place already. */
  isAnnotated(detection, among = this.annotationsOf(view.video)) {
    return among.some((one) => one.label === detection.label && overlapOf(one, detection) >= SAME_ACTION_TIOU);
  },

  accept(detection) {
    if (this.isAnnotated(detection)) {
      notice(`Not added: ${detection.label} is annotated there already.`);
      return;
    }
    const { start, end } = roundedOf(detection);
    if (end > start) this.add(start, end, detection.label);
    else notice("Not added: nothing of it is within the video.");
  },

  /** Add the shown detections, best first, where their label is not annotated yet. */
  acceptAll() {
    const all = [...this.annotationsOf(view.video)];
    const before = all.length;
    const detections = [...shownIn(view.video).detections].sort((a, b) => b.score - a.score);
    const within = detections.filter((one) => roundedOf(one).end > roundedOf(one).start);
    for (const one of within) if (!this.isAnnotated(one, all)) all.push(annotation({ ...one, ...roundedOf(one) }));
    const added = all.length - before;
    const [rest, outside] = [within.length - added, detections.length - within.length];
    if (added) this.replace(all);
    notice(`Added ${added} of ${counted(detections.length, "shown detection")}${rest ? `; ${rest} overlap an annotation of their label (tIoU ≥ ${SAME_ACTION_TIOU})` : ""}${outside ? `; ${outside} not within the video` : ""}.`,
      added ? { action: { name: "Undo", run: () => (this.undo(), notice("")) } } : {});
  },

  markIn() {
    this.markedIn = rounded(player.time);
    changed();
  },

  markOut() {
    if (this.markedIn === null) {
      notice("Mark the start first: press i where the action begins.");
      return;
    }
    const [start, end] = [this.markedIn, rounded(player.time)].sort((a, b) => a - b);
    if (end - start < SHORTEST_S) {
      notice("Move on before you mark the end.");
      return;
    }
    if (!this.newLabel) {
      notice("Add a label first.", { bad: true });
      return;
    }
    this.markedIn = null;
    this.add(start, end, this.newLabel);
  },

  setLabel(label) {
    this.newLabel = label;
    if (view.selected?.kind === "action") this.change(view.selected, { label });
    changed();
  },

  addLabel(label) {
    if (label && !labels().includes(label)) this.commit({ labels: [...labels(), label] });
    if (label) this.newLabel = label;
  },

  startDrag(one, end, x) {
    this.drag = { one, end, x, start: one.start, stop: one.end, moved: false };
  },

  dragTo(seconds, x) {
    const drag = this.drag;
    if (!drag.moved && Math.abs(x - drag.x) < DRAG_PX) return;
    const at = rounded(seconds);
    drag.moved = true;
    if (drag.end === "start") drag.start = Math.max(Math.min(at, drag.stop - SHORTEST_S), 0);
    else drag.stop = Math.min(Math.max(at, drag.start + SHORTEST_S), lengthOf(view.video));
    player.seek(drag.end === "start" ? drag.start : drag.stop);
    changed();
  },

  /** The segment of a bar as it is drawn: where it is dragged to, or its own. */
  dragged(one) {
    return this.drag?.one === one ? { start: this.drag.start, end: this.drag.stop } : one;
  },

  /** A dragged detection becomes an annotation. */
  endDrag(keep) {
    const drag = this.drag;
    this.drag = null;
    if (!drag?.moved) return;
    const [start, end] = [rounded(drag.start), rounded(drag.stop)];
    if (keep && drag.one.kind === "detection") this.add(start, end, drag.one.label);
    else if (keep) this.change(drag.one, drag.end === "start" ? { start } : { end });
    changed();
  },

  /** The present annotations as tadkit's JSON; videos that were neither annotated nor reviewed are left out. */
  text() {
    const kept = videos.filter((video) => this.annotationsOf(video).length || this.present.reviewed.has(video.name));
    const entry = (video) => {
      const { subset, fps, duration } = this.present.records.get(video.name);
      const found = [...this.annotationsOf(video)].sort((a, b) => a.start - b.start || a.end - b.end);
      return {
        subset,
        duration: duration ?? video.duration,
        ...(fps === null ? {} : { fps }),
        annotations: found.map((one) => ({ segment: [one.start, one.end], label: one.label })),
      };
    };
    const database = Object.fromEntries(kept.map((video) => [video.name, entry(video)]));
    return { text: `${JSON.stringify({ version: FORMAT, taxonomy: [], database }, null, 1)}\n`, kept: kept.length };
  },

  download() {
    const { text, kept } = this.text();
    const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "application/json" })) });
    link.download = DATA.download;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    const out = videos.length - kept;
    const left = out ? `; ${counted(out, "video")} without annotations, and not marked as reviewed, left out` : "";
    notice(`Downloaded ${DATA.download}: ${counted(kept, "video")}${left}.`);
  },

  /** Replace the annotations of the videos that a file names. */
  load(text, file) {
    let read;
    try {
      read = readAnnotations(text);
    } catch (error) {
      notice(`${file}: ${error.message}. Nothing was changed.`, { bad: true });
      return;
    }
    const known = new Map([...read].filter(([name]) => this.present.annotations.has(name)));
    const foreign = [...read.keys()].filter((name) => !known.has(name));
    if (!known.size) {
      notice(`${file}: none of its ${counted(read.size, "video")} is on this page. Nothing was changed.`, { bad: true });
      return;
    }
    const used = [...known.values()].flatMap(({ found }) => found.map((one) => one.label));
    const records = [...known].map(([name, { record }]) => [name, { ...this.present.records.get(name), ...record }]);
    this.commit({
      annotations: new Map([...this.present.annotations, ...[...known].map(([name, { found }]) => [name, found])]),
      records: new Map([...this.present.records, ...records]),
      labels: [...new Set([...labels(), ...used])],
      reviewed: new Set([...this.present.reviewed, ...known.keys()]),
    });
    const rest = foreign.length ? ` Not on this page, and so ignored: ${foreign.slice(0, 5).join(", ")}${foreign.length > 5 ? ", …" : ""}.` : "";
    notice(`Loaded ${file}: ${counted(known.size, "video")}.${rest}`, { bad: foreign.length > 0 });
  },

  get key() {
    return `tadkit-report ${DATA.digest}`;
  },

  save() {
    try {
      localStorage.setItem(this.key, plainText(this.present));
    } catch {
      notice("This browser does not save your changes here: download them before you close the page.", { bad: true });
    }
  },

  /** Continue from what the browser has kept of this page. */
  restore() {
    let state = null;
    try {
      state = stateOf(JSON.parse(localStorage.getItem(this.key)));
    } catch {
      notice("What this browser has kept of your changes cannot be read.", { bad: true });
    }
    if (!state || plainText(state) === plainText(this.present)) return;
    this.commit(state);
    notice("Your changes from last time are here again.", { action: { name: "Start over", run: () => this.startOver() } });
  },

  startOver() {
    this.commit(this.initial());
    notice("Back to the annotations that this page was made with.", { action: { name: "Undo", run: () => (this.undo(), notice("")) } });
  },
};

/** A state as text, without the numbers by which the page knows its annotations. */
function plainText({ labels, annotations, records, reviewed }) {
  const found = [...annotations].map(([name, all]) => [name, all.map((one) => [one.start, one.end, one.label])]);
  return JSON.stringify({ labels, annotations: found, records: [...records], reviewed: [...reviewed] });
}

/** The state of such a text's content; null if there is none. */
function stateOf(saved) {
  if (!saved) return null;
  const found = saved.annotations.map(([name, rows]) => [
    name, rows.map(([start, end, label]) => annotation({ start, end, label })),
  ]);
  return {
    labels: [...saved.labels],
    annotations: new Map(found),
    records: new Map(saved.records),
    reviewed: new Set(saved.reviewed),
  };
}

function annotation({ start, end, label }) {
  return Object.freeze({ kind: "action", id: ++lastId, start, end, label });
}

/** Milliseconds are finer than any frame. */
function rounded(seconds) {
  return Math.round(seconds * 1000) / 1000;
}

/** A detection's segment in milliseconds, within its video. */
function roundedOf({ start, end }) {
  const last = lengthOf(view.video);
  const from = Math.min(rounded(start), last);
  return { start: Math.max(from, 0), end: Math.max(Math.min(rounded(end), last), from) };
}

/** Annotations and records by video name of a text in tadkit's JSON; an error says what is wrong with it. */
function readAnnotations(text) {
  let content;
  try {
    content = JSON.parse(text);
  } catch {
    throw new Error("not JSON");
  }
  const database = content?.database;
  if (typeof database !== "object" || database === null || Array.isArray(database)) {
    throw new Error("no 'database' object; expected annotations as tadkit writes them");
  }
  return new Map(Object.entries(database).map(([name, entry]) => {
    const rows = entry?.annotations ?? [];
    if (!Array.isArray(rows)) throw new Error(`'${name}' has annotations that are not a list`);
    const record = {};
    if (typeof entry.subset === "string") record.subset = entry.subset;
    for (const key of ["duration", "fps"]) if (!Number.isNaN(secondsOf(entry[key]))) record[key] = secondsOf(entry[key]);
    return [name, { found: rows.map((row) => annotationOf(row, name)), record }];
  }));
}

function annotationOf(row, name) {
  const [start, end] = Array.isArray(row?.segment) && row.segment.length === 2 ? row.segment.map(secondsOf) : [];
  if (!(end >= start)) throw new Error(`'${name}' has a segment that is not [start, end] in seconds`);
  if (typeof row.label !== "string") throw new Error(`'${name}' has an annotation without a label`);
  return annotation({ start, end, label: row.label });
}

/** A number, or the text of one, as some projects write them; NaN for anything else. */
function secondsOf(value) {
  const number = typeof value === "number" || (typeof value === "string" && value.trim()) ? Number(value) : NaN;
  return Number.isFinite(number) ? number : NaN;
}
