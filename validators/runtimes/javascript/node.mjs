// Serves onnxruntime-node: node node.mjs BASE MODULE.
import { createRequire } from 'node:module';

const [base, folder] = process.argv.slice(2);
const ort = createRequire(import.meta.url)(folder);
const { serve } = await import('./host.mjs');
await serve(ort, base, async () => ({ version: ort.env.versions.node ?? ort.env.versions.common }));
