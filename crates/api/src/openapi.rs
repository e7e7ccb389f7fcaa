//! The OpenAPI document: what the routes say of themselves, and what holds for all of them.

use axum::http::Method;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ContentBuilder, Info, License, OpenApi, Ref, RefOr, ResponseBuilder, Server,
        extensions::Extensions,
        path::{Operation, ParameterIn, PathItem},
        schema::{AnyOfBuilder, Object, Schema, SchemaType, Type},
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
        tag::TagBuilder,
    },
};

use crate::{
    error::{BudgetNumbers, ErrorBody, FieldError},
    scopes,
};

const DESCRIPTION: &str = "\
Agents (the brain), environments (the computer), skills (the tools), threads (the work). Every route is served at `/` and \
at `/v1`. Send an API key as `Authorization: Bearer KEY` or as `X-API-Key: KEY`. Bodies are JSON whatever `Content-Type` \
says, an empty body is `{}`, unknown keys are ignored, and in a PATCH an absent field is left alone while `null` clears it. \
Every failure is a JSON object with `error`, `message` and, where more is to be told, `code` and `details`. What a key must \
be allowed is the scope in `x-required-scope`.";

const TAGS: [(&str, &str); 14] = [
    ("agents", "Stored instructions, a model and skills."),
    ("skills", "Texts with files that agents read when they need them, and tools that are switched on by name."),
    (
        "environments",
        "Stored descriptions of computers. Each has a workspace of files, and a container while it is used.",
    ),
    ("files", "The files of an environment, whether its container runs or not."),
    ("git", "The repositories of an environment. Git runs in its container, which is started for it."),
    ("threads", "Conversations. A message starts a run, whose events are streamed."),
    ("schedules", "Work that starts by itself, at the moments of a calendar."),
    ("triggers", "Work that starts when somebody else tells of an event, by a signed webhook."),
    ("webhooks", "What others are told of, by signed requests to URLs of theirs."),
    ("projects", "The owners of everything. A key opens one."),
    ("costs", "What was spent, and what may be."),
    ("keys", "API keys, and what they may do."),
    ("admin", "The keys and the log of a whole organization. Needs a key with the scope `admin`."),
    ("system", "The server itself. No key is needed."),
];

/// Failures that any route with a key may answer with.
const COMMON_FAILURES: [(&str, &str); 6] = [
    ("400", "Something about the request is wrong; `message` says what"),
    ("401", "The API key is missing or not valid"),
    ("403", "The API key may not do this; `message` names the scope that it lacks"),
    ("429", "Too many requests; `Retry-After` says when to try again"),
    ("500", "A fault of the server; its log says more"),
    ("503", "The server cannot work right now; `Retry-After` says when to try again"),
];

/// Failures that any route of an area may answer with beside these.
const FAILURES_BY_TAG: [(&str, &[(&str, &str)]); 3] = [
    ("costs", &[("404", "What is asked about is not in this project")]),
    (
        "files",
        &[
            ("404", "There is no such environment, or nothing at the path"),
            ("409", "Something else is at the path; `message` says what"),
            ("413", "The file is larger than the server takes"),
            ("507", "The disk is full, or the environment takes as much of it as it may"),
        ],
    ),
    ("git", &[("409", "It is no repository, or git refuses; `message` says why")]),
];

