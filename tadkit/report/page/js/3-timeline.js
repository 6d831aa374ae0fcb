// The timeline: lanes by label on a canvas as wide as the screen, in a container that the browser scrolls.

const AXIS_PX = 24;
const HANDLE_PX = 9;

const timeline = {
  scroller: byId("scroller"),
  canvas: byId("lane-canvas"),
  zoom: 1,
  widthPx: 0,
  gutterPx: 0,
  scrolledPx: 0,
  pxPerSecond: 1,
  lanes: [],
  shown: { detections: [], actions: [] },

  get plotPx() {
    return Math.max(50, this.widthPx - this.gutterPx - 10);
  },
  get mostZoom() {
    return Math.max(1, Math.min(lengthOf(view.video) / 1.5, 2e6 / this.plotPx));
  },
  xOf(seconds) {
    return this.gutterPx + seconds * this.pxPerSecond - this.scrolledPx;
  },
  secondsAt(x) {
    const seconds = (x - this.gutterPx + this.scrolledPx) / this.pxPerSecond;
    return Math.min(Math.max(seconds, 0), lengthOf(view.video));
  },

  /** Zoom by a factor; the second at ``x`` stays there. */
  zoomBy(factor, x = this.xOf(player.time)) {
    const at = Math.min(Math.max(x, this.gutterPx), this.widthPx);
    const second = this.secondsAt(at);
    this.zoom = Math.min(Math.max(this.zoom * factor, 1), this.mostZoom);
    this.fit();
    this.scrollTo(second * this.pxPerSecond - (at - this.gutterPx));
    changed();
  },

  scrollTo(px) {
    this.scroller.scrollLeft = px;
    this.scrolledPx = this.scroller.scrollLeft;
  },

  /** Take the sizes of the page, once for all bars: asking for them makes the browser lay out. */
  fit() {
    this.widthPx = this.scroller.clientWidth;
    this.gutterPx = this.widthPx >= 560 ? 104 : 10;
    byId("spacer").style.width = `${Math.round(this.widthPx + this.plotPx * (this.zoom - 1))}px`;
    byId("window").style.width = `${this.widthPx}px`;
    this.pxPerSecond = (this.plotPx * this.zoom) / lengthOf(view.video);
    this.scrolledPx = this.scroller.scrollLeft;
  },

  reveal(start, end) {
    const [from, to] = [this.xOf(start), this.xOf(end)];
    if (from < this.gutterPx || to > this.widthPx) {
      const room = Math.max(20, (this.widthPx - this.gutterPx - (to - from)) / 2);
      this.scrollTo(this.scrolledPx + from - this.gutterPx - room);
    }
  },

  draw(shown) {
    this.shown = shown;
    this.fit();
    const named = this.gutterPx < 50 ? 17 : 0;
    const rows = { detections: videos.some((one) => one.detections.length), actions: EDIT || Boolean(DATA.truth) };
    const heights = { detections: rows.detections ? 22 : 0, actions: rows.actions ? (EDIT ? 22 : 15) : 0 };
    let top = AXIS_PX;
    this.lanes = labels().filter((label) => !view.hidden.has(label)).map((label) => {
      const detections = top + 5 + named;
      const actions = detections + heights.detections + (rows.detections && rows.actions ? 2 : 0);
      const lane = { label, top, named, rows: { detections, actions }, heights };
      lane.bottom = top = actions + heights.actions + 5;
      return lane;
    });
    const heightPx = Math.max(top + 2, AXIS_PX + 30);
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(this.widthPx * ratio), Math.round(heightPx * ratio)];
    if (this.canvas.width !== width || this.canvas.height !== height) {
      Object.assign(this.canvas, { width, height });
      Object.assign(this.canvas.style, { width: `${this.widthPx}px`, height: `${heightPx}px` });
    }
    const pen = this.canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, this.widthPx, heightPx);
    this.drawLanes(pen, heightPx);
    pen.save();
    pen.beginPath();
    pen.rect(this.gutterPx - 5, 0, this.widthPx, heightPx);
    pen.clip();
    const by = new Map(this.lanes.map((lane) => [lane.label, lane]));
    for (const kind of ["actions", "detections"]) {
      const painted = kind === "detections" ? [...shown[kind]].sort((a, b) => a.score - b.score) : shown[kind];
      for (const one of painted) if (by.has(one.label)) this.drawBar(pen, one, by.get(one.label), kind);
    }
    if (view.selected && by.has(view.selected.label)) {
      const kind = view.selected.kind === "detection" ? "detections" : "actions";
      if (shown[kind].includes(view.selected)) this.drawBar(pen, view.selected, by.get(view.selected.label), kind);
    }
    if (EDIT && editor.markedIn !== null) this.drawMark(pen, heightPx);
    pen.restore();
  },

  drawLanes(pen, heightPx) {
    pen.font = `12px ${fontFamily}`;
    pen.textBaseline = "middle";
    const length = lengthOf(view.video);
    const step = niceStep(length / this.zoom / Math.max(2, this.plotPx / 85));
    const [first, last] = [this.secondsAt(0), this.secondsAt(this.widthPx)];
    for (let second = Math.floor(first / step) * step; second <= last + step / 2; second += step) {
      const x = Math.round(this.xOf(second)) + 0.5;
      if (x < this.gutterPx - 1 || second > length + 1e-6) continue;
      pen.fillStyle = colours.line;
      pen.fillRect(x - 0.5, AXIS_PX - 5, 1, heightPx);
      pen.fillStyle = colours.quiet;
      const text = tickText(second, step);
      const half = pen.measureText(text).width / 2;
      pen.fillText(text, Math.min(Math.max(x - half, 4), this.widthPx - 2 * half - 4), 10);
    }
    pen.fillStyle = colours.ink;
    for (const [start, end] of view.video.stretches) {
      const from = Math.max(this.xOf(start), this.gutterPx - 1);
      pen.fillRect(from, AXIS_PX - 4, Math.max(0, this.xOf(end) - from), 3);
    }
    for (const lane of this.lanes) {
      const [left, named] = [this.gutterPx - 5, lane.named];
      pen.fillStyle = colours.track;
      roundedBox(pen, left, lane.top + 3 + named, this.widthPx - left - 5, lane.bottom - lane.top - 6 - named, 5);
      pen.fill();
      pen.fillStyle = colours.ink;
      pen.font = `600 12.5px ${fontFamily}`;
      const y = named ? lane.top + 11 : (lane.top + lane.bottom) / 2;
      const x = named ? 8 : 26;
      pen.fillText(cut(pen, lane.label, named ? this.widthPx - 30 : this.gutterPx - 36), named ? 24 : x, y);
      pen.fillStyle = colourOf(lane.label);
      roundedBox(pen, named ? 8 : 10, y - 5, 10, 10, 2.5);
      pen.fill();
    }
  },

  drawBar(pen, one, lane, kind) {
    const { start, end } = editor.dragged(one);
    const left = this.xOf(start);
    const width = Math.max(2.5, this.xOf(end) - left);
    if (left + width < 0 || left > this.widthPx) return;
    const [top, height] = [lane.rows[kind], lane.heights[kind]];
    const colour = colourOf(lane.label);
    const hollow = one.outcome === "missed" || (EDIT && kind === "detections");
    const alpha = kind === "detections" ? 0.16 + 0.44 * Math.min(Math.max(one.score, 0), 1) : 0.85;
    if (width < 5 && one !== view.selected) {
      pen.globalAlpha = alpha;
      pen.fillStyle = colour;
      pen.fillRect(left, top, width, height);
      pen.globalAlpha = 1;
      return;
    }
    roundedBox(pen, left, top, width, height, Math.min(4, width / 2));
    pen.fillStyle = colours.card;
    pen.fill();
    pen.globalAlpha = one.outcome === "missed" ? 0.06 : alpha;
    pen.fillStyle = colour;
    pen.fill();
    pen.globalAlpha = 1;
    if (one.outcome === "false" || one.outcome === "wrong") hatch(pen, colour);
    pen.lineWidth = 1.25;
    pen.strokeStyle = edgeOf(colour);
    pen.setLineDash(hollow ? [4, 3] : []);
    roundedBox(pen, left + 0.5, top + 0.5, Math.max(1.5, width - 1), height - 1, Math.min(4, width / 2));
    pen.stroke();
    pen.setLineDash([]);
    this.drawWords(pen, one, { left, top, width, height }, kind);
    if (one === view.selected) this.drawSelection(pen, { left, top, width, height });
  },

  drawWords(pen, one, box, kind) {
    const score = kind === "detections" ? one.score.toFixed(2) : "";
    const mark = MARKS[one.outcome] ?? "";
    pen.font = `600 11px ${fontFamily}`;
    const left = Math.max(box.left, this.gutterPx);
    const room = box.left + box.width - left - 8;
    if (room < 6) return;
    const text = [`${mark} ${score}`.trim(), mark, ""].find((words) => pen.measureText(words).width <= room);
    pen.fillStyle = colours.ink;
    if (text) pen.fillText(text, left + 5, box.top + box.height / 2 + 0.5);
  },

  drawSelection(pen, { left, top, width, height }) {
    pen.lineWidth = 2;
    pen.strokeStyle = colours.ink;
    roundedBox(pen, left - 1, top - 1, width + 2, height + 2, 5);
    pen.stroke();
    if (!EDIT) return;
    pen.fillStyle = colours.ink;
    for (const x of [left, left + width]) {
      roundedBox(pen, x - 3, top + 3, 6, height - 6, 2);
      pen.fill();
    }
  },

  drawMark(pen, heightPx) {
    const [from, to] = [this.xOf(editor.markedIn), this.xOf(player.time)];
    pen.fillStyle = colours.accent;
    pen.globalAlpha = 0.18;
    pen.fillRect(from, AXIS_PX, Math.max(1, to - from), heightPx - AXIS_PX);
    pen.globalAlpha = 1;
    pen.fillRect(from - 1, AXIS_PX - 6, 2, heightPx);
  },

  laneAt(y) {
    return this.lanes.find((lane) => y >= lane.top && y < lane.bottom);
  },

  /** The bar at a place, and which of its ends is there, if any. */
  at(x, y) {
    const lane = this.laneAt(y);
    if (!lane || x < this.gutterPx - 5) return { lane, one: null, end: null };
    const inRow = (kind) => y >= lane.rows[kind] - 2 && y < lane.rows[kind] + lane.heights[kind] + 2;
    const kind = inRow("actions") ? "actions" : "detections";
    const near = EDIT ? HANDLE_PX : 2;
    const distance = (one) => Math.max(this.xOf(one.start) - x, x - Math.max(this.xOf(one.end), this.xOf(one.start) + 3));
    const hits = this.shown[kind].filter((one) => one.label === lane.label && distance(one) <= near);
    const rank = (one) => [one === view.selected ? 0 : 1, Math.max(0, distance(one)), -(one.score ?? 0)];
    hits.sort((a, b) => rank(a).map((value, n) => value - rank(b)[n]).find((difference) => difference) ?? 0);
    const one = hits[0] ?? null;
    if (!one || !EDIT) return { lane, one, end: null };
    const ends = { start: Math.abs(x - this.xOf(one.start)), end: Math.abs(x - this.xOf(one.end)) };
    const end = ends.start < ends.end ? "start" : "end";
    return { lane, one, end: ends[end] <= HANDLE_PX ? end : null };
  },
};

