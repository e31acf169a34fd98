#!/bin/sh
# Trains, watches, evaluates and predicts with a tool that has never heard of this project: buf curl asks the
# server itself, through reflection, what its messages are.
#
#   examples/buf_curl.sh FOLDER [HOST:PORT]
#
# FOLDER holds MNIST's four files, gzipped. Learns from the first 3,000 images, tests on 1,000.
# $BUF is the program, if it is not `buf`.
set -eu

folder=$1
server=${2:-127.0.0.1:50051}

call() { "${BUF:-buf}" curl --protocol grpc --data @- "http://$server/mnist.v1.$1"; }

# The first COUNT of an IDX file, after its header, as JSON writes bytes: pixels SPLIT COUNT.
pixels() { gzip -dc "$folder/$1-images-idx3-ubyte.gz" | tail -c +17 | head -c $((784 * $2)) | base64 | tr -d '\n'; }
labels() { gzip -dc "$folder/$1-labels-idx1-ubyte.gz" | tail -c +9 | head -c "$2" | base64 | tr -d '\n'; }
batch() {
    printf '{"batch": {"split": "%s", "height": 28, "width": 28, "pixels": "%s", "labels": "%s"}}\n' \
        "$1" "$(pixels "$2" "$3")" "$(labels "$2" "$3")"
}

echo '# Train: a configuration, then batches; events come back until the job has ended'
{
    echo '{"config": {"model": "models/buf", "epochs": 5, "seed": 1}}'
    batch SPLIT_TRAIN train 3000
    batch SPLIT_TEST t10k 1000
} | call TrainingService/Train

job=$(echo '{"pageSize": 1}' | call TrainingService/ListTrainingJobs | grep -o 'jobs/[a-z0-9-]*' | head -n 1)
echo "# WatchTraining: $job again, after its sixth event"
echo "{\"job\": \"$job\", \"afterSequence\": 6}" | call TrainingService/WatchTraining

echo '# Evaluate'
{
    echo '{"config": {"model": "models/buf"}}'
    batch SPLIT_TEST t10k 1000
} | call EvaluationService/Evaluate

echo '# Predict: three images, and what they are'
printf '{"model": "models/buf", "height": 28, "width": 28, "pixels": "%s"}' "$(pixels t10k 3)" |
    call PredictionService/Predict
labels t10k 3 | base64 -d | od -An -tu1
