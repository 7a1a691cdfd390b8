"""What template.yaml becomes on AWS: who may do what, what is encrypted, watched and kept, and how it changes."""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import pytest
from dedup.api.queue_handler import FIRST_RETRY_SECONDS
from dedup.aws import object_keys
from dedup.aws.bucket import EXPORT_DAYS, JOB_DAYS
from dedup.services import tasks
from dedup.services.erasure import LINGER_DAYS
from dedup.settings import Settings
from dedup.store.task_outbox import KINDS

from tests.conftest import ROOT, load_function
from tests.routes import read_template

logging.getLogger("samtranslator").setLevel(logging.CRITICAL)

REGION, ACCOUNT = "eu-west-1", "123456789012"
PSEUDO = {
    "AWS::Region": REGION,
    "AWS::AccountId": ACCOUNT,
    "AWS::Partition": "aws",
    "AWS::StackName": "dedup",
    "AWS::StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/dedup/f449b250-b969-11e0-a185-5081d0136786",
    "AWS::URLSuffix": "amazonaws.com",
}
HOST = f"execute-api.{REGION}.amazonaws.com"
NOTHING = object()

OWN_DATABASE = {"CreateDatabase": "true"}
SINGLE_ROLE = {"SingleDatabaseRole": "true"}
OWNER = {"DatabaseOwnerSecretArn": "arn:aws:secretsmanager:owner"}
IAM_DATABASE = {"DatabaseHost": "db.example.com", "DatabaseResourceId": "cluster-ABC"}
SECRET_DATABASE = {
    "DatabaseHost": "db.example.com",
    "DatabaseSecretArn": "arn:aws:secretsmanager:app",
    "SubnetIds": "subnet-1",
}
BY_IAM, BY_SECRET = IAM_DATABASE | SINGLE_ROLE, SECRET_DATABASE | SINGLE_ROLE
WITH_OWNER, IAM_WITH_OWNER = SECRET_DATABASE | OWNER, IAM_DATABASE | OWNER
ORIGINS = ["https://a.example.com", "https://b.example.com"]
COGNITO = OWN_DATABASE | {"Auth": "COGNITO", "AllowedOrigins": ",".join(ORIGINS)}
BATCH = OWN_DATABASE | {"CreateBatch": "true"}
DEPLOYMENTS = [OWN_DATABASE, BY_IAM, BY_SECRET, WITH_OWNER, IAM_WITH_OWNER, COGNITO, BATCH]

PREFIXES = ("/incoming/*", "/rejected/*", "/exports/*", "/jobs/*", "/jobs/match/*", "/jobruns/*")
REPLACEMENT_KEYS = ("/incoming/*/snapshot/*", "/incoming/*/upsert/*")
OPEN = {("/", "get"), ("/health", "get"), ("/app", "get"), ("/app/config.json", "get"), ("/app/{file}", "get")}
LOOKUP = ("/api/v1/entities/lookup", "post")
"""A question that is too long for a path."""
PUBLISHING = {
    ("/api/v1/uploads/snapshots", "post"),
    ("/api/v1/uploads/upserts", "post"),
    ("/api/v1/uploads/{upload_id}/apply", "post"),
    ("/api/v1/uploads/{upload_id}/release", "post"),
}
"""They replace records of a source."""
MATCHES_ON_SPARK = {
    "s3:GetObject",
    "s3:PutObject",
    "s3:AbortMultipartUpload",
    "s3:DeleteObject",
    "s3:ListBucket",
    "emr-serverless:StartJobRun",
    "emr-serverless:GetJobRun",
    "iam:PassRole",
}
TAKES_MESSAGES = {
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:ChangeMessageVisibility",
}
WAKING = ("CreateCustomer", "BulkUpload", "Clear", "ActivateRun", "Decide", "RevokeDecision")
"""Functions that only send messages to the resolver. Others do, too, and send or receive more."""
JOBS = {"Export", "Ingest", "Match", "Resolve", "RunJob", "Sweep", "Verify", "Migrate"}
WITHOUT_DATABASE = {"App", "Docs", "Scopes"}


@pytest.fixture(autouse=True)
def region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)


class NoManagedPolicies:
    def load(self) -> dict[str, str]:
        return {}


def source() -> dict[str, Any]:
    parsed = read_template()
    for name, resource in parsed["Resources"].items():
        for place in ("CodeUri", "ContentUri"):
            if place in resource.get("Properties", {}):
                resource["Properties"][place] = f"s3://bucket/{name}"
        if resource.get("Properties", {}).get("PackageType") == "Image":
            resource["Properties"]["ImageUri"] = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/jobs:{name}"
    return parsed


