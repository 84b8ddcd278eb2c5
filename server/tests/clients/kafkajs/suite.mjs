// The KafkaJS suite: producers with every codec, groups, and the admin client. KafkaJS sends old versions of every API.
//
// Usage: node suite.mjs BOOTSTRAP [PATTERN]. `ok NAME` or `FAIL NAME: why`, one line each; exits non-zero when a test failed.
// Of the codecs KafkaJS has only gzip; snappy and zstd are plugged in as its documentation says. For lz4 there is only what has to be
// compiled, so it is left out.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import kafkajs from "kafkajs";
import snappy from "kafkajs-snappy";

const { AssignerProtocol, CompressionCodecs, CompressionTypes, Kafka, logLevel } = kafkajs;
CompressionCodecs[CompressionTypes.Snappy] = snappy;
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => zstdCompressSync(encoder.buffer),
  decompress: async (bytes) => zstdDecompressSync(bytes),
});

const [bootstrap, pattern = ""] = process.argv.slice(2);
const TIMEOUT_MS = 90_000;
const PARTITIONS = [0, 1, 2, 3];
let failed = 0;

const kafka = new Kafka({ brokers: [bootstrap], clientId: "suite", logLevel: logLevel.NOTHING, retry: { initialRetryTime: 100 } });
const admin = kafka.admin();

const named = (name) => `js-${name}-${randomBytes(8).toString("hex")}`;
const rest = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(what, condition) {
  for (const end = Date.now() + TIMEOUT_MS / 2; !(await condition()); await rest(20)) {
    assert.ok(Date.now() < end, `timed out: ${what}`);
  }
}

async function test(name, body) {
  if (!name.includes(pattern)) return;
  const late = new Promise((_, reject) => setTimeout(() => reject(new Error("did not end in time")), TIMEOUT_MS).unref());
  try {
    await Promise.race([body(), late]);
    console.log(`ok ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}: ${String(error).replaceAll("\n", " ").slice(0, 400)}`);
  }
}

async function newTopic(name, numPartitions) {
  const topic = named(name);
  await admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor: 1 }], waitForLeaders: true });
  return topic;
}

const rows = (mark, count) =>
  Array.from({ length: count }, (_, i) => ({ key: `key-${i % 40}`, value: `${mark}-${i}-${"x".repeat(i % 200)}`, headers: { h: `h-${i}` } }));

async function produce(topic, messages, compression = CompressionTypes.None, config = {}) {
  const producer = kafka.producer(config);
  await producer.connect();
  await producer.send({ topic, messages, compression });
  await producer.disconnect();
}

// A member of a group; what it was given and not taken yet is in `came`.
class Member {
  constructor(topic, groupId) {
    this.came = [];
    this.owned = 0;
    this.wanted = 0;
    this.consumer = kafka.consumer({ groupId, sessionTimeout: 6000, rebalanceTimeout: 6000, heartbeatInterval: 300, maxWaitTimeInMs: 200 });
    this.consumer.on(this.consumer.events.GROUP_JOIN, ({ payload }) => {
      this.owned = (payload.memberAssignment[topic] ?? []).length;
    });
    this.consumer.on(this.consumer.events.REBALANCING, () => { this.owned = 0; });
    this.topic = topic;
  }

  // One record at a time; each is committed once it was taken, and none is given before somebody wants it.
  async start() {
    await this.consumer.connect();
    await this.consumer.subscribe({ topic: this.topic, fromBeginning: true });
    await this.consumer.run({ autoCommit: false, eachBatchAutoResolve: false, eachBatch: (given) => this.batch(given) });
    return this;
  }

  async batch({ batch, resolveOffset, heartbeat, isRunning, isStale }) {
    const { topic, partition } = batch;
    for (const { key, value, offset, headers } of batch.messages) {
      if (!isRunning() || isStale() || this.wanted === 0) return;
      this.wanted -= 1;
      this.came.push({ key: key.toString(), value: value.toString(), headers: { h: headers.h.toString() }, partition, offset });
      await this.consumer.commitOffsets([{ topic, partition, offset: String(Number(offset) + 1) }]);
      resolveOffset(offset);
      await heartbeat();
    }
  }

  async leave() {
    await this.consumer.disconnect();
  }
}

