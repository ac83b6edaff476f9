"""Specs from dicts and files."""
from __future__ import annotations

import json
import os
from typing import Any, Mapping, TypeVar, Union

from google.protobuf import json_format, text_format

from .errors import InvalidArgument
from .v1 import spec_pb2

SpecSource = Union[spec_pb2.JobSpec, Mapping[str, Any], str, 'os.PathLike[str]']
M = TypeVar('M', spec_pb2.JobSpec, spec_pb2.Normalizer)


def bind(source: Mapping[str, Any], message: M, what: str) -> M:
    """Fills `message` from a dict with snake_case or lowerCamelCase names. InvalidArgument: a field or value is wrong."""
    try:
        json_format.ParseDict(dict(source), message)
        return message
    except json_format.ParseError as error:
        raise InvalidArgument(f'{what}: {error}; proto/normlab/v1/spec.proto documents every field',
                              code='INVALID_ARGUMENT') from None


def load(source: SpecSource) -> spec_pb2.JobSpec:
    """A JobSpec from a message, a dict, or the path of a JSON, YAML (with PyYAML) or text proto file."""
    if isinstance(source, spec_pb2.JobSpec):
        return source
    if isinstance(source, Mapping):
        return bind(source, spec_pb2.JobSpec(), 'the spec')
    path = os.fspath(source)
    with open(path, encoding='utf-8') as file:
        text = file.read()
    if path.endswith(('.textproto', '.txtpb', '.pbtxt')):
        try:
            spec = spec_pb2.JobSpec()
            text_format.Parse(text, spec)
            return spec
        except text_format.ParseError as error:
            raise InvalidArgument(f'{path}: {error}', code='INVALID_ARGUMENT') from None
    try:
        content = json.loads(text)
    except ValueError as error:
        if path.endswith('.json'):
            raise InvalidArgument(f'{path} is no JSON: {error}', code='INVALID_ARGUMENT') from None
        try:
            import yaml  # not needed for anything else
        except ImportError:
            raise InvalidArgument(f'{path} is YAML, which needs python3-yaml: install it, or write JSON',
                                  code='INVALID_ARGUMENT') from None
        content = yaml.safe_load(text)
    return bind(content, spec_pb2.JobSpec(), path)
