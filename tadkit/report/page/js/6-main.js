// Opening a video, selecting, keys, and the first drawing.

const KEYS = [
  [["space"], "play or pause"],
  [["←", "→"], "one second back or on; with Shift a tenth"],
  [["Home", "End"], "start or end of the video"],
  [["[", "]"], "previous or next bar"],
  [["l"], "loop the selected bar"],
  [["m"], "sound on or off"],
  [["+", "−", "0"], "zoom in, zoom out, whole video; Ctrl and wheel over the timeline"],
  [["p", "n"], "previous or next video"],
  [["s"], "next suggested stretch"],
  [["Esc"], "select nothing"],
  [["?"], "this list"],
];
const EDIT_KEYS = [
  [["i", "o"], "mark start and end of a new annotation"],
  [["Shift+I", "Shift+O"], "set start or end of the selected annotation to the playhead"],
  [["1", "…", "9"], "label of the selected annotation, and of new ones"],
  [["a"], "accept the selected detection"],
  [["Shift+A"], "accept all shown detections"],
  [["Delete"], "delete the selected annotation"],
  [["Ctrl+Z", "Ctrl+Shift+Z"], "undo, redo"],
  [["Ctrl+S"], "download the annotations"],
];

function drawNow() {
  timeline.draw(shownIn(view.video));
  drawClasses();
  drawAnnotate();
  drawSelection();
  showTime();
}

function drawSettled() {
  drawIndex();
  drawLists(shownIn(view.video));
  drawComparison();
  drawLegend();
}

function openVideo(video) {
  view.video = video;
  view.selected = null;
  editor.markedIn = null;
  editor.drag = null;
  setLooping(false);
  timeline.zoom = 1;
  timeline.scrollTo(0);
  timeline.fit();
  byId("video-name").textContent = video.name;
  const facts = [clock(video.duration)];
  if (DATA.truth && !EDIT && !video.annotated) facts.push("not annotated");
  if (video.subset) facts.push(video.subset);
  if (video.stretches.length) facts.push(`suggested: ${video.stretches.map(([start, end]) => `${clock(start)} to ${clock(end)}`).join(", ")}`);
  byId("video-about").textContent = facts.join(" · ");
  player.open(video);
  if (video.stretches.length) showStretch(video.stretches[0]);
  changed();
}

function showStretch([start, end]) {
  player.seek(start);
  timeline.reveal(start, end);
}

/** Go to the suggested stretch after the playhead, or to the first of the next video that has any. */
function nextStretch() {
  const later = [...view.video.stretches].sort(([a], [b]) => a - b).find(([start]) => start > player.time + 1e-6);
  const { number } = view.video;
  if (later) showStretch(later);
  else {
    const other = [...videos.slice(number + 1), ...videos.slice(0, number + 1)].find((one) => one.stretches.length);
    if (other) openVideo(other);
  }
}

function select(one, { seek = true } = {}) {
  view.selected = one;
  if (!one) setLooping(false);
  else {
    if (seek) player.seek(one.start);
    timeline.reveal(one.start, one.end);
  }
  changed();
}

/** Select the bar before (-1) or after (1) the selected one, or the playhead. */
function selectNext(direction) {
  const { detections, actions } = shownIn(view.video);
  const all = [...detections, ...(EDIT ? actions : actions.filter((one) => one.outcome === "missed" || !detections.length))];
  all.sort((a, b) => a.start - b.start || a.end - b.end);
  if (!all.length) return;
  const at = all.indexOf(view.selected);
  const ahead = all.findIndex((one) => one.start > player.time + 1e-6);
  const next = at >= 0 ? at + direction : direction > 0 ? (ahead < 0 ? all.length : ahead) : (ahead < 0 ? all.length : ahead) - 1;
  select(all[Math.min(Math.max(next, 0), all.length - 1)]);
}

