"""What `make run` reads from the template about queues and images."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from local.gateway import Template

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Conditions: {Rarely: !Equals [a, b]}
Resources:
  Asks:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: asks/
      Runtime: python3.13
      Handler: app.handler
      Environment: {Variables: {WORK: !Ref Work, OTHER: Worked}}
  Works:
    Type: AWS::Serverless::Function
    Metadata: {Dockerfile: Dockerfile, DockerContext: .}
    Properties:
      PackageType: Image
      ImageConfig: {Command: [works.app.handler]}
      Events:
        Asked: {Type: SQS, Properties: {Queue: !GetAtt Work.Arn, ScalingConfig: {MaximumConcurrency: 50}}}
  Tidies:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: tidies/
      Runtime: python3.13
      Handler: app.handler
      Events: {Now: {Type: Schedule, Properties: {Schedule: !If [Rarely, rate(6 hours), rate(5 minutes)]}}}
  Work:
    Type: AWS::SQS::Queue
    Properties: {VisibilityTimeout: 60, RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 5}}
  Dead: {Type: AWS::SQS::Queue}
  Bucket:
    Type: AWS::S3::Bucket
    Properties:
      NotificationConfiguration:
        QueueConfigurations:
          - {Event: s3:ObjectCreated:*, Queue: !GetAtt Work.Arn, Filter: {S3Key: {Rules: [{Name: prefix, Value: in/}]}}}
"""


@pytest.fixture
def template(tmp_path: Path) -> "Template":
    from local.gateway import Template

    path = tmp_path / "template.yaml"
    path.write_text(TEMPLATE)
    return Template(path, {"AWS_ENDPOINT_URL": "http://127.0.0.1:5"})


def test_a_queue_that_starts_a_function_is_found_with_what_it_hears_of(template: "Template") -> None:
    from local.s3 import Queue

    assert template.queues == [Queue("Work", "Works", visibility=60, tries=5, at_once=2, prefix="in/")]


def test_a_function_that_a_schedule_starts_is_found(template: "Template") -> None:
    assert template.scheduled == ["Tidies"]


def test_a_function_is_told_the_address_of_a_queue_and_nothing_else_is_taken_for_one(template: "Template") -> None:
    told = template.functions["Asks"].environment
    assert told["WORK"] == "http://127.0.0.1:5/123456789012/Work"
    assert told["OTHER"] == "Worked"


def test_a_function_in_an_image_is_its_command(template: "Template", tmp_path: Path) -> None:
    works, asks = template.functions["Works"], template.functions["Asks"]
    assert (works.handler, works.image, Path(works.folder)) == ("works.app.handler", True, tmp_path)
    assert all(isinstance(value, str) for value in works.environment.values())
    assert (asks.image, Path(asks.folder)) == (False, tmp_path / "asks")