const colours = {};
const fontFamily = getComputedStyle(document.documentElement).fontFamily;

function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["card", "track", "ink", "quiet", "line", "accent"]) {
    colours[name] = style.getPropertyValue(`--${name}`).trim();
  }
  colours.dark = matchMedia("(prefers-color-scheme: dark)").matches;
}

/** A darker edge on light ground, a lighter one on dark ground. */
function edgeOf(colour) {
  const parts = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  const edged = parts.map((part) => Math.round(colours.dark ? part + (255 - part) * 0.4 : part * 0.66));
  return `rgb(${edged.join(" ")})`;
}

function roundedBox(pen, left, top, width, height, radius) {
  pen.beginPath();
  pen.roundRect(left, top, width, height, radius);
}

const hatches = new Map();

/** Diagonal lines over the path of the pen. */
function hatch(pen, colour) {
  if (!hatches.has(colour)) {
    const tile = new OffscreenCanvas(12, 12);
    const lines = tile.getContext("2d");
    lines.strokeStyle = colour;
    lines.lineWidth = 2.5;
    for (const x of [-12, 0, 12]) {
      lines.moveTo(x - 1, 13);
      lines.lineTo(x + 13, -1);
    }
    lines.stroke();
    const pattern = pen.createPattern(tile, "repeat");
    pattern.setTransform(new DOMMatrix().scale(0.5));
    hatches.set(colour, pattern);
  }
  pen.globalAlpha = 0.55;
  pen.fillStyle = hatches.get(colour);
  pen.fill();
  pen.globalAlpha = 1;
}

