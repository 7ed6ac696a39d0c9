// Which frame is shown: the newest one, or, while paused, one of a recording or of the last seconds.

import {decode} from './stream.js';

const KEPT = 150; // frames of a camera that can be looked at again
const KEPT_BYTES = 32 << 20;

export class Playback {
  // show(frame): draw a decoded frame. moved(): paused or not, or somewhere else.
  constructor(stream, show, moved) {
    Object.assign(this, {stream, show, moved});
    this.paused = false;
    this.kept = []; // packed frames of a camera
    this.at = -1; // the one shown of them
    this.frame = null;
    document.addEventListener('visibilitychange', () => this.watch());
  }

  begin({player, total, rate, paused}) {
    Object.assign(this, {player, total, rate});
    if (player) this.paused = paused;
    this.watch();
    this.moved();
  }

  // A hidden page is sent nothing, and neither is one that has paused a camera.
  watch() {
    const on = document.visibilityState === 'visible' && (this.player || !this.paused);
    if (on !== this.watching || !on) this.stream.send('watch', Number(on));
    this.watching = on;
  }

  // Whether another page, or this one, has paused the recording.
  told(paused) {
    if (!this.player || paused === this.paused) return;
    this.paused = paused;
    this.moved();
  }

  // A frame from the server; the newest one counts, each is answered for.
  async receive(message) {
    if (this.busy) {
      if (this.waiting) this.stream.send('ack');
      this.waiting = message;
      return;
    }
    this.busy = true;
    for (let next = message; next; next = this.waiting) {
      this.waiting = null;
      this.keep(next);
      if (this.player || !this.paused) await this.draw(next);
      this.stream.send('ack');
    }
    this.busy = false;
  }

  async draw(message) {
    try {
      this.frame = await decode(message);
      this.show(this.frame);
    } catch (error) {
      console.error('a frame cannot be shown', error);
    }
  }

  keep(message) {
    if (this.player || this.paused) return;
    this.kept.push(message);
    const bytes = () => this.kept.reduce((sum, one) => sum + one.bytes, 0);
    while (this.kept.length > KEPT || (this.kept.length > 2 && bytes() > KEPT_BYTES)) this.kept.shift();
    this.at = this.kept.length - 1;
  }

  toggle() {
    if (this.player) return this.stream.send(this.paused ? 'play' : 'pause');
    this.paused = !this.paused;
    this.at = this.kept.length - 1;
    this.watch();
    this.moved();
  }

  step(by) {
    if (this.player) return this.stream.send('step', by);
    if (!this.paused) this.toggle();
    this.seek(this.at + by);
  }

  jump(seconds) {
    const frames = Math.round(seconds * (this.rate || 30));
    const {at} = this.range();
    this.seek(at + frames);
  }

  seek(index) {
    const {last} = this.range();
    const target = Math.max(0, Math.min(index, last));
    if (this.player) {
      if (this.total) this.stream.send('seek', target);
    } else if (this.paused && this.kept[target]) {
      this.at = target;
      this.draw(this.kept[target]);
      this.moved();
    }
  }

  // Whether the time line can be dragged.
  get scrubs() {
    return this.player ? Boolean(this.total) : this.paused;
  }

  range() {
    if (this.player) return {at: this.frame?.index ?? 0, last: Math.max((this.total ?? 1) - 1, 0)};
    return {at: this.at, last: Math.max(this.kept.length - 1, 0)};
  }

  text() {
    if (!this.frame) return '';
    if (!this.player) return this.paused ? `${this.at - this.kept.length + 1} of the last ${this.kept.length}` : '';
    const {index} = this.frame;
    const clock = (frames) => {
      const seconds = frames / this.rate;
      return `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, '0')}`;
    };
    const of = this.total ? ` / ${this.total}` : '';
    return `${this.rate ? `${clock(index)} · ` : ''}${index + 1}${of}`;
  }
}
