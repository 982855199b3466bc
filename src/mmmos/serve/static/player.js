// Plays one clip, or two that are switched at the same position with their loudness matched.

export class Player {
  constructor(changed) {
    this.changed = changed;
    this.sounds = [];
    this.clips = [];
    this.active = 0;
    this.failed = false;
  }

  open(clips) {
    const position = clips[0] === this.clips[0] ? this.position : 0;
    const playing = this.playing && clips[0] === this.clips[0];
    this.close();
    this.clips = clips;
    this.sounds = clips.map((clip) => {
      const sound = new Audio();
      sound.preload = "auto";
      sound.src = clip.url ??= URL.createObjectURL(clip.file);
      sound.volume = this.gain(clip, clips);
      for (const name of ["loadedmetadata", "play", "pause", "ended", "seeked", "timeupdate"]) sound.addEventListener(name, () => this.changed());
      sound.addEventListener("error", () => {
        this.failed = true;
        this.changed();
      });
      return sound;
    });
    if (position) this.seek(position);
    if (playing) this.play();
  }

  close() {
    for (const sound of this.sounds) {
      sound.pause();
      sound.removeAttribute("src");
    }
    this.sounds = [];
    this.clips = [];
    this.active = 0;
    this.failed = false;
  }

  // The louder clip is lowered to the other's loudness; a player cannot amplify without clipping.
  gain(clip, clips) {
    const levels = clips.map((one) => one.row?.outline?.loudness ?? null);
    const own = clip.row?.outline?.loudness ?? null;
    if (levels.length < 2 || levels.includes(null) || own === null) return 1;
    return 10 ** ((Math.min(...levels) - own) / 20);
  }

  get sound() {
    return this.sounds[this.active];
  }

  get position() {
    return this.sound?.currentTime ?? 0;
  }

  // Seconds; 0 if not known.
  get duration() {
    return Number.isFinite(this.sound?.duration) ? this.sound.duration : 0;
  }

  get playing() {
    return Boolean(this.sound && !this.sound.paused && !this.sound.ended);
  }

  play() {
    this.sound?.play().catch(() => this.changed());
  }

  toggle() {
    if (this.playing) this.sound.pause();
    else this.play();
  }

  seek(seconds) {
    if (this.sound) this.sound.currentTime = seconds;
    this.changed();
  }

  use(index) {
    if (index === this.active || !this.sounds[index]) return;
    const { playing, position } = this;
    this.sound.pause();
    this.active = index;
    this.seek(position);
    if (playing) this.play();
    this.changed();
  }
}
