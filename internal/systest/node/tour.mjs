// Walks the official client through every call that croft answers, with exact values. Nothing of the client is
// changed but the host: PINECONE_CONTROLLER_HOST and PINECONE_API_KEY say which server, as the client's manual has it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Pinecone, Errors } from '@pinecone-database/pinecone';

const pc = new Pinecone();
const spec = { serverless: { cloud: 'aws', region: 'us-west-2' } };

// plain drops what the client adds of its own: keys without a value.
const plain = (v) => JSON.parse(JSON.stringify(v));
const equal = (got, want) => assert.deepEqual(plain(got), plain(want));
const ids = (res) => res.matches.map((m) => m.id);
const refuses = (kind, text, call) =>
  assert.rejects(call, (err) => {
    assert.ok(err instanceof Errors[kind], `${err.name} instead of ${kind}: ${err.message}`);
    assert.match(err.message, text);
    return true;
  });

test('create, describe and list indexes', async () => {
  const made = await pc.createIndex({ name: 'tour', dimension: 3, metric: 'cosine', spec, tags: { team: 'a', stage: 'x' }, waitUntilReady: true });
  assert.equal(made.name, 'tour');
  await pc.createIndex({ name: 'tour-l2', dimension: 2, metric: 'euclidean', spec, waitUntilReady: true });
  await pc.createIndex({ name: 'tour-dot', dimension: 2, metric: 'dotproduct', spec, waitUntilReady: true });
  const ix = await pc.describeIndex('tour');
  equal(ix.status, { ready: true, state: 'Ready' });
  equal([ix.dimension, ix.metric, ix.vectorType, ix.deletionProtection], [3, 'cosine', 'dense', 'disabled']);
  equal(ix.tags, { team: 'a', stage: 'x' });
  equal([ix.spec.serverless.cloud, ix.spec.serverless.region], ['aws', 'us-west-2']);
  assert.match(ix.host, /^http:\/\/127\.0\.0\.1:\d+/);
  const all = await pc.listIndexes();
  equal(all.indexes.map((i) => i.name).sort(), ['tour', 'tour-dot', 'tour-l2']);
});

test('a repeated create is a conflict, unless conflicts are suppressed', async () => {
  const again = { name: 'tour', dimension: 3, metric: 'cosine', spec };
  await refuses('PineconeConflictError', /tour/, () => pc.createIndex(again));
  await pc.createIndex({ ...again, suppressConflicts: true });
});

test('configure: tags and deletion protection', async () => {
  const ix = await pc.configureIndex({ name: 'tour', tags: { stage: '', owner: 'me' }, deletionProtection: 'enabled' });
  equal(ix.tags, { team: 'a', owner: 'me' });
  assert.equal(ix.deletionProtection, 'enabled');
  equal((await pc.describeIndex('tour')).tags, { team: 'a', owner: 'me' });
  await refuses('PineconeBadRequestError', /Deletion protection is enabled for this index/, () => pc.deleteIndex('tour'));
  await pc.configureIndex({ name: 'tour', deletionProtection: 'disabled' });
  assert.equal((await pc.describeIndex('tour')).deletionProtection, 'disabled');
});

const records = [
  { id: 'a#1', values: [0.1, 0.2, 0.3], metadata: { genre: ['comedy', 'drama'], year: 2020, ok: true } },
  { id: 'a#2', values: [0.3, 0.2, 0.1], metadata: { genre: ['action'], year: 2021, title: 'Zoë "quoted" \u{1f600}' } },
  { id: 'b 3', values: [-0.1, 0.4, 0.7], metadata: { year: 1999.5 } },
  { id: 'b/4?&', values: [1, 0, 0] },
];
const byName = () => pc.index({ name: 'tour', namespace: 'ns 1/e' });

test('upsert and fetch give back what was put in', async () => {
  const ix = byName();
  await ix.upsert({ records });
  const got = await ix.fetch({ ids: ['a#1', 'a#2', 'b 3', 'b/4?&', 'nobody'] });
  equal(got.records, Object.fromEntries(records.map((r) => [r.id, r])));
  equal(got.namespace, 'ns 1/e');
  assert.ok(got.usage.readUnits >= 1);
  equal((await ix.fetch({ ids: ['nobody'] })).records, {});
});

