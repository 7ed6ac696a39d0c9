// The connection to the server: one WebSocket, and what travels over it. messages.py is the other end.

export const VERSION = 1;
const RETRY_MS = [250, 500, 1000, 2000, 4000];
const GIVE_UP_MS = 60000;

// Keeps a connection until the stream ends; `handlers`: hello, tick, frame, end (reason), lost, gone.
export class Stream {
  constructor(handlers) {
    this.handlers = handlers;
    this.ended = false;
    this.tries = 0;
    this.connect();
    addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible' && this.ended) this.retry();
    });
  }

  connect() {
    const url = new URL('ws', location.href);
    url.protocol = location.protocol.replace('http', 'ws');
    url.search = location.search; // with the token, where there is one
    url.hash = '';
    const socket = new WebSocket(url);
    socket.binaryType = 'arraybuffer';
    socket.onmessage = ({data}) => this.receive(data);
    socket.onclose = () => this.closed();
    this.socket = socket;
  }

  retry() {
    this.ended = false;
    this.lostAt = undefined;
    this.tries = 0;
    this.connect();
  }

  receive(data) {
    if (typeof data !== 'string') return this.handlers.frame(unpack(data));
    const message = JSON.parse(data);
    if (message.type === 'hello') {
      if (message.version !== VERSION) return location.reload();
      this.lostAt = undefined;
      this.tries = 0;
    }
    if (message.type === 'end') this.ended = true;
    this.handlers[message.type]?.(message);
  }

  closed() {
    if (this.ended) return; // nothing is asked any more of a stream that has ended
    this.lostAt ??= Date.now();
    if (Date.now() - this.lostAt > GIVE_UP_MS) {
      this.ended = true;
      return this.handlers.gone();
    }
    this.handlers.lost();
    setTimeout(() => this.connect(), RETRY_MS[Math.min(this.tries++, RETRY_MS.length - 1)]);
  }

  send(action, value = 0) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({do: action, value}));
  }
}

// The parts of a frame message, still packed.
function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let at = 4 + length;
  const part = (size) => new Uint8Array(buffer, (at += size) - size, size);
  return {
    ...header,
    bytes: buffer.byteLength,
    jpeg: part(header.image),
    labelSize: header.labels.slice(0, 2),
    packedLabels: part(header.labels[2]),
    confidenceSize: header.confidence.slice(0, 2),
    packedConfidence: part(header.confidence[2]),
  };
}

// A frame message as pixels: bitmap, labels and confidence (one byte a pixel).
export async function decode(message) {
  const [bitmap, labels, confidence] = await Promise.all([
    createImageBitmap(new Blob([message.jpeg], {type: 'image/jpeg'})),
    inflate(message.packedLabels),
    inflate(message.packedConfidence),
  ]);
  return {...message, bitmap, labels, confidence};
}

async function inflate(packed) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
