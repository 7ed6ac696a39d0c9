// The page: controls, keys and what is said; drawing is in compose.js, the connection in stream.js.

import {Compositor} from './compose.js';
import {Graph} from './graph.js';
import {Playback} from './playback.js';
import {save} from './still.js';
import {Stream} from './stream.js';

const $ = (id) => document.getElementById(id);
const SILENT_S = 2; // without a frame for so long, the page says so
const STEP = 0.05; // of the opacity

const compositor = new Compositor($('view'));
const graphs = {fps: new Graph($('fps-graph')), latency: new Graph($('latency-graph'))};
const settings = compositor.settings;
let hello = {labels: [], facts: {}, source: ''};
let tick = null;

const stream = new Stream({
  hello: begin,
  tick: ticked,
  frame: (message) => playback.receive(message),
  end: ({reason}) => over('The stream has ended', reason),
  lost: () => {
    tick = null;
    say('offline', 'The connection is lost, trying again');
  },
  gone: () => over('The connection is lost', 'The program has ended, or the network is gone'),
});
const playback = new Playback(stream, (frame) => {
  compositor.show(frame);
  if (tick) say(...situation(tick));
  position();
  point();
}, moved);

// ---- what the server says

function begin(message) {
  hello = message;
  compositor.labels = message.labels;
  document.title = `${message.source} · deeplab_rt`;
  $('source').textContent = $('source').title = message.source;
  $('facts').replaceChildren(...Object.entries(message.facts).flatMap(([name, text]) => [make('dt', name), make('dd', text)]));
  legend();
  playback.begin(message);
  ticked(message);
}

function ticked(message) {
  tick = message;
  playback.told(message.paused);
  $('fps').textContent = message.fps.toFixed(1);
  $('latency').textContent = message.latency_ms.toFixed(1);
  $('frames').textContent = message.frames;
  $('dropped').textContent = message.dropped;
  graphs.fps.add(message.fps);
  graphs.latency.add(message.latency_ms);
  shares();
  say(...situation(message));
}

// State, headline and detail of the banner.
function situation({status, silent_s: silent, frames}) {
  if (playback.paused) return ['paused', '', ''];
  if (status) return ['silent', 'The source is silent', status];
  if (!frames) return ['connecting', 'Waiting for the first frame', ''];
  if (silent > SILENT_S) return ['silent', `No frame for ${Math.round(silent)} s`, ''];
  return [hello.live ? 'live' : 'playing', '', ''];
}

function say(state, headline, detail = '', ended = false) {
  $('pill').dataset.state = state;
  $('pill').textContent = {
    connecting: 'Connecting', live: 'Live', playing: 'Playing', paused: 'Paused', silent: 'Silent', offline: 'Offline', ended: 'Ended',
  }[state];
  banner(headline, detail, ended);
}

function banner(headline, detail = '', ended = false) {
  $('banner').hidden = !headline;
  $('banner-text').textContent = headline;
  $('banner-detail').textContent = detail;
  $('retry').hidden = !ended;
}

function over(headline, detail) {
  tick = null;
  say('ended', headline, detail, true);
}

function retry() {
  if (!stream.ended) return;
  say('connecting', 'Connecting');
  stream.retry();
}

// ---- view

function update() {
  compositor.draw();
  remember();
  for (const button of $('modes').querySelectorAll('button')) button.setAttribute('aria-pressed', button.dataset.mode === settings.mode);
  $('contours').setAttribute('aria-pressed', settings.contours);
  $('side').setAttribute('aria-pressed', settings.side);
  $('opacity').value = Math.round(100 * settings.opacity);
  $('opacity-value').textContent = `${Math.round(100 * settings.opacity)} %`;
  for (const [i, item] of [...$('legend').querySelectorAll('button')].entries()) {
    item.setAttribute('aria-pressed', compositor.visible(hello.labels[i]));
  }
}

function legend() {
  $('legend').replaceChildren(...hello.labels.map((label, i) => {
    const swatch = make('i');
    swatch.style.background = `rgb(${label.color})`;
    const button = make('button', swatch, make('span', label.name), make('small'));
    const group = label.groups[0];
    if (group) button.dataset.group = group;
    button.dataset.label = label.id;
    button.title = `${label.name}${group ? ` (${group})` : ''}${i < 10 ? `: key ${(i + 1) % 10}` : ''}`;
    button.onclick = (event) => toggle(label, event.shiftKey);
    return make('li', button);
  }));
  update();
}

