// What the page shows: the data that tadkit wrote into it, what the reader has chosen, and what follows from both.

const DATA = JSON.parse(byId("data").textContent);
const EDIT = DATA.edit;
const SHOWN_FROM = new Map(Object.entries(DATA.shown_from)); // an object has "constructor", too
// Okabe and Ito (2008): eight colours that remain distinct to colour-blind readers.
const PALETTE = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#8a8f98", "#c7b500"];
const SAME_ACTION_TIOU = 0.5;
const MOST_ROWS = 200;
const SETTLED_MS = 60;

const videos = DATA.videos.map((one, number) => ({
  ...one,
  number,
  detections: one.detections.map(([start, end, label, score], row) => ({
    kind: "detection", row, start, end, label: DATA.labels[label], place: label, score,
  })),
  truth: one.truth.map(([start, end, label], row) => ({ kind: "action", row, start, end, label: DATA.labels[label] })),
}));

const view = {
  video: videos[0],
  selected: null,
  hidden: new Set(),
  scores: new Map(),
  level: Math.max(0, DATA.tious.indexOf(0.5)),
  scope: "all",
  outcomes: "all",
  looping: false,
};

/** A URL as people read it; as it is if its escapes are not UTF-8. */
function readable(url) {
  try {
    return decodeURIComponent(url);
  } catch {
    return url;
  }
}

function byId(id) {
  return document.getElementById(id);
}

/** An element with properties (or attributes, where there is no such property) and children. Text is never HTML. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Seconds as a player shows them: m:ss.s, or h:mm:ss.s from one hour. */
function clock(seconds) {
  const tenths = Math.round(Math.max(seconds, 0) * 10);
  const minutes = Math.floor(tenths / 600);
  const rest = ((tenths % 600) / 10).toFixed(1).padStart(4, "0");
  if (minutes < 60) return `${minutes}:${rest}`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

function counted(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

/** Every label: those of the data, then those that were added or loaded. */
function labels() {
  return EDIT ? editor.present.labels : DATA.labels;
}

function colourOf(label) {
  return PALETTE[Math.max(0, labels().indexOf(label)) % PALETTE.length];
}

function leastScore(label) {
  return view.scores.get(label) ?? SHOWN_FROM.get(label) ?? DATA.otherwise;
}

/** The end of the timeline: that of the video, or of what is marked behind it. */
function lengthOf(video) {
  return Math.max(video.duration, ...video.truth.map((one) => one.end), 0.1);
}

function reaches(detection) {
  return detection.score >= leastScore(detection.label);
}

/**
 * Whether a detection is a "hit", a "double" (of an action that a better one found), of the "wrong" label or a "false"
 * alarm. Python matched all detections, best first; leaving out those below a score changes no match of the others.
 */
function outcomeOf(video, detection) {
  const { taken, nearest, overlap } = video.matches;
  if (taken[view.level][detection.row] >= 0) return "hit";
  if (overlap[detection.row] < DATA.tious[view.level]) return "false";
  return video.truth[nearest[detection.row]].label === detection.label ? "double" : "wrong";
}

/** Lowest scores in the order of the labels of the data. */
function leastScores() {
  return DATA.labels.map(leastScore);
}

/** Counts of what a video shows, kept until a score or the tIoU is changed. */
function summaryOf(video) {
  const key = `${view.level} ${leastScores()}`;
  if (video.summary?.key === key) return video.summary;
  const [least, taken] = [leastScores(), video.matches?.taken[view.level]];
  const summary = { key, shown: 0, found: new Set(), counts: new Map() };
  for (const one of video.detections) {
    if (one.score < least[one.place]) continue;
    summary.shown += 1;
    if (!taken) continue;
    if (taken[one.row] >= 0) summary.found.add(taken[one.row]);
    const outcome = outcomeOf(video, one);
    const annotated = outcome === "wrong" ? video.truth[video.matches.nearest[one.row]].label : "";
    const cell = JSON.stringify([one.label, outcome, annotated]);
    summary.counts.set(cell, (summary.counts.get(cell) ?? 0) + 1);
  }
  return (video.summary = summary);
}

const WORDS = { hit: "hit", false: "false alarm", wrong: "wrong label", double: "found twice", missed: "missed" };
const MARKS = { hit: "✓", false: "✕", wrong: "≠", double: "2×", missed: "missed" };

/** What the open video shows: detections and actions that the filters leave, by start. */
function shownIn(video) {
  const inOrder = (a, b) => a.start - b.start || a.end - b.end;
  const visible = (one) => !view.hidden.has(one.label);
  let detections = video.detections.filter((one) => visible(one) && reaches(one));
  let actions = (EDIT ? editor.annotationsOf(video) : video.truth).filter(visible);
  if (video.matches) {
    const { found } = summaryOf(video);
    const missed = (one) => one.label !== DATA.ambiguous && !found.has(one.row);
    for (const one of actions) one.outcome = missed(one) ? "missed" : "found";
    for (const one of detections) one.outcome = outcomeOf(video, one);
    if (view.outcomes !== "all") {
      const hits = view.outcomes === "hit";
      detections = detections.filter((one) => (one.outcome === "hit") === hits);
      actions = actions.filter((one) => (one.outcome === "found") === hits);
    }
  }
  return { detections: detections.sort(inOrder), actions: [...actions].sort(inOrder) };
}

/** tIoU of two segments. */
function overlapOf(one, other) {
  const both = Math.min(one.end, other.end) - Math.max(one.start, other.start);
  return both <= 0 ? 0 : both / (one.end - one.start + other.end - other.start - both);
}

let drawing = 0;
let settling = 0;
/** Draw the timeline before the next frame. */
function redraw() {
  drawing ||= requestAnimationFrame(() => {
    drawing = 0;
    drawNow();
  });
}

/** Show what has changed: the timeline before the next frame, lists and counts once nothing changes any more. */
function changed() {
  redraw();
  clearTimeout(settling);
  byId("side").setAttribute("aria-busy", "true");
  settling = setTimeout(() => {
    drawSettled();
    byId("side").removeAttribute("aria-busy");
  }, SETTLED_MS);
}

function notice(text, { bad = false, action = null } = {}) {
  const bar = byId("notice");
  bar.className = bad ? "notice bad" : "notice";
  bar.replaceChildren(...(text ? [make("span", {}, text)] : []));
  if (action) bar.append(make("button", { type: "button", className: "small", onclick: action.run }, action.name));
  if (text) bar.append(make("button", { type: "button", className: "small", onclick: () => notice("") }, "Close"));
}
