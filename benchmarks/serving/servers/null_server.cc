// A server that computes nothing: C++ gRPC's completion queue answers every request with the same bytes.
//
// What it reaches is the limit for any server on this library.
// null_server PORT METHOD ANSWER_FILE [METHOD ANSWER_FILE ...]

#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/rpc_service_method.h>
#include <grpcpp/impl/service_type.h>
#include <grpcpp/support/async_unary_call.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

namespace {

constexpr int kCallsAwaited = 256;

// Unary methods whose messages stay bytes.
class RawService final : public grpc::Service {
 public:
  void Add(const char* method) {
    AddMethod(new grpc::internal::RpcServiceMethod(method, grpc::internal::RpcMethod::NORMAL_RPC, nullptr));
    MarkMethodRaw(count_++);
  }

  void Request(int method, grpc::ServerContext* context, grpc::ByteBuffer* request,
               grpc::ServerAsyncResponseWriter<grpc::ByteBuffer>* writer, grpc::ServerCompletionQueue* queue,
               void* tag) {
    RequestAsyncUnary(method, context, request, writer, queue, queue, tag);
  }

 private:
  int count_ = 0;
};

// One call, from its request to the end of its answer; its place is then taken by the next.
struct Call {
  explicit Call(int method) : method(method) {}

  const int method;
  grpc::ServerContext context;
  grpc::ByteBuffer request;
  grpc::ServerAsyncResponseWriter<grpc::ByteBuffer> writer{&context};
  bool answered = false;
};

grpc::ByteBuffer Read(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4 || argc % 2) return std::fprintf(stderr, "null_server PORT METHOD ANSWER_FILE ...\n"), 2;
  RawService service;
  std::vector<grpc::ByteBuffer> answers;
  for (int i = 2; i < argc; i += 2) {
    service.Add(argv[i]);
    answers.push_back(Read(argv[i + 1]));
  }

  grpc::ServerBuilder builder;
  builder.AddListeningPort(std::string("127.0.0.1:") + argv[1], grpc::InsecureServerCredentials());
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.SetMaxReceiveMessageSize(16 << 20);
  builder.RegisterService(&service);
  const auto queue = builder.AddCompletionQueue();
  const auto server = builder.BuildAndStart();
  if (!server) return std::fprintf(stderr, "cannot listen on port %s\n", argv[1]), 1;

  const auto await = [&](int method) {
    auto* call = new Call(method);
    service.Request(method, &call->context, &call->request, &call->writer, queue.get(), call);
  };
  for (int i = 0; i < kCallsAwaited; ++i) {
    for (int method = 0; method < static_cast<int>(answers.size()); ++method) await(method);
  }

  void* tag;
  bool ok;
  while (queue->Next(&tag, &ok)) {
    auto* call = static_cast<Call*>(tag);
    if (call->answered || !ok) {
      delete call;
      continue;
    }
    await(call->method);
    call->answered = true;
    call->writer.Finish(answers[call->method], grpc::Status::OK, call);
  }
}