function cut(pen, text, room) {
  if (pen.measureText(text).width <= room) return text;
  let kept = text;
  while (kept && pen.measureText(`${kept}…`).width > room) kept = kept.slice(0, -1);
  return `${kept}…`;
}

function niceStep(least) {
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
  return steps.find((step) => step >= least) ?? 14400;
}

function tickText(seconds, step) {
  const text = clock(seconds + 1e-9);
  return step < 1 ? text : text.slice(0, -2);
}

function showTime({ follow = false } = {}) {
  const { time } = player;
  const length = lengthOf(view.video);
  const x = timeline.xOf(time);
  byId("playhead").style.transform = `translateX(${x.toFixed(1)}px)`;
  byId("playhead").hidden = x < timeline.gutterPx - 6;
  const text = `${clock(time)} / ${clock(length)}`;
  if (byId("time").textContent !== text) byId("time").textContent = text;
  const canvas = timeline.canvas;
  canvas.setAttribute("aria-valuemax", length.toFixed(1));
  canvas.setAttribute("aria-valuenow", Math.min(time, length).toFixed(1));
  canvas.setAttribute("aria-valuetext", `${clock(time)} of ${clock(length)}`);
  if (follow && timeline.zoom > 1 && (x > timeline.widthPx - 12 || x < timeline.gutterPx)) {
    timeline.scrollTo(timeline.scrolledPx + x - timeline.gutterPx - timeline.plotPx * 0.1);
  }
}

