// Trains the classic network, watches it from a second call, evaluates it and asks it for ten digits.
// It knows nothing but the .proto files.
//
//   npm install && node client.js FOLDER [HOST:PORT]
//
// FOLDER holds MNIST's four files, gzipped.

const fs = require('node:fs');
const path = require('node:path');
const zlib = require('node:zlib');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

const PROTOS = path.join(__dirname, '..', '..', 'proto');
const FILES = ['training', 'evaluation', 'prediction'].map((name) => `mnist_proto/v1/${name}.proto`);
const BATCH = 1000;
const SIZE = { height: 28, width: 28 };

const { v1 } = grpc.loadPackageDefinition(
  protoLoader.loadSync(FILES, { includeDirs: [PROTOS], keepCase: true, longs: Number, enums: String, defaults: true }),
).mnist;

function readIdx(folder, name, header) {
  return zlib.gunzipSync(fs.readFileSync(path.join(folder, `${name}.gz`))).subarray(header);
}

function readSplit(folder, prefix) {
  return {
    images: readIdx(folder, `${prefix}-images-idx3-ubyte`, 16),
    labels: readIdx(folder, `${prefix}-labels-idx1-ubyte`, 8),
  };
}

// The server reads at its own pace: when write() returns false, wait until it has caught up.
async function send(call, message) {
  if (!call.write(message)) await new Promise((resolve) => call.once('drain', resolve));
}

async function sendBatches(call, { images, labels }, split) {
  const pixels = SIZE.height * SIZE.width;
  for (let at = 0; at < labels.length; at += BATCH) {
    const batch = {
      pixels: images.subarray(at * pixels, (at + BATCH) * pixels),
      labels: labels.subarray(at, at + BATCH),
      split,
      ...SIZE,
    };
    await send(call, { batch });
  }
}

async function train(training, data, config) {
  const call = training.Train();
  const accepted = new Promise((resolve, reject) => {
    call.on('error', reject);
    call.on('data', ({ event }) => event?.accepted && resolve(event));
  });
  await send(call, { config });
  await sendBatches(call, data.train, 'SPLIT_TRAIN');
  await sendBatches(call, data.test, 'SPLIT_TEST');
  call.end();
  const event = await accepted;
  // The job outlives the stream that started it.
  call.removeAllListeners('error').on('error', () => {});
  call.cancel();
  return event;
}

async function watch(training, job, sequence) {
  for await (const { event } of training.WatchTraining({ job, after_sequence: sequence })) {
    if (event?.epoch_finished) {
      const { epoch, correct, total } = event.epoch_finished;
      console.log(`Epoch ${epoch} : ${correct} / ${total}`);
    } else if (event?.succeeded) {
      console.log(`made ${event.succeeded.model_version}`);
    } else if (event?.failed) {
      throw new Error(`${job} failed: ${event.failed.reason}`);
    } else if (event?.cancelled) {
      throw new Error(`${job} was cancelled`);
    }
  }
}

async function evaluate(evaluation, data, model) {
  let call;
  const answer = new Promise((resolve, reject) => {
    call = evaluation.Evaluate({ deadline: Date.now() + 60_000 }, (error, response) =>
      error ? reject(error) : resolve(response.evaluation),
    );
  });
  await send(call, { config: { model } });
  await sendBatches(call, data.test, 'SPLIT_TEST');
  call.end();
  return answer;
}

function predict(prediction, request) {
  return new Promise((resolve, reject) => {
    prediction.Predict(request, { deadline: Date.now() + 10_000 }, (error, response) =>
      error ? reject(error) : resolve(response),
    );
  });
}

async function main([folder, server = '127.0.0.1:50051']) {
  if (!folder) throw new Error('usage: node client.js FOLDER [HOST:PORT]');
  const data = { train: readSplit(folder, 'train'), test: readSplit(folder, 't10k') };
  const credentials = grpc.credentials.createInsecure();
  const training = new v1.TrainingService(server, credentials);
  const evaluation = new v1.EvaluationService(server, credentials);
  const prediction = new v1.PredictionService(server, credentials);

  const { job, sequence, accepted } = await train(training, data, { model: 'models/node' });
  console.log(`${job}: layers ${accepted.config.layer_sizes.join('-')}, seed ${accepted.config.config.seed}`);
  await watch(training, job, sequence);

  const { correct, total, accuracy } = await evaluate(evaluation, data, 'models/node');
  console.log(`evaluated: ${correct} / ${total} = ${(100 * accuracy).toFixed(2)} %`);

  const pixels = data.test.images.subarray(0, 10 * SIZE.height * SIZE.width);
  const answer = await predict(prediction, { model: 'models/node', pixels, ...SIZE });
  console.log(`predicted: ${answer.digits.join(' ')} by ${answer.model}`);
  console.log(`labels:    ${[...data.test.labels.subarray(0, 10)].join(' ')}`);
  for (const client of [training, evaluation, prediction]) client.close();
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
