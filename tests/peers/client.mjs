// A real MCP client (TypeScript SDK) that plays a scripted session and logs every JSON-RPC
// message its transport sent or received, so that a test can compare exact counts.
//
// usage: node client.mjs '{"url": "http://…", "transport": "streamable" | "sse", …}'
//   sdk       "1.32" (default; refuses cross-origin redirects) or "1.30" (follows them)
//   headers   request headers to add
//   calls     how many times the echo tool is called (default 5)
//   full      also use resources, prompts, completion, sampling, elicitation, roots… (default true)
//   sessions  how many sessions to play, each on new connections (default 1)
//   pause_ms  pause between sessions (default 500)
//   hold_until  say `holds` at the end of each session, and keep it open until this file is there (default: no)
//
// Output: one JSON object a line: `message` per JSON-RPC message, `session` at the end of each
// session, `error` where one broke off, `done` with the totals.
import { existsSync } from 'node:fs';
import { Agent, fetch as undiciFetch } from 'undici';

const options = {
  transport: 'streamable', sdk: '1.32', headers: {}, calls: 5, full: true, sessions: 1, pause_ms: 500,
  hold_until: null, ...JSON.parse(process.argv[2]),
};
const sdk = options.sdk === '1.30' ? 'sdk-1.30' : '@modelcontextprotocol/sdk';
const { Client } = await import(`${sdk}/client/index.js`);
const { StreamableHTTPClientTransport } = await import(`${sdk}/client/streamableHttp.js`);
const { SSEClientTransport } = await import(`${sdk}/client/sse.js`);
const types = await import(`${sdk}/types.js`);

const totals = { requests: 0, responses: 0, notifications: 0, errors: 0, methods: {} };
const say = (event) => process.stdout.write(JSON.stringify(event) + '\n');
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function count(direction, message) {
  for (const one of Array.isArray(message) ? message : [message]) {
    let kind = 'response';
    if (one.method !== undefined) kind = one.id === undefined ? 'notification' : 'request';
    totals[`${kind}s`] += 1;
    if (one.error !== undefined) totals.errors += 1;
    if (one.method !== undefined) totals.methods[one.method] = (totals.methods[one.method] ?? 0) + 1;
    say({ event: 'message', direction, kind, method: one.method ?? null, id: one.id ?? null });
  }
}

function connectTransport(agent) {
  const url = new URL(options.url);
  const requestInit = { headers: options.headers };
  // Each session gets connections of its own, as an agent that was just started would.
  const fetch = (input, init) => undiciFetch(input, { ...init, dispatcher: agent });
  const transport = options.transport === 'sse'
    ? new SSEClientTransport(url, { requestInit, fetch, eventSourceInit: { fetch } })
    : new StreamableHTTPClientTransport(url, { requestInit, fetch });
  const send = transport.send.bind(transport);
  transport.send = (message, opts) => { count('sent', message); return send(message, opts); };
  // Protocol.connect chains whatever handler is already there before its own.
  transport.onmessage = (message) => count('received', message);
  return transport;
}

function makeClient() {
  const client = new Client(
    { name: 'portfolio-agent', version: '1.4.0' },
    options.full
      ? { capabilities: { sampling: {}, elicitation: {}, roots: { listChanged: true } } }
      : { capabilities: {} },
  );
  if (options.full) {
    client.setRequestHandler(types.CreateMessageRequestSchema, async () => ({
      role: 'assistant', model: 'test-model', content: { type: 'text', text: 'a short answer' },
    }));
    client.setRequestHandler(types.ElicitRequestSchema, async () => ({ action: 'decline' }));
    client.setRequestHandler(types.ListRootsRequestSchema, async () => ({
      roots: [{ uri: 'file:///srv/reports', name: 'reports' }],
    }));
  }
  return client;
}

async function play(client) {
  const { tools } = await client.listTools();
  const names = new Set(tools.map((tool) => tool.name));
  const call = (name, args, opts) => names.has(name) && client.callTool({ name, arguments: args }, undefined, opts);
  for (let i = 0; i < options.calls; i += 1) {
    await call('echo', { message: `quote ${i} für Zürich, ${'x'.repeat((i * 977) % 9000)}` });
    await call('get_quote', { symbol: ['ACME', 'GLOBEX', 'INITECH'][i % 3] });
  }
  if (!options.full) return;
  await client.ping();
  await call('get-sum', { a: 2, b: 40 });
  await call('get-tiny-image', {});
  await call('get-structured-content', { location: 'Chicago' });
  await call('trigger-long-running-operation', { duration: 1, steps: 3 }, { onprogress: () => {} });
  await Promise.all([1, 2, 3].map((n) => call('echo', { message: `parallel ${n}` })));
  const { resources } = await client.listResources();
  await client.listResourceTemplates();
  for (const resource of resources.slice(0, 3)) await client.readResource({ uri: resource.uri });
  const { prompts } = await client.listPrompts();
  if (prompts.length > 0 && !prompts[0].arguments?.length) await client.getPrompt({ name: prompts[0].name });
  await call('trigger-sampling-request', { prompt: 'hello', maxTokens: 20 });
  await call('trigger-elicitation-request', {});
  await call('get-roots-list', {});
  await client.sendRootsListChanged();
  await client.request({ method: 'bogus/method' }, types.EmptyResultSchema).catch(() => {});
}

async function session() {
  const agent = new Agent();
  const client = makeClient();
  const transport = connectTransport(agent);
  try {
    await client.connect(transport);
    await play(client);
    if (options.hold_until !== null) {
      say({ event: 'holds' });
      while (!existsSync(options.hold_until)) await sleep(50);
    }
    // What the server still has to say on its own stream belongs to the session.
    await sleep(200);
    await transport.terminateSession?.();
    say({ event: 'session', protocol: transport.protocolVersion ?? null, server: client.getServerVersion() ?? null });
  } catch (error) {
    say({ event: 'error', message: String(error?.message ?? error) });
  } finally {
    await client.close().catch(() => {});
    await agent.destroy().catch(() => {});
  }
}

for (let i = 0; i < options.sessions; i += 1) {
  if (i > 0) await sleep(options.pause_ms);
  await session();
}
say({ event: 'done', ...totals });
process.exit(0);