/// Joins the documents of the routes without a key and of those with one.
pub(crate) fn document(mut open: OpenApi, mut keyed: OpenApi) -> OpenApi {
    for (path, item) in &mut keyed.paths.paths {
        for (method, operation) in with_methods(item) {
            // A route without a scope is open to nobody; a test finds it.
            let Some(scope) = scopes::required(&method, path) else { continue };
            operation.security = Some(vec![
                SecurityRequirement::new("bearer", [scope.as_str()]),
                SecurityRequirement::new("apiKey", [scope.as_str()]),
            ]);
            operation.extensions = Some(Extensions::from_iter([("x-required-scope", scope.as_str())]));
        }
    }
    for operation in keyed.paths.paths.values_mut().flat_map(operations) {
        for (status, description) in COMMON_FAILURES {
            let responses = &mut operation.responses.responses;
            responses.entry(status.to_owned()).or_insert_with(|| failure(description));
        }
        // An operation with a part of the path in it can name what is not there.
        let has_path =
            operation.parameters.iter().flatten().any(
                |parameter| matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Path),
            );
        if has_path {
            let responses = &mut operation.responses.responses;
            responses.entry("404".to_owned()).or_insert_with(|| failure("There is no such thing in this project"));
        }
        for (tag, failures) in FAILURES_BY_TAG {
            if operation.tags.iter().flatten().any(|of_operation| of_operation == tag) {
                for (status, description) in failures {
                    let responses = &mut operation.responses.responses;
                    responses.entry((*status).to_owned()).or_insert_with(|| failure(description));
                }
            }
        }
    }
    for operation in open.paths.paths.values_mut().flat_map(operations) {
        // An empty requirement: none is needed, and a key does no harm.
        operation.security = Some(vec![SecurityRequirement::default()]);
    }
    open.merge(keyed);
    // Routers write the rest of a path as `{*path}`; in OpenAPI it is a parameter like others.
    let paths = std::mem::take(&mut open.paths.paths);
    open.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    open.info = Info::builder()
        .title("Atelier")
        .description(Some(DESCRIPTION))
        .version(env!("CARGO_PKG_VERSION"))
        .license(Some(License::builder().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .build();
    open.servers = Some(vec![Server::new("/v1"), Server::new("/")]);
    open.tags = Some(TAGS.map(|(name, text)| TagBuilder::new().name(name).description(Some(text)).build()).into());
    open.security = Some(vec![
        SecurityRequirement::new("bearer", Vec::<String>::new()),
        SecurityRequirement::new("apiKey", Vec::<String>::new()),
    ]);
    let components = open.components.get_or_insert_default();
    components.schemas.insert(ErrorBody::name().into_owned(), ErrorBody::schema());
    components.schemas.insert(FieldError::name().into_owned(), FieldError::schema());
    components.schemas.insert(BudgetNumbers::name().into_owned(), BudgetNumbers::schema());
    components.schemas.values_mut().for_each(allow_absence);
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API key")).build();
    components.security_schemes.insert("bearer".to_owned(), RefOr::T(SecurityScheme::Http(bearer)));
    let header = ApiKey::Header(ApiKeyValue::new("X-API-Key"));
    components.security_schemes.insert("apiKey".to_owned(), RefOr::T(SecurityScheme::ApiKey(header)));
    open
}

/// Says of the flattened optional parts of objects that they may be absent. The derived schemas say that they may be null,
/// which a part of an object never is.
fn allow_absence(schema: &mut RefOr<Schema>) {
    let RefOr::T(schema) = schema else { return };
    match schema {
        Schema::AllOf(all) => {
            for item in &mut all.items {
                if let RefOr::T(Schema::OneOf(one)) = item
                    && one.items.iter().any(is_null)
                {
                    let present = std::mem::take(&mut one.items).into_iter().filter(|item| !is_null(item));
                    let absent = RefOr::T(Schema::Object(Object::new()));
                    let any = present.chain([absent]).fold(AnyOfBuilder::new(), AnyOfBuilder::item);
                    *item = RefOr::T(Schema::AnyOf(any.build()));
                }
                allow_absence(item);
            }
        }
        Schema::OneOf(one) => one.items.iter_mut().for_each(allow_absence),
        Schema::Object(object) => object.properties.values_mut().for_each(allow_absence),
        _ => {}
    }
}

fn is_null(schema: &RefOr<Schema>) -> bool {
    matches!(schema, RefOr::T(Schema::Object(object)) if object.schema_type == SchemaType::Type(Type::Null))
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    with_methods(item).map(|(_, operation)| operation)
}

fn with_methods(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let all = [
        (Method::GET, &mut item.get),
        (Method::PUT, &mut item.put),
        (Method::POST, &mut item.post),
        (Method::PATCH, &mut item.patch),
        (Method::DELETE, &mut item.delete),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

fn failure(description: &str) -> RefOr<utoipa::openapi::Response> {
    let body = ContentBuilder::new().schema(Some(Ref::from_schema_name(ErrorBody::name()))).build();
    RefOr::T(ResponseBuilder::new().description(description).content("application/json", body).build())
}
