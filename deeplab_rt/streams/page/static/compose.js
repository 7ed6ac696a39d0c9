// Lays the colours of the classes over the image. Knows no network and no controls.

export class Compositor {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext('2d', {alpha: false});
    this.layer = document.createElement('canvas');
    this.layerContext = this.layer.getContext('2d', {willReadFrequently: true});
    this.frame = null;
    this.labels = [];
    this.counts = new Uint32Array(256); // pixels of each label in the present frame
    this.settings = {opacity: 0.5, mode: 'all', hidden: new Set(), contours: false, side: false};
  }

  show(frame) {
    if (this.frame && this.frame !== frame) this.frame.bitmap.close();
    this.frame = frame;
    this.draw();
  }

  visible(label) {
    const {mode, hidden} = this.settings;
    return !hidden.has(label.name) && (mode === 'all' || label.groups.includes(mode));
  }

  draw() {
    if (!this.frame) return;
    const {bitmap, labelSize: [width, height]} = this.frame;
    this.paint(width, height);
    const upright = this.canvas.clientHeight > this.canvas.clientWidth;
    const [right, below] = !this.settings.side ? [0, 0] : upright ? [0, bitmap.height] : [bitmap.width, 0];
    resize(this.canvas, bitmap.width + right, bitmap.height + below);
    this.origin = [right, below];
    if (this.settings.side) this.context.drawImage(bitmap, 0, 0);
    this.context.drawImage(bitmap, right, below);
    this.context.imageSmoothingEnabled = false; // labels are never blended
    this.context.drawImage(this.layer, right, below, bitmap.width, bitmap.height);
  }

  // The colours of the label map, as transparent as asked for, into the layer.
  paint(width, height) {
    resize(this.layer, width, height);
    const {labels} = this.frame;
    const {opacity, contours} = this.settings;
    const fill = new Uint32Array(256), line = new Uint32Array(256), shown = new Uint8Array(256);
    for (const label of this.labels) {
      if (!this.visible(label)) continue;
      const [r, g, b] = label.color;
      const color = (b << 16) | (g << 8) | r;
      fill[label.id] = ((Math.round(255 * opacity) << 24) | color) >>> 0;
      line[label.id] = (0xff000000 | color) >>> 0;
      shown[label.id] = label.id;
    }
    const image = new ImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    this.counts.fill(0);
    for (let i = 0; i < pixels.length; i++) {
      const label = labels[i];
      this.counts[label]++;
      pixels[i] = fill[label];
    }
    if (contours) outline(pixels, labels, shown, line, width, height);
    this.layerContext.putImageData(image, 0, 0);
  }

  // What is at a point of the canvas element, in CSS pixels; null beside the image.
  at(x, y) {
    const point = this.frame && this.toImage(x, y);
    if (!point) return null;
    const [u, v] = point; // 0 to 1
    const {labelSize: [width, height], labels, confidenceSize: [cw, ch], confidence} = this.frame;
    const id = labels[Math.floor(v * height) * width + Math.floor(u * width)];
    const label = this.labels.find((one) => one.id === id);
    const certainty = cw ? confidence[Math.floor(v * ch) * cw + Math.floor(u * cw)] / 255 : null;
    return {label, confidence: certainty};
  }

  toImage(x, y) {
    const {canvas, frame: {bitmap}} = this;
    const scale = Math.min(canvas.clientWidth / canvas.width, canvas.clientHeight / canvas.height);
    let px = (x - (canvas.clientWidth - canvas.width * scale) / 2) / scale;
    let py = (y - (canvas.clientHeight - canvas.height * scale) / 2) / scale;
    if (px < 0 || py < 0 || px >= canvas.width || py >= canvas.height) return null;
    return [(px % bitmap.width) / bitmap.width, (py % bitmap.height) / bitmap.height];
  }

  // Share of the pixels of a label, 0 to 1.
  share(label) {
    return this.frame ? this.counts[label.id] / this.frame.labels.length : 0;
  }
}

function resize(canvas, width, height) {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
}

// Paint pixels of visible classes that have another class beside, above or below them.
function outline(pixels, labels, shown, line, width, height) {
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const own = shown[labels[i]];
      if (!own) continue;
      if ((x && shown[labels[i - 1]] !== own) || (x < width - 1 && shown[labels[i + 1]] !== own)
          || (y && shown[labels[i - width]] !== own) || (y < height - 1 && shown[labels[i + width]] !== own)) {
        pixels[i] = line[own];
      }
    }
  }
}
