//! The routes that answer questions.

use utoipa_axum::router::OpenApiRouter;

use crate::state::AppState;

/// Routes that need the scope `read`.
pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
}

/// Routes that need the scope `admin`.
pub(crate) fn admin_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
}