function listenToTimeline() {
  const { canvas, scroller } = timeline;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  let scrubbing = false;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const [x, y] = place(event);
    const { one, end } = timeline.at(x, y);
    const byMouse = event.pointerType === "mouse";
    if (byMouse || end) canvas.setPointerCapture(event.pointerId);
    if (one && end) editor.startDrag(one, end, x);
    else if (!one && byMouse) scrubbing = true;
    if (one) select(one, { seek: !end });
    else player.seek(timeline.secondsAt(x));
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = place(event);
    if (editor.drag) editor.dragTo(timeline.secondsAt(x), x);
    else if (scrubbing) player.seek(timeline.secondsAt(x));
    else {
      const { one, end } = timeline.at(x, y);
      canvas.style.cursor = end ? "ew-resize" : "pointer";
      canvas.title = one ? describe(one) : "";
    }
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, () => {
      scrubbing = false;
      editor.endDrag(name === "pointerup");
    });
  }
  // A finger on an end drags it; anywhere else it scrolls.
  canvas.addEventListener("touchstart", (event) => {
    const [x, y] = place(event.touches[0]);
    if (EDIT && timeline.at(x, y).end) event.preventDefault();
  }, { passive: false });
  scroller.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    timeline.zoomBy(Math.exp(-event.deltaY / 300), place(event)[0]);
  }, { passive: false });
  scroller.addEventListener("scroll", () => {
    timeline.scrolledPx = scroller.scrollLeft;
    changed();
    showTime();
  });
  new ResizeObserver(() => changed()).observe(scroller);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", () => {
    readColours();
    changed();
  });
}

function describe(one) {
  const score = one.kind === "detection" ? `, score ${one.score.toFixed(2)}` : "";
  const outcome = WORDS[one.outcome] ? `, ${WORDS[one.outcome]}` : "";
  return `${one.label}: ${clock(one.start)} to ${clock(one.end)}${score}${outcome}`;
}