async function take(count, ...members) {
  for (const each of members) each.wanted = count;
  await until(`${count} records`, () => members.reduce((sum, each) => sum + each.came.length, 0) >= count);
  for (const each of members) each.wanted = 0;
  return members.flatMap((each) => each.came.splice(0));
}

const sorted = (records) => records.map(({ key, value, headers }) => `${key} ${value} ${headers.h}`).sort();

async function roundTrip(compression, config) {
  const topic = await newTopic("round", 1);
  const sent = rows("v", 300);
  await produce(topic, sent, compression, config);
  const reader = await new Member(topic, named("g")).start();
  const got = await take(sent.length, reader);
  assert.deepEqual(got.map(({ offset }) => Number(offset)), sent.map((_, i) => i), "offsets");
  assert.deepEqual(sorted(got), sorted(sent), "records");
  await reader.leave();
}

async function group() {
  const topic = await newTopic("group", PARTITIONS.length);
  const name = named("g");
  const [first, second, third] = ["first", "second", "third"].map((mark) => rows(mark, 120));
  await produce(topic, first);
  let one = await new Member(topic, name).start();
  const got = await take(70, one);
  await one.leave();
  one = await new Member(topic, name).start();
  got.push(...(await take(50, one)));
  assert.deepEqual(sorted(got), sorted(first), "what was read before the restart and after it");
  const two = await new Member(topic, name).start();
  await until("two members share the partitions", () => one.owned === 2 && two.owned === 2);
  await produce(topic, second);
  assert.deepEqual(sorted(await take(120, one, two)), sorted(second), "what two members read");
  await one.leave();
  await until("one has left, the other has all", () => two.owned === PARTITIONS.length);
  await produce(topic, third);
  assert.deepEqual(sorted(await take(120, two)), sorted(third), "what is read by the one that is left");
  await administer(topic, name);
  await two.leave();
  await admin.deleteGroups([name]);
}

// Looks at a settled group of one member from outside.
async function administer(topic, name) {
  const { groups } = await admin.describeGroups([name]);
  assert.equal(groups[0].state, "Stable");
  assert.equal(groups[0].members.length, 1);
  const { memberAssignment } = groups[0].members[0];
  assert.deepEqual(AssignerProtocol.MemberAssignment.decode(memberAssignment).assignment[topic].sort(), PARTITIONS);
  const [{ partitions }] = await admin.fetchOffsets({ groupId: name, topics: [topic] });
  assert.equal(partitions.reduce((sum, { offset }) => sum + Number(offset), 0), 360, "records committed");
  const listed = (await admin.listGroups()).groups.map(({ groupId }) => groupId);
  assert.ok(listed.includes(name), "listed");
}

async function administration() {
  const topic = await newTopic("admin", 1);
  const name = named("g");
  await produce(topic, rows("v", 50));
  await admin.setOffsets({ groupId: name, topic, partitions: [{ partition: 0, offset: "20" }] });
  const [{ partitions }] = await admin.fetchOffsets({ groupId: name, topics: [topic] });
  assert.equal(partitions[0].offset, "20", "what was set");
  await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] });
  await until("three partitions", async () => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length === 3);
  const ends = () => admin.fetchTopicOffsets(topic).then((all) => all.reduce((sum, { high }) => sum + Number(high), 0), () => -1);
  await until("ends, once the new partitions are led", async () => (await ends()) === 50);
  const resource = { type: kafkajs.ConfigResourceTypes.TOPIC, name: topic };
  await admin.alterConfigs({ resources: [{ ...resource, configEntries: [{ name: "segment.bytes", value: "12345678" }] }] });
  await until("the config is what was set", async () => {
    const { resources } = await admin.describeConfigs({ resources: [{ ...resource, configNames: ["segment.bytes"] }] });
    return resources[0].configEntries[0].configValue === "12345678";
  });
  await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: "-1" }] });
  await admin.deleteTopics({ topics: [topic] });
}

await admin.connect();
await Promise.all([
  ...["None", "GZIP", "Snappy", "ZSTD"].map((codec) => test(`codec-${codec.toLowerCase()}`, () => roundTrip(CompressionTypes[codec]))),
  test("idempotence", () => roundTrip(CompressionTypes.None, { idempotent: true, maxInFlightRequests: 1 })),
  test("group", group),
  test("administration", administration),
]);
await admin.disconnect();
process.exit(failed ? 1 : 0);
