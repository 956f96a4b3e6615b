//! Parts of paths: percent-decoded exactly once, by the router, after routing. So `%2F` is part of a name, `%252F` is
//! the name `%2F`, and no decoded dot or slash ever changes which route a request takes.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::codes::Code;
use crate::problem::Problem;

/// The named parts of the path, decoded.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

impl<T, S> FromRequestParts<S> for Path<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(parts)) => Ok(Self(parts)),
            Err(rejection) => Err(Problem::new(Code::BadPath, rejection.body_text())),
        }
    }
}
