#!/usr/bin/env python3
"""A client that knows nothing of Normlab: it learns services and messages from the server itself, by gRPC's reflection.

Usage: reflect.py HOST:PORT [SERVICE/METHOD [JSON]]
Without a method: lists all services and methods. With one: calls it (unary, or a server stream) and prints the answers.

    reflect.py 127.0.0.1:7600 normlab.v1.Server/GetServerInfo
    reflect.py 127.0.0.1:7600 normlab.v1.Jobs/ListJobs '{"filter": "state=RUNNING"}'
"""
import json
import os
import subprocess
import sys
import tempfile

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

REFLECTION = '/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo'
# The part of grpc/reflection/v1alpha/reflection.proto that is needed here.
PROTO = '''syntax = "proto3"; package normlab.example.reflection;
message Request { string host = 1; oneof message_request {
  string file_by_filename = 3; string file_containing_symbol = 4; string list_services = 7; } }
message Response { oneof message_response {
  Files file_descriptor_response = 4; Services list_services_response = 6; Error error_response = 7; } }
message Files { repeated bytes file_descriptor_proto = 1; }
message Services { repeated Service service = 1; }
message Service { string name = 1; }
message Error { int32 error_code = 1; string error_message = 2; }
'''


def message_class(pool, name):
    descriptor = pool.FindMessageTypeByName(name)
    if hasattr(message_factory, 'GetMessageClass'):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)


def reflection_messages():
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, 'reflection.proto'), 'w', encoding='ascii') as file:
            file.write(PROTO)
        subprocess.run(['protoc', f'--proto_path={folder}', f'--descriptor_set_out={folder}/set', 'reflection.proto'], check=True)
        with open(os.path.join(folder, 'set'), 'rb') as file:
            files = descriptor_pb2.FileDescriptorSet.FromString(file.read())
    pool = descriptor_pool.DescriptorPool()
    for one in files.file:
        pool.Add(one)
    return (message_class(pool, 'normlab.example.reflection.Request'), message_class(pool, 'normlab.example.reflection.Response'))


class Reflection:
    """Asks a server for what it speaks."""

    def __init__(self, channel):
        self.request, self.response = reflection_messages()
        self.method = channel.stream_stream(REFLECTION, request_serializer=self.request.SerializeToString,
                                            response_deserializer=self.response.FromString)
        self.pool = descriptor_pool.DescriptorPool()
        self.known = set()

    def ask(self, **question):
        [answer] = list(self.method(iter([self.request(**question)]), timeout=30))
        if answer.WhichOneof('message_response') == 'error_response':
            raise LookupError(f'the server says: {answer.error_response.error_message}')
        return answer

    def services(self):
        return [service.name for service in self.ask(list_services='*').list_services_response.service]

    def learn(self, answer):
        files = [descriptor_pb2.FileDescriptorProto.FromString(data)
                 for data in answer.file_descriptor_response.file_descriptor_proto]
        for file in files:
            if file.name in self.known:
                continue
            self.known.add(file.name)
            for needed in file.dependency:
                if needed not in self.known:
                    self.learn(self.ask(file_by_filename=needed))
            self.pool.Add(file)

    def service(self, name):
        self.learn(self.ask(file_containing_symbol=name))
        return self.pool.FindServiceByName(name)


def main(server, method='', body='{}'):
    channel = grpc.insecure_channel(server)
    reflection = Reflection(channel)
    if not method:
        for name in reflection.services():
            print(name)
            try:
                methods = reflection.service(name).methods
            except LookupError:  # gRPC's own health service has no description
                continue
            for one in methods:
                print(f'  {one.name}({one.input_type.full_name}) -> {one.output_type.full_name}')
        return
    service, _, name = method.partition('/')
    found = reflection.service(service).methods_by_name[name]
    request = message_class(reflection.pool, found.input_type.full_name)()
    answer = message_class(reflection.pool, found.output_type.full_name)
    json_format.ParseDict(json.loads(body), request)
    # A unary answer is a stream of one.
    call = channel.unary_stream(f'/{service}/{name}', request_serializer=lambda message: message.SerializeToString(),
                                response_deserializer=answer.FromString)
    token = os.environ.get('NORMLAB_TOKEN')
    for message in call(request, timeout=60, metadata=(('authorization', f'Bearer {token}'),) if token else ()):
        print(json_format.MessageToJson(message, indent=1))


if __name__ == '__main__':
    if not 2 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
