# The Worker service, for the listener that only workers reach.
normlab_library(server_worker_service
  SOURCES worker_service.cc
  PUBLIC normlab::proto_grpc normlab::server_observer normlab::server_scheduler normlab::server_store
    normlab::server_stream
  PRIVATE normlab::server_api normlab::server_domain absl::status absl::statusor absl::synchronization spdlog::spdlog)
normlab_test(server_worker_service_test
  SOURCES worker_service_test.cc
  DEPS normlab::server_worker_service normlab::server_scheduler_testing normlab::server_domain
  LABELS unit concurrency)
