// One scenario with the client of `ws`: a JSON object on stdin names it, the URL and its options; a report goes to stdout.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import process from 'node:process';
import { json } from 'node:stream/consumers';
import WebSocket from 'ws';

const request = await json(process.stdin);
const { deflate = false, protocols = [], autoPong = true } = request;

// Messages travel as {text} or {base64}; long ones as their length and hash.
const decode = (message) => ('text' in message ? message.text : Buffer.from(message.base64, 'base64'));
const digest = (data, isBinary) => ({
  kind: isBinary ? 'binary' : 'text',
  length: data.length,
  sha256: createHash('sha256').update(data).digest('hex'),
});

// What arrives is queued, so that no scenario misses an event that came early.
class Peer {
  constructor(url) {
    this.socket = new WebSocket(url, protocols, {
      autoPong,
      maxPayload: 2 ** 22,
      perMessageDeflate: deflate && { threshold: 0, ...(deflate === true ? {} : deflate) },
    });
    this.waiting = [];
    this.arrived = [];
    this.socket.on('message', (data, isBinary) => this.#arrive({ message: digest(data, isBinary), data }));
    this.socket.on('ping', (data) => this.#arrive({ ping: data.toString('base64') }));
    this.socket.on('pong', (data) => this.#arrive({ pong: data.toString('base64') }));
    this.socket.on('close', (code, reason) => this.#arrive({ close: { code, reason: reason.toString() } }));
    this.socket.on('error', (error) => this.#arrive({ error: error.message }));
  }

  #arrive(event) {
    const next = this.waiting.shift();
    if (next) next(event);
    else this.arrived.push(event);
  }

  async next(kind) {
    const event = this.arrived.shift() ?? (await new Promise((resolve) => this.waiting.push(resolve)));
    if (!(kind in event)) throw new Error(`expected a ${kind}, got ${JSON.stringify(event)}`);
    return event;
  }
}

const scenarios = {
  async echo(peer) {
    const echoed = [];
    for (const message of request.messages.map(decode)) {
      peer.socket.send(message);
      echoed.push((await peer.next('message')).message);
    }
    return { echoed };
  },

  async fragments(peer) {
    const parts = request.parts.map(decode);
    parts.forEach((part, index) => {
      peer.socket.send(part, { fin: index === parts.length - 1, compress: Boolean(deflate) });
    });
    return { echoed: [(await peer.next('message')).message] };
  },

  async ping(peer) {
    const pongs = [];
    for (const payload of request.payloads) {
      peer.socket.ping(Buffer.from(payload, 'base64'));
      pongs.push((await peer.next('pong')).pong);
    }
    return { pongs };
  },

  async pinged(peer) {
    peer.socket.send(request.payload);
    const { ping } = await peer.next('ping');
    const { data } = await peer.next('message');
    return { ping, answer: JSON.parse(data.toString()) };
  },

  async close(peer) {
    peer.socket.close(request.code, request.reason);
    return { close: (await peer.next('close')).close };
  },

  async closed(peer) {
    return { close: (await peer.next('close')).close };
  },

  async receive(peer) {
    const { data } = await peer.next('message');
    return { text: data.toString() };
  },
};

const peer = new Peer(request.url);
await once(peer.socket, 'open');
const { extensions, protocol } = peer.socket;
const report = await scenarios[request.scenario](peer);
peer.socket.terminate();
console.log(JSON.stringify({ extensions, protocol, ...report }));