test('upsert replaces the whole record', async () => {
  const ix = byName();
  await ix.upsert({ records: [{ id: 'again', values: [1, 2, 3], metadata: { x: 1, y: 2 } }] });
  await ix.upsert({ records: [{ id: 'again', values: [3, 2, 1], metadata: { y: 3 } }] });
  equal((await ix.fetch({ ids: ['again'] })).records.again, { id: 'again', values: [3, 2, 1], metadata: { y: 3 } });
  await ix.deleteOne({ id: 'again' });
});

test('an index by its host, and one of the default namespace', async () => {
  const { host } = await pc.describeIndex('tour');
  const ix = pc.index({ host });
  equal((await ix.namespace('ns 1/e').fetch({ ids: ['b 3'] })).records['b 3'], records[2]);
  await ix.upsert({ records: [{ id: 'home', values: [1, 1, 1] }] });
  equal((await ix.namespace('__default__').fetch({ ids: ['home'] })).records.home, { id: 'home', values: [1, 1, 1] });
  equal((await ix.fetch({ ids: ['home'], namespace: '' })).records.home.values, [1, 1, 1]);
  await ix.deleteOne({ id: 'home' });
});

test('query by vector, with and without values and metadata', async () => {
  const ix = byName();
  const bare = await ix.query({ vector: [0.1, 0.2, 0.3], topK: 4 });
  equal(ids(bare), ['a#1', 'b 3', 'a#2', 'b/4?&']);
  assert.ok(Math.abs(bare.matches[0].score - 1) < 1e-6);
  for (const m of bare.matches) equal([m.values, m.metadata], [[], undefined]);
  const full = await ix.query({ vector: [0.1, 0.2, 0.3], topK: 1, includeValues: true, includeMetadata: true });
  equal(full.matches.map(({ score, ...m }) => m), [records[0]]);
  equal((await ix.query({ vector: [1, 1, 1], topK: 100 })).matches.length, 4);
  equal((await ix.namespace('nowhere').query({ vector: [1, 1, 1], topK: 3 })).matches, []);
});

test('query by id', async () => {
  const ix = byName();
  equal(ids(await ix.query({ id: 'a#1', topK: 2 })), ['a#1', 'b 3']);
  equal((await ix.query({ id: 'nobody', topK: 2 })).matches, []);
});

test('euclidean scores are squared distances, best first', async () => {
  const ix = pc.index({ name: 'tour-l2' });
  await ix.upsert({ records: [{ id: 'near', values: [1, 1] }, { id: 'far', values: [4, 5] }, { id: 'here', values: [0.5, 0.25] }] });
  const res = await ix.query({ vector: [0.5, 0.25], topK: 3 });
  equal(res.matches.map((m) => [m.id, m.score]), [['here', 0], ['near', 0.8125], ['far', 34.8125]]);
});

test('filters', async () => {
  const ix = byName();
  const found = async (filter) => ids(await ix.query({ vector: [0.1, 0.2, 0.3], topK: 10, filter })).sort();
  for (const [filter, want] of [
    [{ genre: 'comedy' }, ['a#1']],
    [{ genre: { $eq: 'action' } }, ['a#2']],
    [{ year: { $ne: 2020 } }, ['a#2', 'b 3', 'b/4?&']],
    [{ year: { $gt: 2020 } }, ['a#2']],
    [{ year: { $gte: 2020 } }, ['a#1', 'a#2']],
    [{ year: { $lt: 2020 } }, ['b 3']],
    [{ year: { $lte: 2020 } }, ['a#1', 'b 3']],
    [{ year: { $gte: 1999.5, $lte: 2020 } }, ['a#1', 'b 3']],
    [{ genre: { $in: ['drama', 'action'] } }, ['a#1', 'a#2']],
    [{ genre: { $nin: ['drama'] } }, ['a#2', 'b 3', 'b/4?&']],
    [{ ok: true }, ['a#1']],
    [{ ok: { $exists: true } }, ['a#1']],
    [{ year: { $exists: false } }, ['b/4?&']],
    [{ $and: [{ genre: 'comedy' }, { genre: 'drama' }] }, ['a#1']],
    [{ $or: [{ genre: 'action' }, { year: { $lt: 2000 } }] }, ['a#2', 'b 3']],
    [{ genre: 'comedy', year: 2021 }, []],
    [{ year: '2020' }, []],
  ]) {
    equal([filter, await found(filter)], [filter, want]);
  }
});

