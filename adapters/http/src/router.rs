//! All routes: where they are mounted, what they need, how they are described.

use axum::Router;
use axum::middleware::from_fn_with_state;
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{self, RefOr, Required};
use utoipa_axum::router::OpenApiRouter;

use crate::state::AppState;
use crate::tokens::Scope;
use crate::{gate, ingest, maintenance, problem, reads, status, writes};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Modelog",
        description = "The event log for machine-learning models: events in, answers out. \
                       Names in paths are percent-encoded (`/` as `%2F`); with `?by=id` they are ids. \
                       Errors are RFC 9457 problem JSON.",
    ),
    tags(
        (name = "events", description = "Appending events of any kind."),
        (name = "write", description = "The unified API: one call for each kind of fact."),
        (name = "read", description = "Answers from the store, as fresh as asked for."),
        (name = "admin", description = "Operating the server."),
    )
)]
struct Description;

/// The routes with their descriptions; each group behind the scope it needs.
fn described() -> OpenApiRouter<AppState> {
    let needs = |routes: OpenApiRouter<AppState>, scope: Scope| {
        routes.route_layer(from_fn_with_state(scope, gate::need))
    };
    OpenApiRouter::with_openapi(Description::openapi())
        .merge(status::open_routes())
        .merge(needs(
            ingest::routes().merge(writes::routes()),
            Scope::Ingest,
        ))
        .merge(needs(
            reads::routes().merge(status::read_routes()),
            Scope::Read,
        ))
        .merge(needs(
            reads::admin_routes().merge(maintenance::routes()),
            Scope::Admin,
        ))
}

/// The service behind every connection.
pub(crate) fn service(state: AppState) -> Router {
    let (router, _) = described().split_for_parts();
    router
        .method_not_allowed_fallback(problem::method_not_allowed)
        .fallback(problem::no_such_route)
        .layer(from_fn_with_state(state.clone(), gate::pass))
        .with_state(state)
}

/// The OpenAPI description of every route, as JSON.
///
/// # Panics
/// Never: a description has a JSON form.
#[must_use]
pub fn openapi() -> String {
    let mut api = described().into_openapi();
    writes::add_schemas(&mut api);
    env!("CARGO_PKG_VERSION").clone_into(&mut api.info.version);
    for operation in operations(&mut api) {
        describe_answers(operation);
        describe_body(operation);
    }
    let bearer = SecurityScheme::Http(
        HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("Needed if the server has a token file."))
            .build(),
    );
    api.components
        .get_or_insert_default()
        .add_security_scheme("token", bearer);
    // Either is enough: without a token file no token is needed.
    api.security = Some(vec![
        SecurityRequirement::default(),
        SecurityRequirement::new("token", [""; 0]),
    ]);
    api.to_pretty_json().expect("a description has a JSON form")
}

fn operations(api: &mut openapi::OpenApi) -> impl Iterator<Item = &mut Operation> {
    api.paths.paths.values_mut().flat_map(|path| {
        let methods = [
            &mut path.get,
            &mut path.put,
            &mut path.post,
            &mut path.delete,
            &mut path.patch,
        ];
        methods.into_iter().flatten()
    })
}

/// Gives every answer the description that OpenAPI asks for: where its route has none, what the route does.
fn describe_answers(operation: &mut Operation) {
    let summary = operation.summary.as_deref().unwrap_or_default();
    for answer in operation.responses.responses.values_mut() {
        if let RefOr::T(answer) = answer
            && answer.description.is_empty()
        {
            summary.clone_into(&mut answer.description);
        }
    }
}

/// A body is needed where one is described, save where the route is named here. OpenAPI presumes the contrary.
fn describe_body(operation: &mut Operation) {
    let needed = operation.operation_id.as_deref() != Some("finish_run");
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        let required = if needed {
            Required::True
        } else {
            Required::False
        };
        body.required = Some(required);
    }
}
