//! The decoder panics on some damage that no checksum covers; a file must not end the process.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a decoder that is not used again after a panic; answers what the panic said.
pub(crate) fn caught<T>(decode: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(decode)).map_err(|panic| said(&*panic))
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no reason given");
    format!("the decoder gave up: {text}")
}
