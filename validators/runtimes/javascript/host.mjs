// ONNX Runtime in JavaScript, in a page or in Node: asks for commands and obeys, until none come.
// The other end, and what is said, is in host.py.

const ARRAYS = {
  float32: Float32Array, float64: Float64Array, float16: Uint16Array,
  int8: Int8Array, int16: Int16Array, int32: Int32Array, int64: BigInt64Array,
  uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, uint64: BigUint64Array,
  bool: Uint8Array,
};

export async function serve(ort, base, describe, said = []) {
  const sessions = new Map();
  const bytes = async (name) => (await fetch(`${base}/file/${name}`)).arrayBuffer();

  const load = async ({ session, model, weights, options }) => {
    const externalData = await Promise.all(
      weights.map(async ({ path, file }) => ({ path, data: new Uint8Array(await bytes(file)) })));
    const all = externalData.length ? { ...options, externalData } : options;
    sessions.set(session, await ort.InferenceSession.create(new Uint8Array(await bytes(model)), all));
    return [{}, []];
  };

  const run = async ({ session, inputs }) => {
    const feeds = {};
    for (const { name, type, dims, file } of inputs) {
      feeds[name] = new ort.Tensor(type, new ARRAYS[type](await bytes(file)), dims);
    }
    const start = performance.now();
    const answers = await sessions.get(session).run(feeds);
    const seconds = (performance.now() - start) / 1000;
    const outputs = [];
    const data = [];
    for (const name of sessions.get(session).outputNames) {
      const { type, dims, data: values } = answers[name];
      outputs.push({ name, type, dims, size: values.byteLength });
      data.push(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    }
    return [{ outputs, seconds }, data];
  };

  const unload = async ({ session }) => {
    await sessions.get(session).release();
    sessions.delete(session);
    return [{}, []];
  };

  const obey = { describe: async () => [await describe(), []], load, run, unload };
  // Its end tells that this process has ended, so it is read on: what nobody reads is collected.
  const stay = async () => {
    const alive = (await fetch(`${base}/alive`)).body.getReader();
    while (!(await alive.read()).done);
  };
  stay().catch(() => {});
  for (;;) {
    const command = await (await fetch(`${base}/next`)).json();
    if (command === null) continue;
    let header, data = [];
    try {
      [header, data] = await obey[command.command](command);
    } catch (error) {
      header = { error: String(error?.message ?? error) };
    }
    header.said = said.splice(0);
    const body = new Blob([JSON.stringify(header), '\n', ...data]);
    await fetch(`${base}/answer`, { method: 'POST', body });
  }
}
