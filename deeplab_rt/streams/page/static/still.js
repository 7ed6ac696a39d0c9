// Saves a still: the camera's image as it came, and its label map as a PNG of one byte a pixel.

export async function save(frame, source) {
  const stem = (source.split(/[\\/]/).pop() || 'frame').replace(/\.\w{2,5}$/, '').replace(/[^\w.-]+/g, '_');
  const name = frame.name || `${stem}_${String(frame.index).padStart(6, '0')}`;
  download(new Blob([frame.jpeg], {type: 'image/jpeg'}), `${name}.jpg`);
  download(await grayPng(frame.labels, ...frame.labelSize), `${name}.labels.png`);
  return name;
}

function download(blob, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// A canvas can only write colours; label ids belong into a gray PNG.
export async function grayPng(pixels, width, height) {
  const rows = new Uint8Array((width + 1) * height); // each begins with its filter: 0, none
  for (let y = 0; y < height; y++) rows.set(pixels.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  const packed = new Blob([rows]).stream().pipeThrough(new CompressionStream('deflate'));
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint8(8, 8); // bits a pixel; the zeros after it: gray, deflate, no interlacing
  return new Blob([
    new Uint8Array([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
    chunk('IHDR', new Uint8Array(header.buffer)),
    chunk('IDAT', new Uint8Array(await new Response(packed).arrayBuffer())),
    chunk('IEND', new Uint8Array()),
  ], {type: 'image/png'});
}

function chunk(kind, data) {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(kind), 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

function crc(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) {
    value ^= byte;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  }
  return ~value >>> 0;
}