function openOther(direction) {
  const next = videos[view.video.number + direction];
  if (!next) return;
  openVideo(next);
  byId("cards").children[next.number]?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

function keyActions(event) {
  const step = event.shiftKey ? 0.1 : 1;
  return {
    " ": () => player.toggle(),
    ArrowLeft: () => player.seek(player.time - step),
    ArrowRight: () => player.seek(player.time + step),
    Home: () => player.seek(0),
    End: () => player.seek(lengthOf(view.video)),
    "[": () => selectNext(-1),
    "]": () => selectNext(1),
    l: () => setLooping(!view.looping),
    m: () => (player.element.muted = !player.element.muted),
    "+": () => timeline.zoomBy(1.6),
    "=": () => timeline.zoomBy(1.6),
    "-": () => timeline.zoomBy(1 / 1.6),
    0: () => timeline.zoomBy(0),
    p: () => openOther(-1),
    n: () => openOther(1),
    s: () => nextStretch(),
    "?": () => byId("help").showModal(),
    Escape: () => ((editor.markedIn = null), select(null)),
    ...(EDIT ? editActions(event) : {}),
  };
}

function editActions(event) {
  const one = view.selected;
  const digits = labels().slice(0, 9).map((label, number) => [String(number + 1), () => editor.setLabel(label)]);
  const remove = () => one?.kind === "action" && editor.remove(one);
  return {
    i: () => editor.markIn(),
    o: () => editor.markOut(),
    I: () => setEnd("start"),
    O: () => setEnd("end"),
    a: () => one?.kind === "detection" && editor.accept(one),
    A: () => editor.acceptAll(),
    Delete: remove,
    Backspace: remove,
    ...Object.fromEntries(digits),
  };
}

/** Keys that a focused field or button uses itself. */
function isTaken(event) {
  const element = event.target;
  if (byId("help").open) return true;
  if (element.matches("textarea, select, input:not([type]), input[type=number], input[type=text]")) return true;
  if (element.matches("input[type=range]")) return /^(Arrow|Home|End|Page)/.test(event.key);
  if (element.matches("button, input[type=checkbox], input[type=file], a")) return event.key === " " || event.key === "Enter";
  return element.closest(".across, .rows") !== null && element.matches(".across, .rows") && event.key.startsWith("Arrow");
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey) {
    const name = event.key.toLowerCase();
    const typing = event.target.matches("input:not([type]), input[type=number]");
    if (!EDIT || typing || !["z", "y", "s"].includes(name)) return;
    event.preventDefault();
    if (name === "s") editor.download();
    else if (name === "y" || event.shiftKey) editor.redo();
    else editor.undo();
    return;
  }
  if (event.altKey) return;
  if (isTaken(event)) {
    if (event.target.matches("input") && ["Enter", "Escape"].includes(event.key)) event.target.blur();
    return;
  }
  const action = keyActions(event)[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

function listen() {
  const onClick = {
    play: () => player.toggle(), previous: () => selectNext(-1), next: () => selectNext(1),
    loop: () => setLooping(!view.looping), mute: () => (player.element.muted = !player.element.muted),
    "zoom-in": () => timeline.zoomBy(1.6), "zoom-out": () => timeline.zoomBy(1 / 1.6), "zoom-all": () => timeline.zoomBy(0),
    "help-button": () => byId("help").showModal(),
    undo: () => editor.undo(), redo: () => editor.redo(), download: () => editor.download(),
    "mark-in": () => editor.markIn(), "mark-out": () => editor.markOut(), "accept-all": () => editor.acceptAll(),
    "reset-scores": () => (view.scores.clear(), changed()),
  };
  for (const [id, run] of Object.entries(onClick)) byId(id).addEventListener("click", run);
  const onChange = {
    speed: (value) => (player.element.playbackRate = Number(value)),
    tiou: (value) => (view.level = Number(value)),
    scope: (value) => (view.scope = value),
    outcomes: (value) => (view.outcomes = value),
    "new-label": (value) => (editor.newLabel = value),
  };
  for (const [id, run] of Object.entries(onChange)) {
    byId(id).addEventListener("change", (event) => {
      run(event.target.value);
      changed();
    });
  }
  byId("reviewed").addEventListener("change", (event) => {
    const reviewed = new Set(editor.present.reviewed);
    if (event.target.checked) reviewed.add(view.video.name);
    else reviewed.delete(view.video.name);
    editor.commit({ reviewed });
  });
  byId("add-label").addEventListener("submit", (event) => {
    event.preventDefault();
    editor.addLabel(byId("label-name").value.trim());
    byId("label-name").value = "";
    changed();
  });
  byId("load").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (file) editor.load(await file.text(), file.name);
  });
  document.addEventListener("keydown", onKey);
}

function start() {
  byId("title").textContent = DATA.title;
  byId("about").textContent = DATA.about;
  byId("edit-tools").hidden = byId("annotate").hidden = !EDIT;
  byId("tiou").append(...DATA.tious.map((tiou, level) => make("option", { value: level }, tiou.toFixed(1))));
  byId("tiou").value = view.level;
  byId("scope").parentElement.hidden = videos.length < 2;
  const keys = EDIT ? [...KEYS, ...EDIT_KEYS] : KEYS;
  byId("keys").append(make("tbody", {}, ...keys.map(([names, words]) => make("tr", {},
    make("td", {}, ...names.flatMap((name, at) => [at ? " " : "", make("kbd", {}, name)])), make("td", {}, words)))));
  readColours();
  listen();
  listenToPlayer();
  listenToTimeline();
  if (DATA.warnings.length) notice(DATA.warnings.join(" "));
  if (EDIT) {
    editor.present = editor.initial();
    editor.restore();
  }
  openVideo(videos[0]);
}

start();