function toggle(label, alone = false) {
  if (!label) return;
  const {hidden} = settings;
  if (alone) {
    const others = hello.labels.filter((one) => one !== label);
    const already = others.every((one) => hidden.has(one.name)) && !hidden.has(label.name);
    hidden.clear();
    if (!already) others.forEach((one) => hidden.add(one.name));
  } else if (settings.mode !== 'all' && !label.groups.includes(settings.mode)) {
    settings.mode = 'all'; // a class that the mode hides was asked for
    hidden.delete(label.name);
  } else if (!hidden.delete(label.name)) {
    hidden.add(label.name);
  }
  update();
}

function set(change) {
  Object.assign(settings, change);
  settings.opacity = Math.min(1, Math.max(0, settings.opacity));
  update();
}

function mode(name) {
  if (name === 'all') settings.hidden.clear();
  set({mode: name});
}

function shares() {
  for (const [i, item] of [...$('legend').querySelectorAll('small')].entries()) {
    const share = 100 * compositor.share(hello.labels[i]);
    item.textContent = share ? `${share < 1 ? share.toFixed(1) : Math.round(share)} %` : '';
  }
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  Object.values(graphs).forEach((graph) => graph.draw());
}

// Browsers may refuse to keep anything (private windows): then nothing is kept.
function remember() {
  const kept = {...settings, hidden: [...settings.hidden], theme: chosen};
  try { localStorage.setItem('deeplab_rt', JSON.stringify(kept)); } catch { /* see above */ }
}

function recall() {
  let kept = {};
  try { kept = JSON.parse(localStorage.getItem('deeplab_rt')) ?? {}; } catch { /* see above */ }
  const {hidden = [], theme: last, ...rest} = kept;
  Object.assign(settings, rest, {hidden: new Set(hidden)});
  return last;
}

// ---- class under the pointer, or under the cursor that keys move

let pointer = null; // in CSS pixels of the canvas
let cursor = false;

function point(x, y) {
  if (x !== undefined) pointer = [x, y];
  const found = pointer && compositor.at(...pointer);
  $('tip').hidden = !found;
  $('cursor').hidden = !(cursor && pointer);
  if (!pointer) return;
  [$('cursor').style.left, $('cursor').style.top] = pointer.map((value) => `${value}px`);
  if (!found) return;
  const {label, confidence} = found;
  $('tip').querySelector('i').style.background = label ? `rgb(${label.color})` : 'none';
  const certain = confidence === null ? '' : ` · ${Math.round(100 * confidence)} %`;
  $('tip').querySelector('span').textContent = (label?.name ?? 'no class') + certain;
  const {clientWidth, clientHeight} = $('view'), {offsetWidth, offsetHeight} = $('tip');
  const left = pointer[0] + 16 + offsetWidth > clientWidth ? pointer[0] - 12 - offsetWidth : pointer[0] + 16;
  $('tip').style.left = `${Math.max(2, left)}px`;
  $('tip').style.top = `${Math.max(2, Math.min(pointer[1] - 36, clientHeight - offsetHeight - 2))}px`;
}

function unpoint() {
  if (cursor) return;
  pointer = null;
  point();
}

function inspect() {
  cursor = !cursor;
  if (cursor) point($('view').clientWidth / 2, $('view').clientHeight / 2);
  else unpoint();
}

function moveCursor(dx, dy, event) {
  const by = event.shiftKey ? 1 : 10;
  const inside = (value, size) => Math.min(size - 1, Math.max(0, value));
  point(inside(pointer[0] + by * dx, $('view').clientWidth), inside(pointer[1] + by * dy, $('view').clientHeight));
}

// ---- time

function moved() {
  document.body.toggleAttribute('data-paused', playback.paused);
  $('pause').title = $('pause').ariaLabel = playback.paused ? 'Play (Space)' : 'Pause (Space)';
  if (tick) say(...situation(tick));
  position();
}

function position() {
  const {at, last} = playback.range();
  $('timeline').disabled = !last || !playback.scrubs;
  $('timeline').max = last;
  if (!dragging) $('timeline').value = at;
  $('timeline').setAttribute('aria-valuetext', $('position').textContent = playback.text());
}

let dragging = false;
$('timeline').onpointerdown = () => { dragging = true; };
$('timeline').onchange = () => { dragging = false; };
$('timeline').oninput = () => playback.seek(Number($('timeline').value));

function fullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen?.().catch(() => document.body.classList.toggle('full')); // a phone without it
}
document.onfullscreenchange = () => {
  document.body.classList.toggle('full', Boolean(document.fullscreenElement));
  requestAnimationFrame(() => compositor.draw());
};

function still() {
  if (compositor.frame) save(compositor.frame, hello.source);
}

// ---- controls and keys

const along = (by) => (event) => (cursor ? moveCursor(by, 0, event) : playback.step(by));
const updown = (by) => (event) => (cursor ? moveCursor(0, by, event) : set({opacity: settings.opacity - by * STEP}));
const KEYS = [
  // keys, what is shown, what it does, action
  [[' '], 'Space', 'Pause, go on', () => playback.toggle()],
  [['ArrowLeft', ','], '← or ,', 'One frame back (of a camera: of the last seconds)', along(-1)],
  [['ArrowRight', '.'], '→ or .', 'One frame forward', along(1)],
  [['[', 'PageUp'], '[', '5 seconds back', () => playback.jump(-5)],
  [[']', 'PageDown'], ']', '5 seconds forward', () => playback.jump(5)],
  [['Home'], 'Home', 'First frame', () => playback.seek(0)],
  [['End'], 'End', 'Last frame', () => playback.seek(Infinity)],
  [['a'], 'A', 'All classes', () => mode('all')],
  [['d'], 'D', 'Drivable area only', () => mode('drivable')],
  [['o'], 'O', 'Objects only', () => mode('objects')],
  [['+', '=', 'ArrowUp'], '+ or ↑', 'More colour', updown(-1)],
  [['-', 'ArrowDown'], '− or ↓', 'Less colour', updown(1)],
  [['c'], 'C', 'Contours', () => set({contours: !settings.contours})],
  [['b'], 'B', 'Side by side', () => set({side: !settings.side})],
  [[...'1234567890'], '1 … 0', 'Show or hide one of the first ten classes', (event) => toggle(hello.labels[(Number(event.key) + 9) % 10])],
  [['i'], 'I', 'Class under a cursor; arrows move it, with Shift by one pixel', inspect],
  [['s'], 'S', 'Save the image and its label map', still],
  [['f'], 'F', 'Full screen', fullScreen],
  [['t'], 'T', 'Dark or light', switchTheme],
  [['r'], 'R', 'Try again, once the stream has ended', retry],
  [['?', 'h'], '?', 'This list', keys],
];

function keys() {
  if ($('keys').open) $('keys').close();
  else $('keys').showModal();
}

function switchTheme() {
  chosen = document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark';
  theme(chosen);
  remember();
}

addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const {target, key} = event;
  if (target.type === 'range' && /^(Arrow|Page|Home|End)/.test(key)) return; // a slider has its own
  if (target.tagName === 'BUTTON' && key === ' ') return; // presses the button
  const found = KEYS.find(([names]) => names.includes(key.length === 1 ? key.toLowerCase() : key));
  if (!found || ($('keys').open && key !== '?')) return;
  event.preventDefault();
  found[3](event);
});

$('key-table').append(...KEYS.map(([, shown, does]) => make('tr', make('td', make('kbd', shown)), make('td', does))));
for (const button of $('modes').querySelectorAll('button')) button.onclick = () => mode(button.dataset.mode);
$('opacity').oninput = () => set({opacity: $('opacity').value / 100});
$('contours').onclick = () => set({contours: !settings.contours});
$('side').onclick = () => set({side: !settings.side});
$('back').onclick = () => playback.step(-1);
$('forward').onclick = () => playback.step(1);
$('pause').onclick = () => playback.toggle();
$('save').onclick = still;
$('full').onclick = fullScreen;
$('theme').onclick = switchTheme;
$('help').onclick = keys;
$('retry').onclick = retry;
$('view').onpointermove = $('view').onpointerdown = (event) => {
  cursor = false;
  point(event.offsetX, event.offsetY);
};
$('view').onpointerleave = unpoint;
new ResizeObserver(() => compositor.draw()).observe($('stage'));

function make(tag, ...children) {
  const element = document.createElement(tag);
  element.append(...children);
  return element;
}

let chosen = recall(); // the theme that the person chose; otherwise the system's
const dark = matchMedia('(prefers-color-scheme: dark)');
dark.onchange = () => chosen || theme(dark.matches ? 'dark' : 'light');
theme(chosen ?? (dark.matches ? 'dark' : 'light'));
update();