test('fetch by metadata, in pages', async () => {
  const ix = byName();
  const all = await ix.fetchByMetadata({ filter: { year: { $gte: 2020 } } });
  equal(all.records, { 'a#1': records[0], 'a#2': records[1] });
  assert.equal(all.pagination, undefined);
  const seen = {};
  let paginationToken;
  do {
    const page = await ix.fetchByMetadata({ filter: { year: { $exists: true } }, limit: 2, paginationToken });
    assert.ok(Object.keys(page.records).length <= 2);
    Object.assign(seen, page.records);
    paginationToken = page.pagination?.next;
  } while (paginationToken);
  equal(seen, Object.fromEntries(records.slice(0, 3).map((r) => [r.id, r])));
});

test('update values, metadata, and many by filter', async () => {
  const ix = byName();
  await ix.update({ id: 'a#1', values: [0.7, 0.8, 0.9] });
  await ix.update({ id: 'a#1', metadata: { year: 2022, seen: ['x'] } });
  equal((await ix.fetch({ ids: ['a#1'] })).records['a#1'], {
    id: 'a#1', values: [0.7, 0.8, 0.9], metadata: { genre: ['comedy', 'drama'], year: 2022, ok: true, seen: ['x'] },
  });
  await ix.update({ filter: { year: { $gte: 2021 } }, metadata: { recent: true } });
  equal(Object.keys((await ix.fetchByMetadata({ filter: { recent: true } })).records).sort(), ['a#1', 'a#2']);
  await ix.update({ id: 'nobody', values: [1, 2, 3] });
  equal((await ix.fetch({ ids: ['nobody'] })).records, {});
});

test('sparse values and hybrid queries', async () => {
  const ix = pc.index({ name: 'tour-dot' });
  const both = { id: 'both', values: [1, 2], sparseValues: { indices: [3, 4000000000], values: [0.5, 0.25] } };
  await ix.upsert({ records: [both, { id: 'dense', values: [2, 2] }] });
  equal((await ix.fetch({ ids: ['both'] })).records.both, both);
  const dense = await ix.query({ vector: [1, 1], topK: 2 });
  equal(dense.matches.map((m) => [m.id, m.score]), [['dense', 4], ['both', 3]]);
  const hybrid = await ix.query({ vector: [1, 1], sparseVector: { indices: [4000000000, 3], values: [4, 2] }, topK: 2, includeValues: true });
  equal(hybrid.matches.map((m) => [m.id, m.score]), [['both', 5], ['dense', 4]]);
  equal(hybrid.matches[0].sparseValues, both.sparseValues);
  await ix.update({ id: 'both', sparseValues: { indices: [7], values: [1.5] } });
  equal((await ix.fetch({ ids: ['both'] })).records.both.sparseValues, { indices: [7], values: [1.5] });
});

test('a sparse index', async () => {
  await pc.createIndex({ name: 'tour-sparse', metric: 'dotproduct', vectorType: 'sparse', spec, waitUntilReady: true });
  assert.equal((await pc.describeIndex('tour-sparse')).vectorType, 'sparse');
  const ix = pc.index({ name: 'tour-sparse' });
  await ix.upsert({ records: [
    { id: 'x', sparseValues: { indices: [1, 2], values: [1, 2] } },
    { id: 'y', sparseValues: { indices: [2, 3], values: [3, 4] } },
  ] });
  const res = await ix.query({ sparseVector: { indices: [2], values: [0.5] }, topK: 2 });
  equal(res.matches.map((m) => [m.id, m.score]), [['y', 1.5], ['x', 1]]);
  await pc.deleteIndex('tour-sparse');
});

test('list ids by prefix and page', async () => {
  const ix = byName();
  equal((await ix.listPaginated()).vectors.map((v) => v.id), ['a#1', 'a#2', 'b 3', 'b/4?&']);
  const first = await ix.listPaginated({ prefix: 'a#', limit: 1 });
  equal(first.vectors, [{ id: 'a#1' }]);
  const second = await ix.listPaginated({ prefix: 'a#', limit: 1, paginationToken: first.pagination.next });
  equal(second.vectors, [{ id: 'a#2' }]);
  assert.equal(second.pagination?.next, undefined);
  equal((await ix.namespace('nowhere').listPaginated()).vectors, []);
});

test('stats', async () => {
  const stats = await byName().describeIndexStats();
  equal([stats.dimension, stats.totalRecordCount, stats.namespaces['ns 1/e'].recordCount], [3, 4, 4]);
  equal((await pc.index({ name: 'tour-l2' }).describeIndexStats()).totalRecordCount, 3);
});