def transformed(parsed: dict[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    from samtranslator.translator.transform import transform  # type: ignore[import-untyped]

    result: dict[str, Any] = transform(parsed, dict(given), NoManagedPolicies())
    return json.loads(json.dumps(result))  # type: ignore[no-any-return]


class Stack:
    """The transformed template with its parameters and conditions filled in, as CloudFormation would."""

    def __init__(self, template: dict[str, Any], given: Mapping[str, str]) -> None:
        self._conditions = template.get("Conditions", {})
        self._mappings = template.get("Mappings", {})
        self._values: dict[str, Any] = dict(PSEUDO)
        for name, parameter in template["Parameters"].items():
            value = given.get(name, parameter.get("Default", f"<{name}>"))
            is_list = parameter["Type"].startswith(("CommaDelimitedList", "List<"))
            self._values[name] = str(value).split(",") if is_list else str(value)
        self.resources: dict[str, dict[str, Any]] = {
            name: self._resolve(resource)
            for name, resource in template["Resources"].items()
            if "Condition" not in resource or self._holds(resource["Condition"])
        }
        self.refused: list[str] = [
            assertion["AssertDescription"]
            for rule in template.get("Rules", {}).values()
            if self._resolve(rule["RuleCondition"])
            for assertion in rule["Assertions"]
            if not self._resolve(assertion["Assert"])
        ]

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """Properties by name of the resources of a type."""
        return {name: r.get("Properties", {}) for name, r in self.resources.items() if r["Type"] == kind}

    def _holds(self, name: str) -> bool:
        return bool(self._resolve(self._conditions[name]))

    def _resolve(self, value: Any) -> Any:
        if isinstance(value, list):
            return [found for item in value if (found := self._resolve(item)) is not NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            [(function, argument)] = value.items()
            if function == "Fn::If":
                return self._resolve(argument[1 if self._holds(argument[0]) else 2])
            if function == "Condition" and isinstance(argument, str):
                return self._holds(argument)
            if function == "Ref":
                return NOTHING if argument == "AWS::NoValue" else self._values.get(argument, value)
            if function == "Fn::GetAtt":
                return {"Fn::GetAtt": ".".join(argument)} if isinstance(argument, list) else value
            arguments = self._resolve(argument)
            if function == "Fn::Equals":
                return arguments[0] == arguments[1]
            if function == "Fn::Not":
                return not arguments[0]
            if function == "Fn::And":
                return all(arguments)
            if function == "Fn::Or":
                return any(arguments)
            if function == "Fn::Join" and all(isinstance(part, str) for part in arguments[1]):
                return arguments[0].join(arguments[1])
            if function == "Fn::Split" and isinstance(arguments[1], str):
                return arguments[1].split(arguments[0])
            if function == "Fn::FindInMap":
                name, first, second = arguments
                return self._mappings[name][first][second]
            if function == "Fn::Select" and isinstance(arguments[1], list):
                return arguments[1][int(arguments[0])]
            if function == "Fn::Sub":
                return self._substitute(*(arguments if isinstance(arguments, list) else (arguments, {})))
            return {function: arguments}
        return {key: found for key, item in value.items() if (found := self._resolve(item)) is not NOTHING}

    def _substitute(self, text: str, named: dict[str, Any]) -> str:
        for name, value in {**self._values, **named}.items():
            text = text.replace(f"${{{name}}}", value if isinstance(value, str) else json.dumps(value))
        return text


@cache
def _stack(given: tuple[tuple[str, str], ...]) -> Stack:
    return Stack(transformed(source(), dict(given)), dict(given))


def stack(given: Mapping[str, str] = OWN_DATABASE) -> Stack:
    return _stack(tuple(given.items()))


def nested(name: str, given: Mapping[str, str] | None = None) -> Stack:
    template = read_template(ROOT / "infrastructure" / f"{name}.yaml")
    return Stack(json.loads(json.dumps(template)), given or {})


def operations(of: Stack) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in of.of("AWS::ApiGateway::RestApi")["Api"]["Body"]["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def statements(of: Stack, function: str) -> list[dict[str, Any]]:
    """What the function's role allows and denies, in one list."""
    role_name = of.resources[function]["Properties"]["Role"]["Fn::GetAtt"].removesuffix(".Arn")
    role = of.resources[role_name]["Properties"]
    documents = [policy["PolicyDocument"] for policy in role.get("Policies", [])]
    for managed in role["ManagedPolicyArns"]:
        documents.append(of.resources[managed["Ref"]]["Properties"]["PolicyDocument"])
    return [statement for document in documents for statement in document["Statement"]]


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def allowed(of: Stack, function: str) -> dict[str, set[str]]:
    """Resources by action that the function's role allows."""
    found: dict[str, set[str]] = {}
    for statement in statements(of, function):
        if statement["Effect"] == "Allow":
            for action in as_list(statement["Action"]):
                resources = (r if isinstance(r, str) else json.dumps(r) for r in as_list(statement["Resource"]))
                found.setdefault(action, set()).update(resources)
    return found


def functions(of: Stack) -> dict[str, dict[str, Any]]:
    return of.of("AWS::Lambda::Function")


# Who may call


@pytest.mark.parametrize("given", DEPLOYMENTS)
def test_every_route_but_health_and_the_page_asks_who_calls(given: dict[str, str]) -> None:
    for path, method, operation in operations(stack(given)):
        is_open = (path, method) in OPEN or method == "options"
        assert [list(entry) for entry in operation["security"]] == ([] if is_open else [["Caller"]]), (path, method)


@pytest.mark.parametrize("given", [OWN_DATABASE, BY_IAM, BY_SECRET])
def test_requests_are_signed_and_the_caller_needs_no_right_to_functions(given: dict[str, str]) -> None:
    body = stack(given).of("AWS::ApiGateway::RestApi")["Api"]["Body"]
    assert body["securityDefinitions"]["Caller"]["x-amazon-apigateway-authtype"] == "awsSigv4"
    for _, _, operation in operations(stack(given)):
        assert "credentials" not in operation["x-amazon-apigateway-integration"]
        assert all(scopes == [] for entry in operation["security"] for scopes in entry.values())


def test_people_need_the_scope_of_the_method() -> None:
    scope = {"get": "dedup/read", "post": "dedup/write", "put": "dedup/write", "delete": "dedup/admin"}
    caller = stack(COGNITO).of("AWS::ApiGateway::RestApi")["Api"]["Body"]["securityDefinitions"]["Caller"]
    assert caller["x-amazon-apigateway-authorizer"]["type"] == "cognito_user_pools"
    for path, method, operation in operations(stack(COGNITO)):
        if (path, method) not in OPEN and method != "options":
            special = {LOOKUP: "dedup/read", **dict.fromkeys(PUBLISHING, "dedup/publish")}
            asks = special.get((path, method), scope[method])
            assert operation["security"] == [{"Caller": [asks]}], (path, method)


def test_every_route_leads_to_a_function() -> None:
    for path, method, operation in operations(stack()):
        kind = operation["x-amazon-apigateway-integration"]["type"]
        assert kind == ("mock" if method == "options" else "aws_proxy"), (path, method)


def may(of: Stack, policy: str, action: str, resource: str) -> bool:
    """Whether a policy lets whoever has it, and no other, do something: a denial outweighs what is allowed."""
    effects = {
        statement["Effect"]
        for statement in of.of("AWS::IAM::ManagedPolicy")[policy]["PolicyDocument"]["Statement"]
        if action in as_list(statement["Action"])
        and any(fnmatchcase(resource, str(pattern)) for pattern in as_list(statement["Resource"]))
    }
    return effects == {"Allow"}


def call(path: str, method: str) -> str:
    """The ARN of a request of this route."""
    stage = f"arn:aws:execute-api:{REGION}:{ACCOUNT}:${{Api}}/live/"
    return stage + method.upper() + re.sub(r"{\w+}", "7", path)


POLICIES = ("ReaderPolicy", "WriterPolicy", "PublisherPolicy", "AdminPolicy")


def test_policies_allow_each_route_to_whom_it_is_for() -> None:
    routes = [(path, method) for path, method, _ in operations(stack()) if method != "options"]
    assert {*routes} >= PUBLISHING
    for path, method in routes:
        removes = method == "delete" or (path, method) in PUBLISHING
        changes = method != "get" and (path, method) != LOOKUP
        expected = {
            "ReaderPolicy": not changes,
            "WriterPolicy": not removes,
            "PublisherPolicy": method != "delete",
            "AdminPolicy": True,
        }
        allowed = {policy: may(stack(), policy, "execute-api:Invoke", call(path, method)) for policy in POLICIES}
        assert allowed == expected, (path, method)


@pytest.mark.parametrize(
    ("key", "who"),
    [
        ("incoming/a.csv", {"WriterPolicy", "PublisherPolicy", "AdminPolicy"}),
        ("incoming/hubspot/a.csv", {"WriterPolicy", "PublisherPolicy", "AdminPolicy"}),
        ("incoming/hubspot/snapshot/a.csv", {"PublisherPolicy", "AdminPolicy"}),
        ("incoming/hubspot/snapshot/deep/er.csv", {"PublisherPolicy", "AdminPolicy"}),
        ("incoming//snapshot/a.csv", {"PublisherPolicy", "AdminPolicy"}),
        ("incoming/hubspot/upsert/a.csv", {"PublisherPolicy", "AdminPolicy"}),
        ("incoming/hubspot/upsert/deep/er.csv", {"PublisherPolicy", "AdminPolicy"}),
        ("rejected/hubspot/a.csv.csv", set()),
        ("exports/export-1.csv", set()),
        ("code/jobs.zip", set()),
    ],
)
def test_policies_let_put_into_the_bucket_what_the_api_lets_upload(key: str, who: set[str]) -> None:
    name = stack().of("AWS::S3::Bucket")["Bucket"]["BucketName"]
    found = {policy for policy in POLICIES if may(stack(), policy, "s3:PutObject", f"arn:aws:s3:::{name}/{key}")}
    assert found == who


@pytest.mark.parametrize(
    ("policy", "replaces"), [("WriterPolicy", False), ("PublisherPolicy", True), ("AdminPolicy", True)]
)
@pytest.mark.parametrize(
    "folder",
    ["snapshot", "Snapshot", "SNAPSHOT", "sNaPsHoT", "snapshots", " snapshot", "upsert", "Upsert", "upserts", "other"],
)
def test_key_that_replaces_is_put_by_publishers_alone(policy: str, replaces: bool, folder: str) -> None:
    """Whatever a policy lets somebody put either adds, replaces and is theirs to replace, or is refused."""
    name, key = stack().of("AWS::S3::Bucket")["Bucket"]["BucketName"], f"incoming/hubspot/{folder}/a.csv"
    modes: tuple[dict[str, str], ...] = ({}, {"mode": "replace"}, {"mode": "upsert"}, {"mode": "add"})
    for metadata in (*modes, {"source": "internal", "mode": "replace"}):
        if may(stack(), policy, "s3:PutObject", f"arn:aws:s3:::{name}/{key}"):
            with suppress(object_keys.WrongFolder):
                assert object_keys.folder_of(key, metadata).mode == "add" or replaces


@pytest.mark.parametrize(
    ("groups", "suppressed"),
    [
        (["readers"], ["dedup/write", "dedup/publish", "dedup/admin"]),
        (["writers"], ["dedup/publish", "dedup/admin"]),
        (["publishers"], ["dedup/admin"]),
        (["writers", "publishers"], ["dedup/admin"]),
        (["readers", "admins"], []),
        (["others"], ["dedup/read", "dedup/write", "dedup/publish", "dedup/admin"]),
        (None, ["dedup/read", "dedup/write", "dedup/publish", "dedup/admin"]),
    ],
)
def test_token_has_the_scopes_of_the_groups_alone(groups: list[str] | None, suppressed: list[str]) -> None:
    event = {"request": {"groupConfiguration": {"groupsToOverride": groups}}, "response": {}}
    answer = load_function("scopes").handler(event, None)["response"]["claimsAndScopeOverrideDetails"]
    assert answer == {"accessTokenGeneration": {"scopesToSuppress": suppressed}}


def test_every_scope_is_known_to_the_pool_the_page_and_its_sign_in() -> None:
    asked = {
        scope
        for *_, operation in operations(stack(COGNITO))
        for [scopes] in map(dict.values, operation["security"])
        for scope in scopes
    }
    [server] = nested("users").of("AWS::Cognito::UserPoolResourceServer").values()
    assert {f"dedup/{scope['ScopeName']}" for scope in server["Scopes"]} == asked
    [client] = stack(COGNITO).of("AWS::Cognito::UserPoolClient").values()
    assert set(client["AllowedOAuthScopes"]) == {"openid", *asked}
    [scopes] = re.findall('const SCOPES = "(.*)"', (ROOT / "web" / "auth.js").read_text())
    assert set(scopes.split()) == {"openid", *asked}
    groups = {group["GroupName"] for group in nested("users").of("AWS::Cognito::UserPoolGroup").values()}
    assert groups == set(load_function("scopes").SCOPES_OF_GROUP)


def test_no_origin_may_call_unless_it_is_named() -> None:
    assert "CorsConfiguration" not in stack().of("AWS::S3::Bucket")["Bucket"]
    assert "Access-Control-Allow-Origin" not in json.dumps(
        stack().of("AWS::ApiGateway::RestApi")["Api"]["Body"]["x-amazon-apigateway-gateway-responses"]
    )
    [rule] = stack(COGNITO).of("AWS::S3::Bucket")["Bucket"]["CorsConfiguration"]["CorsRules"]
    assert rule["AllowedOrigins"] == [f"https://${{Api}}.{HOST}", "https://a.example.com", "https://b.example.com"]
    assert "*" not in json.dumps(stack(COGNITO).of("AWS::ApiGateway::RestApi")["Api"]["Body"]["paths"])


@pytest.mark.parametrize(("given", "others"), [(COGNITO, ORIGINS), (OWN_DATABASE | {"Auth": "COGNITO"}, [])])
def test_page_sends_people_to_sign_in_and_has_them_back(given: dict[str, str], others: list[str]) -> None:
    [client] = stack(given).of("AWS::Cognito::UserPoolClient").values()
    [rule] = stack(given).of("AWS::S3::Bucket")["Bucket"]["CorsConfiguration"]["CorsRules"]
    variables = stack(given).of("AWS::ApiGateway::Stage")["ApiliveStage"]["Variables"]

    assert client["CallbackURLs"] == client["LogoutURLs"] == [f"https://${{Api}}.{HOST}/live/app", *others]
    assert client["AllowedOAuthFlows"] == ["code"]
    assert client["GenerateSecret"] is False
    assert rule["AllowedOrigins"] == [f"https://${{Api}}.{HOST}", *others]
    assert variables == {
        "SignIn": {"Fn::GetAtt": "UsersStack.Outputs.SignIn"},
        "ClientId": {"Ref": "PageUserPoolClient"},
    }


def test_stack_whose_requests_are_signed_has_no_user_pool() -> None:
    assert "Variables" not in stack().of("AWS::ApiGateway::Stage")["ApiliveStage"]
    assert not stack().of("AWS::Cognito::UserPoolClient")


def test_preflight_is_answered_wherever_a_browser_asks() -> None:
    methods: dict[str, set[str]] = {}
    for path, method, _ in operations(stack(COGNITO)):
        methods.setdefault(path, set()).add(method)
    assert all("options" in found for path, found in methods.items() if path.startswith("/api/"))
    template = json.dumps(
        stack(COGNITO).of("AWS::ApiGateway::RestApi")["Api"]["Body"]["paths"]["/api/v1/customers"]["options"]
    )
    assert ",https://a.example.com,https://b.example.com," in template


def test_gateway_answers_in_the_shape_of_the_functions() -> None:
    responses = stack(COGNITO).of("AWS::ApiGateway::RestApi")["Api"]["Body"]["x-amazon-apigateway-gateway-responses"]
    assert {"DEFAULT_4XX", "DEFAULT_5XX", "MISSING_AUTHENTICATION_TOKEN", "REQUEST_TOO_LARGE"} <= set(responses)
    assert responses["MISSING_AUTHENTICATION_TOKEN"]["statusCode"] == "404"
    for response in responses.values():
        headers = response["responseParameters"]
        assert headers["gatewayresponse.header.Content-Type"] == "'application/problem+json'"
        assert headers["gatewayresponse.header.Access-Control-Allow-Origin"] == "'https://a.example.com'"


def test_calls_are_throttled_and_logged_without_the_caller() -> None:
    stage = stack().of("AWS::ApiGateway::Stage")["ApiliveStage"]
    [settings] = stage["MethodSettings"]
    assert (settings["ResourcePath"], settings["HttpMethod"]) == ("/*", "*")
    assert settings["ThrottlingRateLimit"] == "100"
    assert settings["DataTraceEnabled"] is False
    fields = set(json.loads(stage["AccessLogSetting"]["Format"]).values())
    assert fields
    assert not any(
        word in field for field in fields for word in ("identity", "authorizer", "context.path", "requestOverride")
    )


# What functions may do


@pytest.mark.parametrize("given", DEPLOYMENTS)
def test_functions_have_no_right_to_all_resources_that_could_be_limited(given: dict[str, str]) -> None:
    everywhere = {
        "xray:PutTraceSegments",
        "xray:PutTelemetryRecords",
        "ec2:CreateNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:DeleteNetworkInterface",
        "ec2:AssignPrivateIpAddresses",
        "ec2:UnassignPrivateIpAddresses",
    }
    for function in functions(stack(given)):
        for action, resources in allowed(stack(given), function).items():
            assert "*" not in action
            if action not in everywhere:
                for resource in resources:
                    # Objects below one prefix, or in one folder of each source, and nothing wider.
                    narrow = resource.removesuffix(REPLACEMENT_KEYS[0]).removesuffix(REPLACEMENT_KEYS[1])
                    assert narrow.count("*") == narrow.endswith(PREFIXES), (function, resource)


@pytest.mark.parametrize("given", [OWN_DATABASE, BY_SECRET, WITH_OWNER, COGNITO])
def test_function_itself_makes_no_network_interface(given: dict[str, str]) -> None:
    for function in functions(stack(given)):
        denied = [s for s in statements(stack(given), function) if s["Effect"] == "Deny" and "Condition" in s]
        assert [statement["Action"] for statement in denied] == ["ec2:*"]
        assert "lambda:SourceFunctionArn" in denied[0]["Condition"]["ArnLike"]


def test_urls_of_one_operation_never_put_what_another_is_for() -> None:
    """A presigned URL may do what its signer may."""
    [denied] = [s for s in statements(stack(), "CreateUpload") if s["Effect"] == "Deny" and "Condition" not in s]
    assert denied["Action"] == "s3:PutObject"
    for resource, function, keys in zip(
        denied["Resource"], ("CreateSnapshot", "CreateUpsert"), REPLACEMENT_KEYS, strict=True
    ):
        assert {resource} == allowed(stack(), function)["s3:PutObject"]
        assert resource.endswith(keys)


@pytest.mark.parametrize("given", DEPLOYMENTS)
def test_each_function_does_its_own_work_alone(given: dict[str, str]) -> None:
    shared = {"logs:CreateLogStream", "logs:PutLogEvents", "xray:PutTraceSegments", "xray:PutTelemetryRecords"}
    sign_in = "secretsmanager:GetSecretValue" if "DatabaseSecretArn" in given else "rds-db:connect"
    own = {
        "CreateUpload": {"s3:PutObject"},
        "CreateSnapshot": {"s3:PutObject"},
        "CreateUpsert": {"s3:PutObject"},
        "DeleteUpload": {"sqs:SendMessage"},
        "SetMapping": {"sqs:SendMessage"},
        "ApplyUpload": {"sqs:SendMessage"},
        "ReleaseUpload": {"sqs:SendMessage"},
        "ShowUpload": {"s3:GetObject", "s3:GetObjectVersion"},
        "ListUploads": {"s3:GetObject", "s3:GetObjectVersion"},
        "StartRun": {"sqs:SendMessage"},
        **{name: {"sqs:SendMessage"} for name in WAKING},
        "Resolve": {*(TAKES_MESSAGES - {"sqs:ChangeMessageVisibility"}), "sqs:SendMessage"},
        "Match": {*TAKES_MESSAGES, "sqs:SendMessage"} | (MATCHES_ON_SPARK if given == BATCH else set()),
        "EraseCustomer": {"sqs:SendMessage"},
        "CreateJob": {"sqs:SendMessage"},
        "ShowJob": {"s3:GetObject", "s3:ListBucket"} | ({"emr-serverless:GetJobRun"} if given == BATCH else set()),
        "ListJobs": {"s3:GetObject"},
        "RunJob": TAKES_MESSAGES | ({"emr-serverless:StartJobRun", "iam:PassRole"} if given == BATCH else set()),
        "CreateExport": {"sqs:SendMessage"},
        "Sweep": {"sqs:SendMessage", "events:PutEvents"},
        "ShowExport": {"s3:GetObject", "s3:GetObjectVersion"},
        "ListExports": {"s3:GetObject", "s3:GetObjectVersion"},
        "Export": {
            "s3:PutObject",
            "s3:AbortMultipartUpload",
            *TAKES_MESSAGES,
        },
        "Ingest": {
            "s3:GetObject",
            "s3:GetObjectVersion",
            "s3:ListBucket",
            "s3:PutObject",
            "s3:AbortMultipartUpload",
            "s3:DeleteObjectVersion",
            *TAKES_MESSAGES,
            "sqs:SendMessage",
            "events:PutEvents",
        },
    }
    for function in functions(stack(given)):
        actions = {action for action in allowed(stack(given), function) if not action.startswith("ec2:")}
        expected = shared | own.get(function, set())
        if function not in WITHOUT_DATABASE:
            owner = function == "Migrate" and ("CreateDatabase" in given or "DatabaseOwnerSecretArn" in given)
            expected |= {"secretsmanager:GetSecretValue" if owner else sign_in}
        assert actions == expected, function


def test_roles_are_one_for_each_function_and_have_no_policy_of_others() -> None:
    roles = [properties["Role"]["Fn::GetAtt"] for properties in functions(stack(COGNITO)).values()]
    assert len(set(roles)) == len(roles)
    for role in roles:
        arns = stack(COGNITO).resources[role.removesuffix(".Arn")]["Properties"]["ManagedPolicyArns"]
        assert all("Ref" in arn for arn in arns)


@pytest.mark.parametrize("given", [OWN_DATABASE, COGNITO])
def test_only_migrate_is_the_owner_of_the_tables(given: dict[str, str]) -> None:
    for function, properties in functions(stack(given)).items():
        variables = properties["Environment"]["Variables"]
        is_owner = function == "Migrate"
        assert ("OwnerSecretArn" in json.dumps(variables)) == is_owner
        assert ("OwnerSecretArn" in json.dumps(statements(stack(given), function))) == is_owner
        assert variables["DB_IAM_AUTH"] == ("false" if is_owner else "true")
        assert ("DB_APP_USER" in variables) == is_owner
    assert "arn:aws:secretsmanager:owner" in json.dumps(statements(stack(WITH_OWNER), "Migrate"))
    assert "arn:aws:secretsmanager:owner" not in json.dumps(statements(stack(WITH_OWNER), "Verify"))


@pytest.mark.parametrize("given", DEPLOYMENTS)
def test_every_function_is_the_owner_only_where_that_was_asked_for(given: dict[str, str]) -> None:
    def signs_in(function: str) -> list[Any]:
        variables = functions(stack(given))[function]["Environment"]["Variables"]
        return [variables[name] for name in ("DB_USER", "DB_IAM_AUTH", "DB_SECRET_ARN")]

    [others] = {json.dumps(signs_in(name)) for name in set(functions(stack(given))) - WITHOUT_DATABASE - {"Migrate"}}
    admits = functions(stack(given))["Migrate"]["Environment"]["Variables"]["DB_APP_USER"]
    is_single = given.get("SingleDatabaseRole") == "true"
    assert (json.dumps(signs_in("Migrate")) == others) == is_single
    assert admits == ("" if is_single else "dedup_app")


@pytest.mark.parametrize("given", DEPLOYMENTS)
def test_deployment_that_is_known_is_not_refused(given: dict[str, str]) -> None:
    assert stack(given).refused == []


@pytest.mark.parametrize("given", [IAM_DATABASE, SECRET_DATABASE])
def test_database_without_an_owner_of_its_own_is_refused(given: dict[str, str]) -> None:
    [refusal] = stack(given).refused
    assert "DatabaseOwnerSecretArn" in refusal
    assert "SingleDatabaseRole" in refusal


def test_database_that_is_not_named_is_refused() -> None:
    assert len(stack({}).refused) == 3


@pytest.mark.parametrize("given", DEPLOYMENTS)
def test_no_function_is_told_a_password(given: dict[str, str]) -> None:
    powertools = {"POWERTOOLS_LOG_LEVEL", "POWERTOOLS_SERVICE_NAME"}
    known = {name.upper() for name in Settings.model_fields} | {"ALLOWED_ORIGINS"} | powertools
    for properties in functions(stack(given)).values():
        variables = properties["Environment"]["Variables"]
        assert set(variables) <= known
        assert "DB_PASSWORD" not in variables


# What is kept, and how


def test_bucket_is_closed_encrypted_versioned_and_emptied() -> None:
    bucket = stack().of("AWS::S3::Bucket")["Bucket"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    rules = {rule["Id"]: rule for rule in bucket["LifecycleConfiguration"]["Rules"]}
    assert {rules[name]["Prefix"] for name in ("incoming", "rejected", "exports")} == {
        "incoming/",
        "rejected/",
        "exports/",
    }
    assert rules["exports"]["ExpirationInDays"] == EXPORT_DAYS
    assert (rules["jobs"]["Prefix"], rules["jobs"]["ExpirationInDays"]) == ("jobs/", JOB_DAYS)
    assert rules["incoming"]["ExpirationInDays"] == rules["rejected"]["ExpirationInDays"] == "30"
    assert {"NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"} <= set(rules["leftovers"])


def test_rejected_rows_are_forgotten_after_their_objects() -> None:
    given = OWN_DATABASE | {"FileRetentionDays": "5"}
    rules = {r["Id"]: r for r in stack(given).of("AWS::S3::Bucket")["Bucket"]["LifecycleConfiguration"]["Rules"]}
    days = functions(stack(given))["Sweep"]["Environment"]["Variables"]["FILE_RETENTION_DAYS"]
    assert days == rules["rejected"]["ExpirationInDays"] == "5"
    # The rules are applied once a day, and count from the next midnight.
    assert rules["leftovers"]["NoncurrentVersionExpiration"]["NoncurrentDays"] + 2 <= LINGER_DAYS


def test_bucket_and_queues_are_reached_by_tls_alone() -> None:
    policies = [*stack().of("AWS::S3::BucketPolicy").values(), *stack().of("AWS::SQS::QueuePolicy").values()]
    covered = [json.dumps(queue) for policy in policies for queue in policy.get("Queues", [])]
    assert sorted(covered) == sorted(json.dumps({"Ref": name}) for name in stack().of("AWS::SQS::Queue"))
    for policy in policies:
        [tls] = [s for s in policy["PolicyDocument"]["Statement"] if s["Effect"] == "Deny"]
        assert tls["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        assert tls["Principal"] == "*"


def test_only_this_bucket_of_this_account_fills_the_queue() -> None:
    [allow] = [
        s
        for s in stack().of("AWS::SQS::QueuePolicy")["FilesQueuePolicy"]["PolicyDocument"]["Statement"]
        if s["Effect"] == "Allow"
    ]
    name = stack().of("AWS::S3::Bucket")["Bucket"]["BucketName"]
    assert name == f"dedup-uploads-{ACCOUNT}-{REGION}-dev"
    assert allow["Condition"] == {
        "ArnEquals": {"aws:SourceArn": f"arn:aws:s3:::{name}"},
        "StringEquals": {"aws:SourceAccount": ACCOUNT},
    }
    for function in ("App", "Ingest", "CreateUpload", "CreateSnapshot", "CreateUpsert", "ShowUpload", "ListUploads"):
        assert functions(stack())[function]["Environment"]["Variables"]["BUCKET"] == name
        assert all(name in r for a, rs in allowed(stack(), function).items() if a.startswith("s3:") for r in rs)


@pytest.mark.parametrize(
    ("name", "function", "at_once"),
    [("Files", "Ingest", "5"), ("Exports", "Export", 2), ("Matches", "Match", 2), ("Jobs", "RunJob", 2)],
)
def test_work_is_tried_three_times_and_then_kept(name: str, function: str, at_once: object) -> None:
    queues = stack().of("AWS::SQS::Queue")
    assert all(one["SqsManagedSseEnabled"] for one in queues.values())
    queue, dead = f"{name}Queue", f"{name}DeadLetterQueue"
    assert queues[queue]["RedrivePolicy"] == {
        "deadLetterTargetArn": {"Fn::GetAtt": f"{dead}.Arn"},
        "maxReceiveCount": 3,
    }
    assert queues[queue]["VisibilityTimeout"] == 6 * functions(stack())[function]["Timeout"]
    assert queues[dead]["MessageRetentionPeriod"] == 14 * 24 * 3600
    [mapping] = [
        mapping
        for mapping in stack().of("AWS::Lambda::EventSourceMapping").values()
        if mapping["EventSourceArn"] == {"Fn::GetAtt": f"{queue}.Arn"}
    ]
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": at_once}
    assert mapping["BatchSize"] == 1


def test_resolver_is_woken_at_once_and_its_failures_are_kept() -> None:
    queues, resolve = stack().of("AWS::SQS::Queue"), functions(stack())["Resolve"]
    queue = queues["ResolverQueue"]
    [mapping] = [
        mapping
        for mapping in stack().of("AWS::Lambda::EventSourceMapping").values()
        if mapping["EventSourceArn"] == {"Fn::GetAtt": "ResolverQueue.Arn"}
    ]
    tries = queue["RedrivePolicy"]["maxReceiveCount"]

    assert queue["RedrivePolicy"]["deadLetterTargetArn"] == {"Fn::GetAtt": "ResolverDeadLetterQueue.Arn"}
    assert queue["VisibilityTimeout"] == 6 * resolve["Timeout"]
    # Otherwise a message would expire before it is a dead letter.
    assert tries * queue["VisibilityTimeout"] < queue["MessageRetentionPeriod"] <= 6 * 3600
    assert mapping["BatchSize"] == 10
    assert "MaximumBatchingWindowInSeconds" not in mapping
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": 2}
    assert "ReservedConcurrentExecutions" not in resolve


def test_whoever_wakes_the_resolver_may() -> None:
    """The function's own code, or what it calls, does."""
    policy = {"Ref": "ResolverWakePolicy"}
    roles = {name: made["Role"]["Fn::GetAtt"].removesuffix(".Arn") for name, made in functions(stack()).items()}
    may = {name for name, role in roles.items() if policy in stack().resources[role]["Properties"]["ManagedPolicyArns"]}
    assert may == {*WAKING, "DeleteUpload", "EraseCustomer", "Ingest", "Match", "Resolve"}
    for function in may:
        assert '{"Fn::GetAtt": "ResolverQueue.Arn"}' in allowed(stack(), function)["sqs:SendMessage"]
    for properties in functions(stack()).values():
        assert properties["Environment"]["Variables"]["RESOLVER_QUEUE"] == {"Ref": "ResolverQueue"}
    # By the names of the folders.
    snake = {re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower() for name in may}
    calling = {
        path.parent.name for path in (ROOT / "functions").glob("*/*/app.py") if re.search(r"\bwake\(", path.read_text())
    }
    # The others do so in dedup.services.erasure and jobs.matching.runs.
    assert snake - calling == {"erase_customer", "match"}
    assert calling <= snake


def test_database_is_private_encrypted_and_not_lost() -> None:
    database = nested("database", {"MinCapacity": "0", "Proxy": "true", "SubnetIds": "a,b"})
    cluster = database.resources["Cluster"]
    assert cluster["DeletionPolicy"] == cluster["UpdateReplacePolicy"] == "Snapshot"
    properties = cluster["Properties"]
    for name in (
        "StorageEncrypted",
        "DeletionProtection",
        "ManageMasterUserPassword",
        "EnableIAMDatabaseAuthentication",
    ):
        assert properties[name] is True
    assert properties["ServerlessV2ScalingConfiguration"]["SecondsUntilAutoPause"] == 600
    assert database.of("AWS::RDS::DBInstance")["Instance"]["PubliclyAccessible"] is False
    assert (
        database.of("AWS::RDS::DBProxy")["DatabaseProxy"].items()
        >= {"RequireTLS": True, "DefaultAuthScheme": "IAM_AUTH"}.items()
    )
    parameters = database.of("AWS::RDS::DBClusterParameterGroup")["ClusterParameterGroup"]["Parameters"]
    assert parameters["rds.force_ssl"] == "1"
    assert parameters["log_error_verbosity"] == "terse"


def test_what_holds_state_outlives_the_stack_and_is_in_no_ones_way() -> None:
    bucket = stack().resources["Bucket"]
    # It has a name that the next creation needs.
    assert (bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")
    pool = nested("users").resources["UserPool"]
    # A creation that fails can't delete what is protected, and would be stuck.
    assert pool["Properties"]["DeletionProtection"] == "ACTIVE"
    assert (pool["DeletionPolicy"], pool["UpdateReplacePolicy"]) == ("Retain", "Retain")


@pytest.mark.parametrize("proxy", ["true", "false"])
def test_logs_of_the_database_and_its_proxy_have_groups_that_forget_before_them(proxy: str) -> None:
    given = {"MinCapacity": "0", "Proxy": proxy, "SubnetIds": "a,b", "LogRetentionDays": "7"}
    database = nested("database", given)
    groups = database.of("AWS::Logs::LogGroup")
    assert {name: group["RetentionInDays"] for name, group in groups.items()} == {
        "ClusterLogGroup": "7",
        "ProxyLogGroup": "7",
    }
    cluster = database.of("AWS::RDS::DBCluster")["Cluster"]
    assert cluster["EnableCloudwatchLogsExports"] == ["postgresql"]
    assert cluster["DBClusterIdentifier"] == {"Fn::Select": [4, {"Fn::Split": ["/", {"Ref": "ClusterLogGroup"}]}]}
    name = groups["ClusterLogGroup"]["LogGroupName"].split("/")[4]
    # RDS makes the letters of a name small, CloudWatch does not.
    assert re.fullmatch("dedup-[0-9a-f-]{36}", name)
    assert groups["ClusterLogGroup"]["LogGroupName"] == f"/aws/rds/cluster/{name}/postgresql"
    assert groups["ProxyLogGroup"]["LogGroupName"] == "/aws/rds/proxy/${Cluster}"
    for made in database.of("AWS::RDS::DBProxy").values():
        assert made["DBProxyName"] == {"Ref": "Cluster"}
        assert database.resources["DatabaseProxy"]["DependsOn"] == "ProxyLogGroup"


def test_standby_is_an_instance_like_the_first_one_and_made_after_it() -> None:
    given = {"MinCapacity": "0", "Proxy": "false", "SubnetIds": "a,b"}
    assert set(nested("database", given | {"Standby": "false"}).of("AWS::RDS::DBInstance")) == {"Instance"}
    database = nested("database", given | {"Standby": "true"})
    first, second = database.of("AWS::RDS::DBInstance").values()
    assert first == second
    assert database.resources["StandbyInstance"]["DependsOn"] == "Instance"


def test_zones_are_the_regions_first_two_unless_they_are_named() -> None:
    def zones(named: str) -> list[Any]:
        subnets = nested("network", {"Zones": named}).of("AWS::EC2::Subnet").values()
        return [subnet["AvailabilityZone"] for subnet in subnets]

    assert zones("") == [{"Fn::Select": [n, {"Fn::GetAZs": ""}]} for n in (0, 1)]
    assert zones("us-east-1b,us-east-1c") == ["us-east-1b", "us-east-1c"]


@pytest.mark.parametrize(("memory", "engine"), [("3008", "1800MB"), ("8192", "5GB"), ("10240", "6500MB")])
def test_matching_takes_what_its_function_has(memory: str, engine: str) -> None:
    for name in ("Match", "Resolve"):
        function = functions(stack(OWN_DATABASE | {"MatchMemory": memory}))[name]
        assert function["MemorySize"] == memory
        assert function["Environment"]["Variables"]["MATCH_MEMORY"] == engine


def test_database_without_a_proxy_has_none() -> None:
    database = nested("database", {"MinCapacity": "0", "Proxy": "false", "SubnetIds": "a,b"})
    assert not {"AWS::RDS::DBProxy", "AWS::RDS::DBProxyTargetGroup"} & {r["Type"] for r in database.resources.values()}


def test_endpoint_of_the_bucket_lets_through_what_the_functions_may_do() -> None:
    statements = nested("network").of("AWS::EC2::VPCEndpoint")["S3Endpoint"]["PolicyDocument"]["Statement"]
    through = {action for statement in statements for action in as_list(statement["Action"])}
    used = {action for function in functions(stack(BATCH)) for action in allowed(stack(BATCH), function)}
    assert {action for action in used if action.startswith("s3:")} == through


def test_network_has_no_way_out_but_the_endpoints_that_the_code_calls() -> None:
    network = nested("network")
    kinds = {resource["Type"] for resource in network.resources.values()}
    assert not kinds & {"AWS::EC2::InternetGateway", "AWS::EC2::NatGateway", "AWS::EC2::Route"}
    endpoints = network.of("AWS::EC2::VPCEndpoint").values()
    assert {endpoint["ServiceName"].rsplit(".", 1)[1] for endpoint in endpoints} == {
        "s3",
        "secretsmanager",
        "events",
        "sqs",
    }
    assert all(endpoint["PolicyDocument"] for endpoint in endpoints)
    starts_jobs = nested("network", {"Batch": "true"})
    assert set(starts_jobs.resources) - set(network.resources) == {"EmrServerlessEndpoint"}
    for group in network.of("AWS::EC2::SecurityGroup").values():
        assert "CidrIp" not in json.dumps(group.get("SecurityGroupIngress", []))


def test_job_on_spark_reads_what_arrived_and_writes_its_results_alone() -> None:
    made = nested("batch", {"Bucket": "b"})
    [application] = made.of("AWS::EMRServerless::Application").values()
    assert application["AutoStopConfiguration"]["Enabled"]
    assert application["MonitoringConfiguration"]["CloudWatchLoggingConfiguration"]["Enabled"]
    role = made.of("AWS::IAM::Role")["JobRole"]
    [trusts] = role["AssumeRolePolicyDocument"]["Statement"]
    assert trusts["Principal"] == {"Service": "emr-serverless.amazonaws.com"}
    assert trusts["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    may: dict[str, set[str]] = {}
    for statement in role["Policies"][0]["PolicyDocument"]["Statement"]:
        for action in as_list(statement["Action"]):
            may.setdefault(action, set()).update(map(json.dumps, as_list(statement["Resource"])))
    below = {prefix: f'"arn:aws:s3:::b/{prefix}/*"' for prefix in ("incoming", "code", "jobs")}
    assert may["s3:GetObject"] == set(below.values())
    assert may["s3:PutObject"] == may["s3:DeleteObject"] == {below["jobs"]}
    assert {action for action in may if '"*"' in may[action]} == {"logs:DescribeLogGroups"}


def test_there_is_no_spark_unless_it_is_asked_for() -> None:
    assert "BatchStack" not in stack().resources
    for function in ("CreateJob", "RunJob", "ShowJob", "Match"):
        assert functions(stack())[function]["Environment"]["Variables"]["BATCH_APPLICATION"] == ""
        assert functions(stack(BATCH))[function]["Environment"]["Variables"]["BATCH_APPLICATION"]


def test_bundled_roots_are_of_rds_and_in_date() -> None:
    from cryptography import x509

    roots = x509.load_pem_x509_certificates((ROOT / "layers" / "dedup" / "store" / "rds-roots.pem").read_bytes())
    assert len(roots) >= 81
    for root in roots:
        assert "Amazon RDS" in root.subject.rfc4514_string()
        assert root.not_valid_after_utc.year > 2060
        root.verify_directly_issued_by(root)


# What is seen


def test_every_function_logs_to_a_group_that_forgets() -> None:
    groups = stack().of("AWS::Logs::LogGroup")
    assert {name: group["RetentionInDays"] for name, group in groups.items()} == {
        "FunctionLogGroup": "30",
        "AccessLogGroup": "30",
    }
    assert groups["FunctionLogGroup"]["LogGroupName"] == "/aws/lambda/dedup"
    for function, properties in functions(stack(COGNITO)).items():
        assert properties["LoggingConfig"] == {"LogGroup": {"Ref": "FunctionLogGroup"}, "LogFormat": "JSON"}
        assert allowed(stack(COGNITO), function)["logs:PutLogEvents"] == {'{"Fn::GetAtt": "FunctionLogGroup.Arn"}'}


def test_every_function_is_traced_without_the_sdk() -> None:
    assert all(properties["TracingConfig"] == {"Mode": "Active"} for properties in functions(stack()).values())
    assert stack().of("AWS::ApiGateway::Stage")["ApiliveStage"]["TracingEnabled"] is True
    assert "xray" not in (ROOT / "layers" / "requirements.txt").read_text()


def test_alarms_notify_the_topic() -> None:
    observability = nested("observability", {"AlarmEmail": "ops@example.com", "Cluster": "c"})
    alarms = observability.of("AWS::CloudWatch::Alarm")
    assert all(alarm["AlarmActions"] == [{"Ref": "AlarmTopic"}] for alarm in alarms.values())
    watched = {(alarm["Namespace"], alarm["MetricName"]) for alarm in alarms.values() if "MetricName" in alarm}
    assert watched == {
        ("AWS/ApiGateway", "5XXError"),
        ("AWS/ApiGateway", "Latency"),
        ("AWS/Lambda", "Throttles"),
        ("AWS/RDS", "ACUUtilization"),
        ("AWS/RDS", "DatabaseConnections"),
        ("AWS/SQS", "ApproximateAgeOfOldestMessage"),
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible"),
        ("Dedup", "ThrottledRequests-<Environment>"),
        ("Dedup", "UnresolvedSeconds"),
        ("Dedup", "UploadsHeld"),
    }
    jobs = [metric["MetricStat"]["Metric"] for metric in alarms["JobErrorsAlarm"]["Metrics"] if "MetricStat" in metric]
    assert {(metric["MetricName"], metric["Dimensions"][0]["Value"]) for metric in jobs} == {
        ("Errors", "<Export>"),
        ("Errors", "<Resolve>"),
        ("Errors", "<RunJob>"),
        ("Errors", "<Ingest>"),
        ("Errors", "<Match>"),
        ("Errors", "<Migrate>"),
        ("Errors", "<Sweep>"),
        ("Errors", "<Verify>"),
        ("FailedMessages", "<ApiName>"),
    }
    assert alarms["LatencyAlarm"]["ExtendedStatistic"] == "p99"
    assert observability.of("AWS::SNS::Subscription")["EmailSubscription"]["Endpoint"] == "ops@example.com"


def test_every_queue_of_dead_letters_has_an_alarm() -> None:
    alarms = nested("observability").of("AWS::CloudWatch::Alarm").values()
    given = stack().of("AWS::CloudFormation::Stack")["ObservabilityStack"]["Parameters"]
    watched = [
        given[alarm["Dimensions"][0]["Value"].strip("<>")]["Fn::GetAtt"]
        for alarm in alarms
        if alarm.get("MetricName") == "ApproximateNumberOfMessagesVisible" and alarm["Threshold"] == 1
    ]
    dead = [name for name in stack().of("AWS::SQS::Queue") if name.endswith("DeadLetterQueue")]
    assert sorted(watched) == [f"{name}.QueueName" for name in sorted(dead)]


def test_every_queue_of_dead_letters_is_an_output() -> None:
    dead = {name for name in stack().of("AWS::SQS::Queue") if name.endswith("DeadLetterQueue")}
    outputs = source()["Outputs"]
    assert {name for name in outputs if name.endswith("DeadLetterQueue")} == dead
    assert all(outputs[name]["Value"] == {"Ref": name} for name in dead)


def test_dashboard_shows_what_the_functions_measure() -> None:
    [dashboard] = nested("observability", {"AlarmEmail": "", "Cluster": ""}).of("AWS::CloudWatch::Dashboard").values()
    shown = {
        cell
        for w in json.loads(dashboard["DashboardBody"])["widgets"]
        for m in w["properties"]["metrics"]
        for cell in m
        if isinstance(cell, str)
    }
    assert "" not in shown
    uploads = {"RecordsAccepted", "RecordsRejected", "UploadSeconds", "Customers", "Duplicates"}
    assert uploads | {"FailedMessages", "ResolvedRecords", "UnresolvedSeconds"} <= shown


def test_metrics_of_two_stacks_are_told_apart() -> None:
    assert {
        properties["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"] for properties in functions(stack()).values()
    } == {"dedup"}
    [dashboard] = (
        nested("observability", {"AlarmEmail": "", "Cluster": "", "ApiName": "this-stack"})
        .of("AWS::CloudWatch::Dashboard")
        .values()
    )
    ours = [
        m
        for w in json.loads(dashboard["DashboardBody"])["widgets"]
        for m in w["properties"]["metrics"]
        if "service" in m
    ]
    assert {metric[metric.index("service") + 1] for metric in ours} == {"this-stack"}


# How it changes


def test_caller_hears_the_reason_from_whoever_knows_it_best() -> None:
    for function, properties in functions(stack(COGNITO)).items():
        if function == "Scopes":
            continue
        default = Settings.model_fields["db_statement_timeout"].default
        statement = float(properties["Environment"]["Variables"].get("DB_STATEMENT_TIMEOUT", default))
        sock = statement + 2
        assert statement < sock < properties["Timeout"] < (29 if function not in JOBS else 901), function


def test_jobs_go_past_the_proxy_and_the_others_may() -> None:
    def sign_in(output: str) -> str:
        return f"arn:aws:rds-db:{REGION}:{ACCOUNT}:dbuser:{json.dumps({'Fn::GetAtt': output})}/dedup_app"

    direct, by_proxy = sign_in("DatabaseStack.Outputs.DirectResourceId"), sign_in("DatabaseStack.Outputs.ResourceId")
    for function, properties in functions(stack()).items():
        host = json.dumps(properties["Environment"]["Variables"]["DB_HOST"])
        assert ("DirectHost" in host) == (function in JOBS), function
        # Others' versions from before there was a proxy still go past it when there is one.
        may = {direct} if function in JOBS else {direct, by_proxy}
        if function in WITHOUT_DATABASE | {"Migrate"}:
            may = set()
        assert allowed(stack(), function).get("rds-db:connect", set()) == may, function


def test_tables_are_new_before_the_functions_are() -> None:
    migration = stack().resources["Migration"]["Properties"]
    [layer] = stack().of("AWS::Lambda::LayerVersion")
    assert migration["ServiceToken"] == {"Fn::GetAtt": "Migrate.Arn"}
    # Another layer is another value, and that is what makes CloudFormation ask again.
    assert migration["Layer"] == {"Ref": layer}
    owner = stack(WITH_OWNER).resources["Migration"]["Properties"]
    variables = functions(stack(WITH_OWNER))["Migrate"]["Environment"]["Variables"]
    told = {
        "Host": "DB_HOST",
        "Port": "DB_PORT",
        "Name": "DB_NAME",
        "User": "DB_APP_USER",
        "ByIam": "DB_APP_IAM_AUTH",
        "OwnerSecret": "DB_SECRET_ARN",
    }
    assert {name: owner[name] for name in told} == {name: variables[of] for name, of in told.items()}
    assert migration["Host"] == {"Fn::GetAtt": "DatabaseStack.Outputs.DirectHost"}
    for function in functions(stack(COGNITO)):
        waits = stack(COGNITO).resources[function].get("DependsOn") == "Migration"
        assert waits == (function not in WITHOUT_DATABASE | {"Migrate"}), function


def test_migration_that_failed_is_not_tried_again_behind_the_stack() -> None:
    [once] = stack().of("AWS::Lambda::EventInvokeConfig").values()
    assert once == {"FunctionName": {"Ref": "Migrate"}, "Qualifier": "$LATEST", "MaximumRetryAttempts": 0}


def test_api_gateway_takes_its_role_in_an_account_that_never_used_it() -> None:
    assert stack().resources["ApiGatewayAccount"]["DependsOn"] == "BootstrapApiKey"
    assert "ApiGatewayAccount" in as_list(stack().resources["Api"]["DependsOn"])
    assert stack().of("AWS::ApiGateway::ApiKey")["BootstrapApiKey"]["Enabled"] is False
    assert "BootstrapApiKey" not in stack(OWN_DATABASE | {"ApiGatewayLogRole": "false"}).resources


CANARY = OWN_DATABASE | {"Deployment": "Canary10Percent5Minutes"}


@pytest.mark.parametrize(
    ("given", "rate"),
    [
        (OWN_DATABASE, "rate(5 minutes)"),
        (OWN_DATABASE | {"DatabaseProxy": "false"}, "rate(6 hours)"),
        (OWN_DATABASE | {"DatabaseProxy": "false", "DatabaseMinCapacity": "0.5"}, "rate(5 minutes)"),
        (BY_IAM, "rate(5 minutes)"),
    ],
)
def test_schedules_for_lost_messages_do_not_keep_the_database_awake(given: dict[str, str], rate: str) -> None:
    rules = {
        target["Arn"]["Ref"]: rule["ScheduleExpression"]
        for rule in stack(given).of("AWS::Events::Rule").values()
        for target in rule["Targets"]
    }
    pauses = rate == "rate(6 hours)"
    assert rules == {"SweepAliaslive": rate, "ResolveAliaslive": rate if pauses else "rate(1 minute)"}


def test_every_kind_of_task_has_its_queue_and_patience_outlasts_what_queues_do() -> None:
    variables = functions(stack())["Sweep"]["Environment"]["Variables"]
    queues = {
        name: queue
        for name, queue in stack().of("AWS::SQS::Queue").items()
        if not name.endswith("DeadLetterQueue") and name != "ResolverQueue"
    }
    given = {setting: variables[setting.upper()]["Ref"] for setting in set(tasks.QUEUES.values())}
    assert sorted(given.values()) == sorted(queues)
    assert set(tasks.QUEUES) == {outbox.kind for outbox in KINDS}
    for queue in queues.values():
        assert queue["VisibilityTimeout"] + FIRST_RETRY_SECONDS < tasks.PATIENCE


def test_traffic_moves_back_on_an_alarm() -> None:
    groups = stack(CANARY).of("AWS::CodeDeploy::DeploymentGroup")
    assert len(groups) == len(functions(stack())) - len({"Migrate", "Verify"})
    for group in groups.values():
        assert group["AutoRollbackConfiguration"]["Enabled"]
        assert len(group["AlarmConfiguration"]["Alarms"]) == 2
    for name, alias in stack().resources.items():
        if alias["Type"] == "AWS::Lambda::Alias" and not name.startswith(("Migrate", "Verify")):
            assert "CodeDeployLambdaAliasUpdate" in alias["UpdatePolicy"], name


def test_what_mends_a_red_alarm_is_not_kept_from_it_by_the_alarm() -> None:
    groups = stack(OWN_DATABASE | {"Deployment": "AllAtOnce"}).of("AWS::CodeDeploy::DeploymentGroup")
    assert all(not group["AlarmConfiguration"] for group in groups.values())


def versions(parsed: dict[str, Any], **given: str) -> set[str]:
    return set(Stack(transformed(parsed, OWN_DATABASE | given), OWN_DATABASE).of("AWS::Lambda::Version"))


def test_change_of_the_layer_publishes_every_function() -> None:
    changed = source()
    changed["Resources"]["Layer"]["Properties"]["ContentUri"] = "s3://bucket/other"
    # One in an image has the layer's package in it.
    assert {re.sub("Version.*", "", name) for name in versions(changed) & versions(source())} == {
        "Export",
        "Match",
        "Resolve",
    }


def test_new_revision_publishes_every_function() -> None:
    assert not versions(source(), Revision="1700000000abc") & versions(source(), Revision="1700000001abc")
    assert versions(source(), Revision="1700000000abc") == versions(source(), Revision="1700000000abc")


def test_what_is_deployed_is_built_as_it_was_tested() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yaml").read_text()
    jobs = read_template(ROOT / ".github" / "workflows" / "ci.yaml")["jobs"]
    assert source()["Parameters"]["Architecture"]["Default"] == "arm64"
    assert {job["runs-on"] for job in jobs.values()} == {"ubuntu-24.04-arm"}
    used = re.findall(r"uses: \S+?@(\S+)", text)
    assert used
    assert all(re.fullmatch("[0-9a-f]{40}", commit) for commit in used)


def test_every_environment_gives_parameters_that_the_template_has() -> None:
    import tomllib

    config = tomllib.loads((ROOT / "samconfig.toml").read_text())
    parameters = source()["Parameters"]
    # Without a place to push the functions' images to, sam deploy refuses.
    assert all(config[name]["deploy"]["parameters"]["resolve_image_repos"] for name in ("default", "dev", "prod"))
    for environment in ("dev", "prod"):
        deploy = config[environment]["deploy"]["parameters"]
        given = dict(entry.split("=", 1) for entry in deploy["parameter_overrides"] if not entry.startswith("file://"))
        assert given["Environment"] == environment
        assert stack(given).refused == []
        for name, value in given.items():
            assert value in [str(v) for v in parameters[name].get("AllowedValues", [value])]


def test_production_asks_before_everything_is_deleted() -> None:
    import tomllib

    config = tomllib.loads((ROOT / "samconfig.toml").read_text())
    assert "ConfirmClear=true" in config["prod"]["deploy"]["parameters"]["parameter_overrides"]
    assert source()["Resources"]["Clear"]["Properties"]["Environment"]["Variables"]["CLEAR_CONFIRM"] == {
        "Ref": "ConfirmClear"
    }
