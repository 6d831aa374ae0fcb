// The video: play, seek, loop, and what to say where it cannot be played.

const player = {
  element: byId("video"),
  time: 0,
  /** Whether the element has the video's header, so that it can seek. */
  ready: false,
  chosen: new Map(),

  open(video) {
    this.element.pause();
    this.ready = false;
    this.time = 0;
    const source = this.chosen.get(video) ?? video.url;
    byId("no-video").hidden = true;
    this.element.hidden = false;
    if (source) this.element.src = source;
    else {
      this.element.removeAttribute("src");
      this.element.load();
      this.without(video.problem ?? "This page was made without --videos.");
    }
    this.showState();
  },

  without(why) {
    this.ready = false;
    this.element.hidden = true;
    byId("no-video").hidden = false;
    byId("no-video-why").textContent = why;
    this.showState();
  },

  failed() {
    if (!this.element.hasAttribute("src")) return;
    const { url, codec, name } = view.video;
    const of = codec ? ` (its codec is ${codec})` : "";
    this.without(
      this.chosen.has(view.video)
        ? `This browser cannot play the chosen file${of}. Convert it to H.264: ffmpeg -i FILE -c:v libx264 -pix_fmt yuv420p ${name}.mp4`
        : `Cannot play ${readable(url)}: either there is no such file beside this page any more, or this browser cannot play it${of}. Choose the file, or convert it to H.264 with: ffmpeg -i FILE -c:v libx264 -pix_fmt yuv420p ${name}.mp4`,
    );
  },

  loaded() {
    if (this.element.videoWidth === 0) {
      this.failed(); // the browser plays the sound, and not the pictures
      return;
    }
    this.ready = true;
    if (!view.video.exact && Number.isFinite(this.element.duration)) view.video.duration = this.element.duration;
    this.element.currentTime = this.time;
    this.showState();
    changed();
  },

  seek(seconds) {
    this.time = Math.min(Math.max(seconds, 0), lengthOf(view.video));
    if (this.ready) this.element.currentTime = this.time;
    showTime();
    if (editor.markedIn !== null) redraw();
  },

  toggle() {
    if (!this.ready) return;
    if (!this.element.paused) {
      this.element.pause();
      return;
    }
    if (view.looping) this.keepInLoop();
    this.element.play();
  },

  /** Back to the start of the selected one, where it is left. */
  keepInLoop() {
    const loop = view.selected;
    if (!loop) return;
    const last = Math.min(loop.end, this.element.duration || loop.end) - 0.02;
    if (this.time < loop.start - 0.05 || this.time >= Math.max(last, loop.start + 0.02)) this.seek(loop.start);
  },

  /** Runs with the screen's frames while the video plays. */
  follow() {
    if (this.ready && !this.element.seeking) this.time = this.element.currentTime;
    if (view.looping) this.keepInLoop();
    showTime({ follow: true });
    if (editor.markedIn !== null) redraw();
    if (!this.element.paused) requestAnimationFrame(() => this.follow());
  },

  showState() {
    const { paused, muted } = this.element;
    byId("play").textContent = paused ? "Play" : "Pause";
    byId("play").disabled = byId("mute").disabled = byId("speed").disabled = !this.ready;
    byId("mute").setAttribute("aria-pressed", muted);
  },
};

function setLooping(looping) {
  view.looping = looping && view.selected !== null;
  byId("loop").setAttribute("aria-pressed", view.looping);
  if (view.looping) {
    player.seek(view.selected.start);
    if (player.ready && player.element.paused) player.element.play();
  }
}

function listenToPlayer() {
  const { element } = player;
  element.addEventListener("loadedmetadata", () => player.loaded());
  element.addEventListener("error", () => player.failed());
  element.addEventListener("play", () => {
    player.showState();
    player.follow();
  });
  element.addEventListener("pause", () => player.showState());
  element.addEventListener("ended", () => {
    if (view.looping && view.selected.start < element.duration) element.play();
  });
  element.addEventListener("volumechange", () => player.showState());
  element.addEventListener("click", () => player.toggle());
  byId("choose").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (!file) return;
    player.chosen.set(view.video, URL.createObjectURL(file));
    event.target.value = "";
    player.open(view.video);
  });
}