test('namespaces', async () => {
  const ix = pc.index({ name: 'tour' });
  assert.equal((await ix.createNamespace({ name: 'made' })).name, 'made');
  await refuses('PineconeConflictError', /made/, () => ix.createNamespace({ name: 'made' }));
  equal(await ix.describeNamespace('ns 1/e'), { name: 'ns 1/e', recordCount: '4' });
  const first = await ix.listNamespaces({ limit: 1, prefix: 'm' });
  equal(first.namespaces.map((n) => [n.name, n.recordCount]), [['made', '0']]);
  const names = [];
  let paginationToken;
  do {
    const page = await ix.listNamespaces({ limit: 1, paginationToken });
    names.push(...page.namespaces.map((n) => n.name));
    paginationToken = page.pagination?.next;
  } while (paginationToken);
  for (const name of ['made', 'ns 1/e']) assert.equal(names.filter((n) => n === name).length, 1, `${name} in ${names}`);
  await ix.deleteNamespace('made');
  await refuses('PineconeNotFoundError', /made/, () => ix.describeNamespace('made'));
  await refuses('PineconeNotFoundError', /made/, () => ix.deleteNamespace('made'));
});

test('wrong input is refused with its class and a reason', async () => {
  const ix = byName();
  const l2 = pc.index({ name: 'tour-l2' });
  const bad = 'PineconeBadRequestError';
  await refuses(bad, /dimension/i, () => ix.upsert({ records: [{ id: 'x', values: [1, 2] }] }));
  await refuses(bad, /dimension/i, () => ix.query({ vector: [1, 2], topK: 1 }));
  await refuses(bad, /topK/, () => ix.query({ vector: [1, 2, 3], topK: 10001 }));
  await refuses(bad, /\$near/, () => ix.query({ vector: [1, 2, 3], topK: 1, filter: { a: { $near: 1 } } }));
  await refuses(bad, /sparse/i, () => l2.query({ vector: [1, 2], sparseVector: { indices: [1], values: [1] }, topK: 1 }));
  await refuses(bad, /metadata/i, () => ix.upsert({ records: [{ id: 'x', values: [1, 2, 3], metadata: { a: { b: 1 } } }] }));
  await refuses(bad, /zero/i, () => ix.upsert({ records: [{ id: 'x', values: [0, 0, 0] }] }));
  await refuses(bad, /limit/i, () => ix.listPaginated({ limit: 101 }));
  await refuses(bad, /token/i, () => ix.listPaginated({ paginationToken: 'made-up' }));
  await refuses(bad, /alphanumeric character/, () => pc.createIndex({ name: 'No Good', dimension: 3, metric: 'cosine', spec }));
  await refuses(bad, /dimension/i, () => pc.createIndex({ name: 'big', dimension: 20001, metric: 'cosine', spec }));
  await refuses('PineconeNotFoundError', /nothing/, () => pc.describeIndex('nothing'));
  await refuses('PineconeNotFoundError', /nothing/, () => pc.deleteIndex('nothing'));
  await refuses('PineconeNotFoundError', /404/, () => ix.namespace('nowhere').deleteMany({ ids: ['x'] }));
  const stranger = new Pinecone({ apiKey: 'nonsense', controllerHostUrl: process.env.PINECONE_CONTROLLER_HOST });
  await refuses('PineconeAuthorizationError', /./, () => stranger.listIndexes());
  equal((await ix.listPaginated()).vectors.length, 4);
});

test('delete one, many, by filter and all', async () => {
  const ix = byName();
  const left = async () => (await ix.listPaginated()).vectors.map((v) => v.id);
  await ix.upsert({ records: [5, 6, 7, 8].map((n) => ({ id: `d${n}`, values: [n, 1, 1], metadata: { n } })) });
  await ix.deleteOne({ id: 'd5' });
  await ix.deleteMany({ ids: ['d6', 'nobody'] });
  equal(await left(), ['a#1', 'a#2', 'b 3', 'b/4?&', 'd7', 'd8']);
  await ix.deleteMany({ filter: { n: { $gte: 8 } } });
  equal(await left(), ['a#1', 'a#2', 'b 3', 'b/4?&', 'd7']);
  await ix.deleteAll();
  equal(await left(), []);
  equal((await ix.query({ vector: [1, 1, 1], topK: 5 })).matches, []);
});

test('delete indexes', async () => {
  for (const name of ['tour', 'tour-l2', 'tour-dot']) await pc.deleteIndex(name);
  equal((await pc.listIndexes()).indexes, []);
  await refuses('PineconeNotFoundError', /tour/, () => pc.describeIndex('tour'));
});
